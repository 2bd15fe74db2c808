/** Schemas of WaveSpeed's requests and answers: the first read what comes, all of them describe the API (sheet wavespeed.md, sections 3 to 7). */
import { type AnswerDescription, instant, wholeNumberText } from '@claimcheck/core';
import { z } from 'zod';

export const PAGE_SIZE_DEFAULT = 20;
const PAGE_SIZE_MAX = 100;
/** More pages than can be reached; how many can depends on their size. */
const PAGE_MAX = 1_000_000;
/** Each may have files to remove. */
const DELETED_MAX = 100;

/** What a job can be told to be, and what else the vendor knows. */
export const STATUSES = ['created', 'processing', 'completed', 'failed', 'cancelled', 'timeout', 'deleted'] as const;

const PAGE_RULE = `a whole number from 1 to ${PAGE_MAX}`;
const SIZE_RULE = `a whole number from 1 to ${PAGE_SIZE_MAX}`;

function boundedInt(max: number, rule: string) {
  const error = `must be ${rule}`;
  return z.int({ error }).min(1, { error }).max(max, { error });
}

const filters = {
  model: z.string({ error: 'must be the name of a model' }).nullish(),
  status: z.enum(STATUSES, { error: `must be one of ${STATUSES.join(', ')}` }).nullish(),
  created_after: instant().nullish(),
  created_before: instant().nullish(),
};

export const listMembers = z.object({
  page: boundedInt(PAGE_MAX, PAGE_RULE).nullish(),
  page_size: boundedInt(PAGE_SIZE_MAX, SIZE_RULE).nullish(),
  ...filters,
});

export const listQuery = z.object({
  page: wholeNumberText({ min: 1, max: PAGE_MAX, rule: PAGE_RULE }).optional(),
  page_size: wholeNumberText({ min: 1, max: PAGE_SIZE_MAX, rule: SIZE_RULE }).optional(),
  ...filters,
});

export type ListValues = z.output<typeof listMembers>;

const IDS_ERROR = { error: `must be a list of up to ${DELETED_MAX} ids` };
export const deletionMembers = z.object({ ids: z.array(z.string(IDS_ERROR), IDS_ERROR).max(DELETED_MAX, IDS_ERROR) });

const SIZE_ERROR = { error: 'must be a whole number of bytes, 1 or more' };
const NAME_ERROR = { error: 'must be the name of the file' };
export const ticketMembers = z.object({
  filename: z.string(NAME_ERROR).min(1, NAME_ERROR),
  size: z.int(SIZE_ERROR).min(1, SIZE_ERROR).nullish().meta({ description: 'In bytes.' }),
  content_type: z.string({ error: 'must be a media type such as image/png' }).nullish(),
});
export type Ticket = z.output<typeof ticketMembers>;

const MODEL_ERROR = { error: 'must name a model' };
export const priceMembers = z.object({
  model_id: z.string(MODEL_ERROR).min(1, MODEL_ERROR),
  inputs: z.record(z.string(), z.unknown(), { error: "must be an object of the model's parameters" }).nullish(),
});

export const submissionQuery = z.object({
  webhook: z.string().optional().meta({ description: 'Where the end of the job is told.' }),
});

export const submissionHeaders = z.object({
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again; the vendor has no such header.' }),
});

export const submissionMembers = z.object({
  enable_sync_mode: z.boolean().optional().meta({ description: 'Answers when the job has ended, after 120 seconds at the latest.' }),
  enable_base64_output: z.boolean().optional().meta({ description: 'Puts the files themselves into answers about the job.' }),
  webhook_url: z.string().nullish().meta({ description: 'Where the end of the job is told; an address in the address line wins.' }),
});

export const predictionSchema = z
  .object({
    id: z.uuid(),
    model: z.string(),
    input: z.unknown().meta({ description: 'As handed in, with defaults.' }),
    outputs: z.array(z.unknown()).meta({ description: 'Addresses of files or bare base64, texts, and data; empty until completed.' }),
    urls: z.object({ get: z.url() }),
    has_nsfw_contents: z.array(z.boolean()).meta({ description: 'One per output.' }),
    status: z.enum(['created', 'processing', 'completed', 'failed']),
    created_at: z.iso.datetime(),
    error: z.string().meta({ description: 'Why it failed, or nothing.' }),
    code: z.int().meta({ description: 'The same as a number; 0 when nothing is wrong.' }),
    executionTime: z.int().min(0).meta({ description: 'Milliseconds of the newest attempt.' }),
    timings: z.object({ inference: z.int().min(0) }),
  })
  .meta({ id: 'WaveSpeedPrediction' });

export const listSchema = z.object({ page: z.int().min(1), items: z.array(predictionSchema) });
export const deletedSchema = z.object({ id: z.uuid(), status: z.literal('deleted') });
export const deletedManySchema = z.object({ deleted_count: z.int().min(0) });

export const fileSchema = z.object({
  type: z.enum(['image', 'video', 'audio', 'file']),
  download_url: z.url().meta({ description: 'What parameters name.' }),
  filename: z.string(),
  size: z.int().optional(),
});
export const ticketSchema = fileSchema.extend({
  upload: z.object({ method: z.literal('PUT'), url: z.url(), headers: z.record(z.string(), z.string()) }),
});
export const addressSchema = z.object({ url: z.url() });

export const modelsSchema = z.array(
  z
    .object({
      model_id: z.string(),
      name: z.string(),
      description: z.string(),
      type: z.string(),
      base_price: z.number().optional().meta({ description: 'US dollars.' }),
      api_schema: z.object({
        api_schemas: z.array(
          z.object({
            type: z.literal('model_run'),
            method: z.literal('POST'),
            server: z.url(),
            api_path: z.string(),
            request_schema: z.record(z.string(), z.unknown()),
          }),
        ),
      }),
    })
    .meta({ id: 'WaveSpeedModel' }),
);

export const priceSchema = z.object({
  model_id: z.string(),
  price: z.number(),
  discounted_price: z.number(),
  discount_rate: z.number(),
  currency: z.literal('USD'),
});
export const pricingSchema = z.object({ model_id: z.string(), unit_price: z.number(), currency: z.literal('USD') });
export const secretSchema = z.object({ secret: z.string() });

export const errorSchema = z
  .object({
    code: z.int().meta({ description: 'That of HTTP.' }),
    message: z.string(),
    error: z.string().meta({ description: 'The same again, for clients that look there.' }),
    error_code: z.string(),
    errors: z
      .array(z.object({ pointer: z.string(), message: z.string() }))
      .optional()
      .meta({ description: 'Everything that is wrong with the request.' }),
  })
  .meta({ id: 'WaveSpeedError' });

/** In the envelope of all answers. */
export function answered(description: string, data: z.ZodType): Readonly<Record<number, AnswerDescription>> {
  return { 200: { description, schema: z.object({ code: z.literal(200), message: z.literal('success'), data }) } };
}

/** Schemas of fal's answers (fal.md, sections 2, 3 and 5 to 9), for the description of the API. Tests hold real answers against them. */
import type { AnswerDescription } from '@claimcheck/core';
import { z } from 'zod';
import { ERROR_TYPES } from './_fal-errors.ts';

const errorType = z.enum(ERROR_TYPES).meta({ id: 'FalErrorType' });

/** Of a job that has ended badly too. */
export const errorSchema = z
  .union([
    z.strictObject({
      detail: z
        .array(
          z.object({
            loc: z
              .array(z.union([z.string(), z.int()]))
              .meta({ description: 'Where it was sent, then names and numbers: `["body", "prompt"]`.' }),
            msg: z.string(),
            type: errorType,
          }),
        )
        .meta({ description: 'Everything that is wrong with the input.' }),
    }),
    z.strictObject({ detail: z.string(), error_type: errorType }),
    z.strictObject({ status: z.literal('NOT_FOUND'), detail: z.string() }),
  ])
  .meta({ id: 'FalError' });

const links = {
  request_id: z.uuid(),
  response_url: z.url(),
  status_url: z.url(),
  cancel_url: z.url(),
};

export const queuedSchema = z
  .object({ status: z.literal('IN_QUEUE'), ...links, queue_position: z.int().min(0).meta({ description: 'Jobs ahead in the queue.' }) })
  .meta({ id: 'FalQueued' });

const begun = {
  ...links,
  logs: z
    .array(z.object({ message: z.string(), timestamp: z.iso.datetime(), level: z.literal('INFO'), source: z.literal('USER') }))
    .nullable()
    .meta({ description: 'Null unless `logs` asks for them.' }),
};

const runningSchema = z.object({ status: z.literal('IN_PROGRESS'), ...begun }).meta({ id: 'FalRunning' });

const endedSchema = z
  .object({
    status: z.literal('COMPLETED'),
    ...begun,
    metrics: z.object({ inference_time: z.number().min(0).meta({ description: 'Seconds of the newest attempt.' }) }),
    error: z.string().optional().meta({ description: 'Why there is no result.' }),
    error_type: errorType.optional().meta({ description: 'Beside `error`.' }),
  })
  .meta({ id: 'FalEnded', description: 'Also of a job that has failed or was cancelled.' });

const fileSchema = z
  .object({
    url: z.url().meta({ description: 'An address, or the file itself as a data URI.' }),
    content_type: z.string(),
    file_name: z.string(),
    file_size: z.int().min(0).optional(),
    width: z.int().optional(),
    height: z.int().optional(),
  })
  .meta({ id: 'FalFile' });

const tokens = z.int().min(0);

export const outputSchema = z
  .strictObject({
    images: z.array(fileSchema).optional(),
    has_nsfw_concepts: z.array(z.boolean()).optional().meta({ description: 'One per image.' }),
    video: fileSchema.optional(),
    audio: fileSchema.optional(),
    files: z.array(fileSchema).optional(),
    output: z.unknown().optional().meta({ description: 'The text; of a model for data its JSON, unless that is an object.' }),
    seed: z.number().optional(),
    prompt: z.string().optional(),
    timings: z.record(z.string(), z.number()).optional().meta({ description: "Seconds by the provider's own names." }),
    usage: z.object({ prompt_tokens: tokens, completion_tokens: tokens }).optional(),
  })
  .meta({ id: 'FalOutput' });

const dataSchema = z.record(z.string(), z.unknown()).meta({ description: 'The object that a model for data has made.' });
const resultSchema = z.union([outputSchema, dataSchema]);

const partialSchema = z
  .strictObject({ output: z.string().meta({ description: 'All that is written so far.' }), partial: z.literal(true) })
  .meta({ id: 'FalPartial' });

type Answers = Readonly<Record<number, AnswerDescription>>;

export function answered(description: string, schema: z.ZodType): Answers {
  return { 200: { description, schema } };
}

function streamed(description: string, schema: z.ZodType): Answers {
  return { 200: { description, contentType: 'text/event-stream', schema } };
}

const failed = (description: string): AnswerDescription => ({ description, schema: errorSchema });

/** Of routes that answer with what a job has made: the model's own answer with its status (section 2). */
export const RESULT_ANSWERS: Answers = {
  ...answered('What the model has made.', resultSchema),
  422: failed('The model cannot take the input, or refuses its content.'),
  499: failed('The job was cancelled.'),
  500: failed('The job has failed.'),
  504: failed('The job, its start or the wait for it took too long.'),
};

export const STATUS_ANSWERS: Answers = {
  ...answered('It has ended.', endedSchema),
  202: { description: 'It has not.', schema: z.union([queuedSchema, runningSchema]) },
};

export const STATUS_STREAM_ANSWERS = streamed(
  'The status now, and whenever it changes.',
  z.discriminatedUnion('status', [queuedSchema, runningSchema, endedSchema]),
);

export const RESULT_STREAM_ANSWERS = streamed(
  'The text so far, whenever there is more of it; at last the result, or the error that there is instead.',
  z.union([partialSchema, errorSchema, outputSchema, dataSchema]),
);

export const READ_RESULT_ANSWERS: Answers = { ...RESULT_ANSWERS, 400: failed('The job has not ended.') };

export const CANCEL_ANSWERS: Answers = {
  202: { description: 'It is cancelled, now or before.', schema: z.object({ status: z.literal('CANCELLATION_REQUESTED') }) },
  400: { description: 'It had ended.', schema: z.object({ status: z.literal('ALREADY_COMPLETED') }) },
};

export const keysSchema = z.object({
  keys: z.array(
    z.object({
      kty: z.literal('OKP'),
      crv: z.literal('Ed25519'),
      x: z.string().meta({ description: 'Base64url, padded.' }),
      kid: z.string(),
      use: z.literal('sig'),
      alg: z.literal('EdDSA'),
    }),
  ),
});

export const addressesSchema = z.object({
  upload_url: z.url().meta({ description: 'Where the bytes go; its address is the permission.' }),
  file_url: z.url().meta({ description: 'What parameters name.' }),
});

export const tokenSchema = z.object({
  token: z.string(),
  token_type: z.literal('Key'),
  base_url: z.url(),
  expires_at: z.iso.datetime({ offset: true }),
});

export const accessSchema = z.object({ access_url: z.url().meta({ description: 'What parameters name.' }) });
export const partsSchema = accessSchema.extend({ uploadId: z.uuid() });

/**
 * Schemas of what OpenAI's and Lumenfall's routes answer, for the description of the API: what they share, models and accounts
 * (protocols/openai.md, sections 5 and 8; lumenfall.md, 6, 8, 11 and 12).
 */
import { type AnswerDescription, ATTEMPT_OUTCOMES, PRICE_UNITS } from '@claimcheck/core';
import { z } from 'zod';
import { REQUEST_STATUSES } from './_openai-facts.ts';
import { ID_PREFIXES } from './_openai-ids.ts';

const USD = z.literal('USD');
export const unixInstant = z.int().meta({ description: 'Unix seconds.' });
export const tokenCount = z.int().min(0);
export const sizeText = z.string().meta({ description: 'Width, `x` and height.' });

export function idOf(kind: keyof typeof ID_PREFIXES) {
  return z.templateLiteral([ID_PREFIXES[kind], z.uuid()]);
}

export const errorBodySchema = z.object({
  message: z.string(),
  type: z.string(),
  param: z.string().nullable().meta({ description: 'The member that is wrong, or the first of them.' }),
  code: z.string(),
  error_code: z.string().meta({ description: "Lumenfall's word for it." }),
});
export type ErrorBody = z.output<typeof errorBodySchema>;

export const errorSchema = z.object({ error: errorBodySchema }).meta({ id: 'OpenAIError' });

export const runSchema = z
  .object({
    model: z.string(),
    executed_model: z.string().meta({ description: "The provider, a slash, and the provider's own id of the model." }),
    provider: z.string(),
    provider_name: z.string(),
    cost: z.number().optional().meta({ description: 'For all attempts.' }),
    cost_currency: USD.optional(),
    attempts: z
      .array(
        z.object({ provider: z.string(), model: z.string().optional(), outcome: z.enum(ATTEMPT_OUTCOMES), error: z.string().optional() }),
      )
      .optional(),
  })
  .meta({ id: 'OpenAIRun', description: 'Who made it, after what, and for how much.' });

export const quoteSchema = z
  .object({
    estimated: z.boolean().meta({ description: 'False where no price is known.' }),
    model: z.string(),
    provider: z.string(),
    total_cost_micros: z.int().nullable().meta({ description: 'Millionths of a dollar.' }),
    currency: USD,
    components: z.array(
      z.object({
        type: z.literal('output'),
        metric: z.enum(PRICE_UNITS),
        quantity: z.number(),
        billable_quantity: z.number(),
        unit_price: z.number().meta({ description: 'US dollars.' }),
        total_cost: z.int().meta({ description: 'Millionths of a dollar.' }),
      }),
    ),
    metadata: z.object({ model: z.string(), executed_model: z.string(), provider: z.string(), cost: z.number().nullable() }),
  })
  .meta({ id: 'OpenAIQuote' });

export function deletedSchema(kind: keyof typeof ID_PREFIXES, object: string) {
  return z.object({ id: idOf(kind), object: z.literal(object), deleted: z.literal(true) });
}

export type Answers = Readonly<Record<number, AnswerDescription>>;

export function answered(description: string, schema: z.ZodType, status = 200): Answers {
  return { [status]: { description, schema } };
}

/** Of an address whose answer the request may want as a stream. */
export function answeredOrStreamed(what: string, result: z.ZodType, event: z.ZodType): Answers {
  return { 200: { description: `${what}; with \`stream\` as events.`, schema: result, streams: { 'text/event-stream': event } } };
}

/** Of one that may also be asked for the price. */
export function madeOrStreamed(what: string, result: z.ZodType, event: z.ZodType): Answers {
  return answeredOrStreamed(`${what}; with \`dryRun\` the price`, z.union([result, quoteSchema]), event);
}

const modelSchema = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: z.literal(0),
    owned_by: z.string(),
    name: z.string(),
    modality: z.enum(['image', 'video', 'audio', 'text', 'json']),
    modalities: z.object({
      input: z.array(z.enum(['text', 'image'])),
      output: z.array(z.enum(['image', 'video', 'audio', 'text', 'json'])),
    }),
    model_status: z.enum(['active', 'unavailable']),
    aliases: z.array(z.string()),
    starting_price: z.number().optional().meta({ description: 'US dollars, of the cheapest provider.' }),
    providers: z.array(z.string()).meta({ description: 'Those that would run it.' }),
  })
  .meta({ id: 'OpenAIModel' });
const modelListSchema = z.object({ object: z.literal('list'), data: z.array(modelSchema) });
const oneModelSchema = modelSchema.extend({
  parameters: z.looseObject({}).optional().meta({ description: 'A JSON Schema, where `schema` asks for it.' }),
});

const balanceSchema = z.object({
  object: z.literal('balance'),
  billing_type: z.literal('postpaid'),
  available: z.object({ amount: z.null(), currency: z.literal('usd') }),
});

const requestSchema = z
  .object({
    id: idOf('request'),
    object: z.literal('request'),
    created_at: z.iso.datetime(),
    model: z.string(),
    modality: z.string().nullable().meta({ description: 'As far as the result tells.' }),
    endpoint: z.null(),
    status: z.enum(REQUEST_STATUSES),
    cost: z.number().nullable(),
    currency: z.literal('usd'),
    duration_ms: z.int().min(0).nullable(),
    key_id: z.null(),
    error_code: z.string().nullable(),
    error_message: z.string().nullable(),
    session_id: z.string().nullable(),
    trace_id: z.null(),
    user: z.null(),
    metadata: runSchema.optional(),
  })
  .meta({ id: 'OpenAIRequest' });

const requestListSchema = z.object({
  object: z.literal('list'),
  data: z.array(requestSchema),
  next_page_url: z.url().nullable(),
  previous_page_url: z.null(),
});

export const MODEL_LIST = answered('All models.', modelListSchema);
export const MODEL = answered('The model.', oneModelSchema);
export const BALANCE = answered('Nothing is paid in advance.', balanceSchema);
export const REQUEST_LIST = answered('A page of jobs.', requestListSchema);
export const REQUEST = answered('The job as a request.', requestSchema);
export const REQUEST_DELETED = answered('It is gone.', deletedSchema('request', 'request'));
export const SECRET = answered('The secret.', z.object({ key: z.string() }));

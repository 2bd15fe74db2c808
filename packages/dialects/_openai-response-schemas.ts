/** Schemas of responses and of the events of their streams, for the description of the API (protocols/openai.md, section 7). */
import { z } from 'zod';
import {
  answered,
  answeredOrStreamed,
  deletedSchema,
  errorBodySchema,
  idOf,
  madeOrStreamed,
  runSchema,
  sizeText,
  tokenCount,
  unixInstant,
} from './_openai-schemas.ts';

/** Of lists that are always empty. */
const none = z.array(z.never());
const itemStatus = z.enum(['in_progress', 'completed']);
const part = z.object({ type: z.literal('output_text'), text: z.string(), annotations: none });
const pictureId = z.templateLiteral(['ig_', z.uuid(), '_', z.int()]);

const itemSchema = z
  .discriminatedUnion('type', [
    z.object({
      id: idOf('message'),
      type: z.literal('message'),
      role: z.literal('assistant'),
      status: itemStatus,
      content: z.array(part),
    }),
    z.object({
      id: pictureId,
      type: z.literal('image_generation_call'),
      status: itemStatus,
      result: z.base64().nullable().meta({ description: 'Null of a picture whose bytes are not here, and before it is done.' }),
      output_format: z.string(),
      size: sizeText.optional(),
      url: z.url(),
    }),
  ])
  .meta({ id: 'OpenAIResponseItem' });

const responseSchema = z
  .object({
    id: idOf('response'),
    object: z.literal('response'),
    created_at: unixInstant,
    status: z.enum(['queued', 'in_progress', 'completed', 'failed', 'cancelled']),
    background: z.boolean(),
    model: z.string(),
    output: z.array(itemSchema),
    error: errorBodySchema.pick({ code: true, message: true }).nullable(),
    incomplete_details: z.null(),
    instructions: z.null(),
    metadata: z.object({}),
    parallel_tool_calls: z.literal(false),
    previous_response_id: z.null(),
    temperature: z.null(),
    tool_choice: z.literal('auto'),
    tools: none,
    top_p: z.null(),
    usage: z
      .object({
        input_tokens: tokenCount,
        input_tokens_details: z.object({ cached_tokens: tokenCount }),
        output_tokens: tokenCount,
        output_tokens_details: z.object({ reasoning_tokens: tokenCount }),
        total_tokens: tokenCount,
      })
      .nullable(),
    run: runSchema.optional(),
  })
  .meta({ id: 'OpenAIResponse' });

const index = z.int().min(0);
const numbered = { sequence_number: index };
const placed = { ...numbered, output_index: index };
const inPart = { ...placed, item_id: idOf('message'), content_index: index };

const eventSchema = z
  .discriminatedUnion('type', [
    z.object({
      ...numbered,
      type: z.enum([
        'response.created',
        'response.queued',
        'response.in_progress',
        'response.completed',
        'response.failed',
        'response.cancelled',
      ]),
      response: responseSchema,
    }),
    z.object({ ...placed, type: z.enum(['response.output_item.added', 'response.output_item.done']), item: itemSchema }),
    z.object({ ...inPart, type: z.enum(['response.content_part.added', 'response.content_part.done']), part }),
    z.object({ ...inPart, type: z.literal('response.output_text.delta'), delta: z.string(), logprobs: none }),
    z.object({ ...inPart, type: z.literal('response.output_text.done'), text: z.string(), logprobs: none }),
    z.object({
      ...placed,
      type: z.enum([
        'response.image_generation_call.in_progress',
        'response.image_generation_call.generating',
        'response.image_generation_call.completed',
      ]),
      item_id: pictureId,
    }),
    z.object({ ...numbered, type: z.literal('error'), error: errorBodySchema }),
  ])
  .meta({ id: 'OpenAIResponseEvent' });

export const RESPONSE = answered('The response.', responseSchema);
export const RESPONSE_OR_EVENTS = answeredOrStreamed('The response', responseSchema, eventSchema);
export const RESPONSE_OR_MORE = madeOrStreamed('The response', responseSchema, eventSchema);
export const RESPONSE_DELETED = answered('It is gone.', deletedSchema('response', 'response'));

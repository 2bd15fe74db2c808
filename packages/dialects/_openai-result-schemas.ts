/** Schemas of pictures, videos and chat completions, for the description of the API (protocols/openai.md, sections 3 to 6; lumenfall.md, 4 to 9). */
import { z } from 'zod';
import {
  type Answers,
  answered,
  deletedSchema,
  errorBodySchema,
  errorSchema,
  idOf,
  madeOrStreamed,
  quoteSchema,
  runSchema,
  sizeText,
  tokenCount,
  unixInstant,
} from './_openai-schemas.ts';

const madeText = z.string().optional().meta({ description: 'What a model for text has made.' });
const madeData = z.unknown().optional().meta({ description: 'What a model for data has made.' });

const pictureUsage = z
  .object({
    input_tokens: tokenCount,
    input_tokens_details: z.object({ text_tokens: tokenCount, image_tokens: tokenCount }),
    output_tokens: tokenCount,
    total_tokens: tokenCount,
  })
  .optional();

const picturesSchema = z
  .object({
    id: idOf('request'),
    created: unixInstant,
    size: sizeText.optional(),
    output_format: z.string().optional(),
    data: z.array(z.union([z.object({ url: z.url() }), z.object({ b64_json: z.base64() })])),
    text: madeText,
    json: madeData,
    usage: pictureUsage,
    metadata: runSchema,
  })
  .meta({ id: 'OpenAIPictures' });

const asAsked = z.unknown().meta({ description: 'As asked for, or `auto`.' });
const pictureEventSchema = z
  .discriminatedUnion('type', [
    z.object({
      type: z.enum(['image_generation.completed', 'image_edit.completed']),
      b64_json: z.base64().nullable(),
      url: z.url().optional().meta({ description: 'Of a picture whose bytes are not here.' }),
      created_at: unixInstant,
      size: z.union([z.literal('auto'), sizeText]),
      quality: asAsked,
      background: asAsked,
      output_format: z.string(),
      usage: pictureUsage,
    }),
    z.object({ type: z.literal('error'), error: errorBodySchema }),
  ])
  .meta({ id: 'OpenAIPictureEvent' });

const fileSchema = z.object({ url: z.url(), content_type: z.string(), size_bytes: z.int().min(0).nullable() });

const videoSchema = z
  .object({
    id: idOf('video'),
    object: z.literal('video'),
    model: z.string(),
    status: z.enum(['queued', 'in_progress', 'completed', 'failed']),
    progress: z.int().min(0).max(100),
    created_at: unixInstant,
    completed_at: unixInstant.nullable(),
    expires_at: z.null(),
    prompt: z.string().nullable(),
    size: z.string().nullable(),
    seconds: z.string().nullable(),
    remixed_from_video_id: z.null(),
    output: fileSchema
      .partial()
      .extend({
        files: z.array(fileSchema).optional().meta({ description: 'All of them, where there are several.' }),
        text: madeText,
        json: madeData,
      })
      .nullable(),
    error: errorBodySchema.pick({ code: true, message: true, error_code: true }).nullable(),
    metadata: runSchema.optional(),
  })
  .meta({ id: 'OpenAIVideo' });

const videoListSchema = z
  .object({
    object: z.literal('list'),
    data: z.array(videoSchema),
    first_id: idOf('video').nullable(),
    last_id: idOf('video').nullable().meta({ description: 'The next page comes `after` it.' }),
    has_more: z.boolean(),
  })
  .meta({ id: 'OpenAIVideoList' });

const chatUsage = z.object({ prompt_tokens: tokenCount, completion_tokens: tokenCount, total_tokens: tokenCount });
const choice = { index: z.literal(0), logprobs: z.null() };

const completionSchema = z
  .object({
    id: idOf('chat'),
    object: z.literal('chat.completion'),
    created: unixInstant,
    model: z.string(),
    choices: z.array(
      z.object({
        ...choice,
        message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
        finish_reason: z.literal('stop'),
      }),
    ),
    usage: chatUsage.nullable(),
    metadata: runSchema,
  })
  .meta({ id: 'OpenAICompletion' });

const chunkSchema = z
  .object({
    id: idOf('chat'),
    object: z.literal('chat.completion.chunk'),
    created: unixInstant,
    model: z.string(),
    choices: z.array(
      z.object({
        ...choice,
        delta: z.object({ role: z.literal('assistant').optional(), content: z.string().optional() }),
        finish_reason: z.literal('stop').nullable(),
      }),
    ),
    usage: chatUsage.optional().meta({ description: 'Of the last one, which has no choices, where `stream_options` ask for it.' }),
  })
  .meta({ id: 'OpenAICompletionChunk' });

const chatEventSchema = z
  .union([chunkSchema, errorSchema])
  .meta({ id: 'OpenAICompletionEvent', description: 'After the last chunk comes the bare word `[DONE]`.' });

export const PICTURES_OR_MORE = madeOrStreamed('The pictures', picturesSchema, pictureEventSchema);
export const COMPLETION_OR_MORE = madeOrStreamed('The words', completionSchema, chatEventSchema);
export const VIDEO_OR_PRICE: Answers = {
  ...answered('The price, for `dryRun`.', quoteSchema),
  ...answered('The job as a video.', videoSchema, 202),
};
export const VIDEO = answered('The job as a video.', videoSchema);
export const VIDEO_LIST = answered('A page of jobs.', videoListSchema);
export const VIDEO_DELETED = answered('It is gone, or about to be.', deletedSchema('video', 'video.deleted'));
export const CONTENT: Answers = {
  200: { description: 'The file.', contentType: '*/*' },
  302: { description: 'The file is elsewhere.' },
};

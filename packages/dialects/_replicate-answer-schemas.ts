/** Schemas of Replicate's answers (replicate.md, sections 1 and 4 to 9), for the description of the API. Tests hold real answers against them. */
import type { AnswerDescription } from '@claimcheck/core';
import { z } from 'zod';
import { STATUS } from './_replicate-prediction.ts';
import { eventName } from './_replicate-schemas.ts';

const seconds = z.number().min(0);
const count = z.int().min(0);

export const predictionSchema = z
  .object({
    id: z.uuid(),
    model: z.string().meta({ description: '`owner/name`, with `_` for the owner of a name that has none.' }),
    version: z.string().meta({ description: "The model's name." }),
    input: z.record(z.string(), z.unknown()).meta({ description: 'As handed in, with defaults.' }),
    output: z
      .unknown()
      .meta({ description: 'An address of a file, a list of them or of pieces of a text, or data; null until there is any.' }),
    logs: z.string(),
    error: z.string().nullable().meta({ description: 'Why it failed.' }),
    status: z.enum(STATUS),
    source: z.literal('api'),
    data_removed: z.literal(false),
    created_at: z.iso.datetime(),
    started_at: z.iso.datetime().optional(),
    completed_at: z.iso.datetime().optional(),
    deadline: z.iso.datetime().optional().meta({ description: 'When it is cancelled, where the client has set a time.' }),
    metrics: z
      .object({
        predict_time: seconds.optional().meta({ description: 'Seconds of the newest attempt.' }),
        total_time: seconds,
        image_count: count.optional(),
        input_token_count: count.optional(),
        output_token_count: count.optional(),
        video_output_duration_seconds: seconds.optional(),
      })
      .optional()
      .meta({ description: 'Of a prediction that has ended.' }),
    webhook: z.url().optional(),
    webhook_events_filter: z.array(eventName).optional(),
    urls: z.object({
      get: z.url(),
      cancel: z.url(),
      web: z.url(),
      stream: z.url().optional().meta({ description: 'Its address is the permission.' }),
    }),
  })
  .meta({ id: 'ReplicatePrediction' });

/** Of each event of a stream. */
export const streamSchema = z
  .union([
    z.string().meta({ description: 'Of `output` and `logs`: the text as it is, not as JSON.' }),
    z.strictObject({ detail: z.string() }).meta({ description: 'Of `error`.' }),
    z
      .strictObject({ reason: z.enum(['canceled', 'error']).optional() })
      .meta({ description: 'Of `done`, the last one; without a reason after a success.' }),
  ])
  .meta({ id: 'ReplicateStreamData' });

export const fileSchema = z
  .object({
    id: z.uuid(),
    name: z.string(),
    content_type: z.string(),
    size: count.optional().meta({ description: 'In bytes; like `etag` and `checksums` not there before the bytes are.' }),
    etag: z.string().optional(),
    checksums: z.object({ sha256: z.string() }).optional(),
    metadata: z.strictObject({}).meta({ description: 'Always empty.' }),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
    urls: z.object({ get: z.url().meta({ description: 'What an input names; its address is the permission.' }) }),
  })
  .meta({ id: 'ReplicateFile' });

const jsonSchema = z.record(z.string(), z.unknown());

export const versionSchema = z
  .object({
    id: z.string().meta({ description: "The model's name." }),
    created_at: z.iso.datetime(),
    cog_version: z.string(),
    openapi_schema: z.object({
      openapi: z.literal('3.1.0'),
      info: z.object({ title: z.string(), version: z.string() }),
      components: z.object({ schemas: z.object({ Input: jsonSchema, Output: jsonSchema }) }),
    }),
  })
  .meta({ id: 'ReplicateVersion' });

export const modelSchema = z
  .object({
    url: z.url(),
    owner: z.string(),
    name: z.string(),
    description: z.string(),
    visibility: z.literal('public'),
    github_url: z.null(),
    paper_url: z.null(),
    license_url: z.null(),
    run_count: z.literal(0),
    cover_image_url: z.null(),
    default_example: z.null(),
    latest_version: versionSchema,
  })
  .meta({ id: 'ReplicateModel' });

export const secretSchema = z.object({ key: z.string() });

export const errorSchema = z
  .object({
    title: z.string(),
    detail: z.string(),
    status: z.int().meta({ description: 'That of HTTP.' }),
    retry_after: z.int().optional().meta({ description: 'Seconds.' }),
    invalid_fields: z
      .array(
        z.object({
          type: z.literal('invalid'),
          field: z.string().meta({ description: 'Where it stands, such as `input.prompt`.' }),
          description: z.string(),
        }),
      )
      .optional()
      .meta({ description: 'Everything that is wrong with the request.' }),
  })
  .meta({ id: 'ReplicateProblem' });

/** Of a list: nobody can go back. */
export function pageSchema(item: z.ZodType) {
  return z.object({ previous: z.null(), next: z.url().nullable(), results: z.array(item) });
}

export function answered(description: string, schema: z.ZodType, status: 200 | 201 = 200): Readonly<Record<number, AnswerDescription>> {
  return { [status]: { description, schema } };
}

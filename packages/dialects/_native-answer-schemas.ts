/** Schemas of the native answers about jobs, for the description of the API. Tests hold real answers against them. */
import { type AnswerDescription, ATTEMPT_OUTCOMES, ERROR_STATUS, type ErrorCode, FAILURE_CODES, STATES } from '@claimcheck/core';
import { z } from 'zod';

/** Keys of an object are a non-empty list of their own type, which TypeScript cannot tell. */
const ERROR_CODES = Object.keys(ERROR_STATUS) as [ErrorCode, ...ErrorCode[]];

export const instantText = () => z.iso.datetime();
const state = z.enum(STATES).meta({ id: 'State', description: 'QUEUED and PROCESSING go on; the others are final.' });
const failureCode = z.enum(FAILURE_CODES).meta({ id: 'FailureCode', description: 'Why a job ended without a result.' });

export const errorSchema = z
  .object({
    error: z.string().meta({ description: 'A sentence for humans; it may change.' }),
    code: z.enum(ERROR_CODES).meta({ description: 'For programs.' }),
    errors: z
      .array(z.object({ pointer: z.string().meta({ description: 'JSON pointer into the body, or `/` and a name.' }), message: z.string() }))
      .optional()
      .meta({ description: 'Everything that is wrong with the request.' }),
    request_id: z.uuid().optional(),
  })
  .meta({ id: 'Error' });

export const claimCheckSchema = z
  .object({
    request_id: z.uuid(),
    status: state,
    status_url: z.url(),
    response_url: z.url(),
    cancel_url: z.url(),
    poll_url: z.url(),
    queue_position: z.int().min(0).nullable().meta({ description: 'Jobs ahead in the queue; null once it has left the queue.' }),
  })
  .meta({ id: 'ClaimCheck' });

const seconds = z.number().min(0);

const attemptSchema = z
  .object({
    number: z.int().min(1),
    provider: z.string(),
    model: z.string().optional().meta({ description: "The provider's own id of the model." }),
    outcome: z.enum(ATTEMPT_OUTCOMES),
    started_at: instantText(),
    seconds,
    error: z.string().optional(),
    code: failureCode.optional(),
    cost: z.number().optional(),
  })
  .meta({ id: 'Attempt' });

const metricsSchema = z
  .object({
    inference_time: seconds.optional().meta({ description: 'Seconds of the newest attempt.' }),
    queue_time: seconds.optional().meta({ description: 'Seconds until the first attempt.' }),
    total_time: seconds.optional(),
    resubmits: z.int().optional().meta({ description: 'Runs that were started anew without knowing of a lost one.' }),
    provider: z.string().optional(),
    cost: z.number().optional().meta({ description: 'US dollars for all attempts.' }),
    attempts: z.array(attemptSchema).optional(),
  })
  .meta({ id: 'Metrics', description: 'Empty until the job has ended.' });

const statusMembers = {
  status: state,
  request_id: z.uuid(),
  metrics: metricsSchema,
  queue_position: z.int().min(0).optional(),
  progress: z.number().min(0).max(1),
  logs: z.array(z.object({ timestamp: instantText(), message: z.string() })).optional(),
  status_url: z.url(),
  response_url: z.url(),
  error: z.string().optional().meta({ description: 'Why it ended without a result.' }),
  code: failureCode.optional(),
};

export const statusSchema = z.object(statusMembers).meta({ id: 'Status' });

export const listSchema = z
  .object({
    requests: z.array(z.object({ ...statusMembers, model: z.string(), created_at: instantText() })),
    next_cursor: z.string().nullable(),
  })
  .meta({ id: 'RequestList' });

const fileSchema = z
  .object({
    url: z.string(),
    content_type: z.string(),
    file_name: z.string(),
    file_size: z.int().optional(),
    width: z.int().optional(),
    height: z.int().optional(),
  })
  .meta({ id: 'File' });

export const resultSchema = z
  .object({
    status: z.literal('COMPLETED'),
    request_id: z.uuid(),
    output: z.string().meta({ description: 'The address of the first file; of a model for text the text, of one for data its JSON.' }),
    images: z.array(fileSchema).optional(),
    video: fileSchema.optional(),
    audio: fileSchema.optional(),
    files: z.array(fileSchema).optional(),
    seed: z.number().optional(),
    prompt: z.string().optional(),
    timings: z.record(z.string(), z.unknown()),
    error: z.null(),
    metrics: metricsSchema,
  })
  .meta({ id: 'Result' });

export const removedSchema = z.object({ request_id: z.uuid(), status: state, deleted: z.literal(true) }).meta({ id: 'RemovedRequest' });

/** What an upstream tells stands in events as it came. */
export const eventSchema = z
  .looseObject({
    request_id: z.uuid(),
    status: state,
    progress: z.number().min(0).max(1),
    response_url: z.url().optional().meta({ description: 'Of the event that ends the job.' }),
    error: z.string().optional(),
    code: failureCode.optional(),
    lines: z.array(z.string()).optional().meta({ description: 'Of `log`: what the run printed since the last one.' }),
    text: z.string().optional().meta({ description: 'Of `partial`: what was added to the text of the result.' }),
    isReset: z.boolean().optional().meta({ description: 'Of `partial`: the text replaces what came before.' }),
  })
  .meta({ id: 'Event' });

/** Of the route that waits. */
export const syncFailureSchema = z
  .object({ error: z.string(), code: failureCode, request_id: z.uuid(), status: state })
  .meta({ id: 'SyncFailure' });

/** Of the routes that show a job. */
export const ENDED_WITHOUT_RESULT: AnswerDescription = {
  description: 'The job is FAILED or CANCELLED; `error` says why.',
  schema: statusSchema,
};

/** Schemas of what inference.sh's routes answer, for the description of the API (protocols/inference-sh.md, sections 1 and 4 to 8). */
import { type AnswerDescription, ERROR_STATUS, type ErrorCode, STATES } from '@claimcheck/core';
import { z } from 'zod';
import { answerHeaders } from './_inference-sh-request-schemas.ts';
import { RECEIVED, RUN_LOG, STATUSES } from './_inference-sh-tasks.ts';

/** Keys of an object are a non-empty list of their own type, which TypeScript cannot tell. */
const ERROR_CODES = Object.keys(ERROR_STATUS) as [ErrorCode, ...ErrorCode[]];

const instant = () => z.iso.datetime();
/** Of the vendor's accounts and machines: there for typed clients, and always empty. */
const noText = z.literal('');
const none = z.null();
const noItems = z.array(z.never());

const statuses = STATES.map((state) => STATUSES[state]);
const statusMembers = {
  status: z.literal(statuses.map(({ status }) => status)),
  status_text: z.literal(statuses.map(({ status_text }) => status_text)),
};
/** Also of one that was just taken. */
const stepStatus = z.literal([RECEIVED.status, ...statuses.map(({ status }) => status)]);
const stepText = z.literal([RECEIVED.status_text, ...statuses.map(({ status_text }) => status_text)]);

const mediaMembers = {
  uri: z.url(),
  content_type: z.string(),
  filename: z.string(),
  size: z.int().min(0).optional().meta({ description: 'In bytes.' }),
  width: z.int().optional(),
  height: z.int().optional(),
};

const output = z.record(z.string(), z.unknown()).nullable().meta({
  description:
    'What the app made: files as `images`, `video`, `audio` and `files`, each with its `uri`; text as `response`; data as its own members.',
});

const resultMembers = {
  id: z.uuid(),
  short_id: z.string(),
  ...statusMembers,
  output,
  error: z.string().meta({ description: 'Why it ended without a result, or nothing.' }),
  session_id: z.string().nullable(),
  created_at: instant(),
  updated_at: instant(),
};

export const runSchema = z.object({ ...resultMembers, status: stepStatus, status_text: stepText }).meta({ id: 'InferenceShRunResult' });
export const cancelledSchema = z.object({ ...resultMembers, cancelled: z.boolean() }).meta({ id: 'InferenceShCancellation' });

const logs = z
  .array(
    z
      .object({
        id: z.string(),
        created_at: instant(),
        updated_at: instant(),
        task_id: z.uuid(),
        log_type: z.literal(RUN_LOG),
        content: z.string(),
      })
      .meta({ id: 'InferenceShLog' }),
  )
  .meta({ description: 'All that the run has printed, as one.' });

const events = z.array(
  z
    .object({ id: z.string(), created_at: instant(), event_time: instant(), task_id: z.uuid(), status: stepStatus })
    .meta({ id: 'InferenceShTaskEvent' }),
);

const progress = z.int().min(0).max(100);

export const taskSchema = z
  .object({
    ...resultMembers,
    progress,
    deleted_at: none,
    user_id: z.uuid(),
    team_id: z.uuid(),
    visibility: z.literal('private'),
    is_featured: z.literal(false),
    rating: z.literal('unrated'),
    app_id: z.string(),
    app_version_id: noText,
    app_variant: noText,
    function: z.literal('run'),
    setup: none,
    input: z.record(z.string(), z.unknown()).meta({ description: 'As handed in, with defaults.' }),
    infra: z.literal('cloud'),
    workers: noItems,
    engine_id: none,
    worker_id: none,
    run_at: none,
    graph_id: none,
    user_public_key: noText,
    engine_public_key: noText,
    flow_run_id: none,
    sub_flow_run_id: none,
    chat_id: none,
    agent_id: none,
    agent_version_id: none,
    webhook: z.string(),
    session_timeout: none,
    events,
    logs,
    usage_events: noItems,
  })
  .meta({ id: 'InferenceShTask' });

const standing = { id: z.uuid(), ...statusMembers, updated_at: instant() };
export const taskStatusSchema = z.object(standing).meta({ id: 'InferenceShTaskStatus' });
export const taskLogsSchema = z.object({ task_id: z.uuid(), ...statusMembers, events, logs }).meta({ id: 'InferenceShTaskLogs' });

const duration = z.string().meta({ description: 'As seconds, such as `3.2s`.' });
const durationMs = z.int().min(0);

export const timingsSchema = z
  .object({
    task_id: z.uuid(),
    ...statusMembers,
    total_duration: duration,
    total_duration_ms: durationMs,
    groups: z.array(
      z.object({ label: z.enum(['queue', 'run']), start_at: instant(), end_at: instant(), duration, duration_ms: durationMs }),
    ),
    events: z.array(
      z.object({
        status: stepText,
        timestamp: instant(),
        duration: duration.optional(),
        duration_ms: durationMs.optional(),
        next_status: stepText.optional(),
      }),
    ),
  })
  .meta({ id: 'InferenceShTimings' });

export const taskFilesSchema = z.array(
  z
    .object({
      id: z.string(),
      created_at: instant(),
      updated_at: instant(),
      task_id: z.uuid(),
      role: z.literal('output'),
      ...mediaMembers,
    })
    .meta({ id: 'InferenceShTaskFile' }),
);

export const HEARTBEAT = { type: 'heartbeat' } as const;

const part = z
  .object({
    data: z.object({
      ...standing,
      progress: progress.optional(),
      logs: logs.optional(),
      output: z.object({ response: z.string() }).optional().meta({ description: 'What has been written so far.' }),
    }),
    fields: z.array(z.enum(['progress', 'logs', 'output'])).meta({ description: 'What of the task `data` takes the place of.' }),
  })
  .meta({ id: 'InferenceShTaskPart' });

const STREAMED = 'the whole task at the beginning, where its state has changed and at its end, and parts of it in between.';

export const streamAnswers: Readonly<Record<number, AnswerDescription>> = {
  200: {
    description: `Data of unnamed events: ${STREAMED} With \`Accept: application/x-ndjson\` the same as lines, with heartbeats.`,
    contentType: 'text/event-stream',
    schema: z.union([taskSchema, part]),
    streams: { 'application/x-ndjson': z.union([taskSchema, part, z.object({ type: z.literal(HEARTBEAT.type) })]) },
  },
  204: { description: 'To a browser that has seen the end: there is nothing to come back for.' },
};

export const fileSchema = z
  .object({
    id: z.uuid(),
    short_id: z.string(),
    created_at: instant(),
    updated_at: instant(),
    uri: z.url().meta({ description: 'What inputs name.' }),
    upload_url: z.union([z.url(), noText]).meta({ description: 'Where its bytes go, with PUT; nothing once they are here.' }),
    filename: z.string(),
    content_type: z.string(),
    size: z.int().min(0).meta({ description: 'In bytes; 0 until they are here.' }),
    path: noText,
    remote_path: noText,
    category: z.literal('input'),
    rating: z.literal('unrated'),
    metadata: none,
    expires_at: instant(),
  })
  .meta({ id: 'InferenceShFile' });

export const deletedSchema = z.object({ id: z.uuid(), deleted: z.literal(true) });

export const sessionSchema = z
  .object({
    id: z.string(),
    short_id: z.string(),
    created_at: instant(),
    updated_at: instant(),
    status: z.literal('active'),
    app_id: z.string(),
    app_version_id: noText,
    worker_id: noText,
    task_id: z.uuid().meta({ description: 'The newest.' }),
    call_count: z.int().min(1),
    last_call_at: instant(),
    expires_at: none,
    ended_at: none,
    idle_timeout: none,
  })
  .meta({ id: 'InferenceShSession' });

export const appSchema = z
  .object({
    id: z.string(),
    short_id: z.string(),
    namespace: z.string(),
    name: z.string(),
    title: z.string(),
    description: z.string(),
    category: z.enum(['image', 'video', 'audio', 'text', 'other']),
    visibility: z.literal('public'),
    images: z.object({}),
    status: z.enum(['active', 'maintenance']),
    status_message: z.string().optional().meta({ description: 'Why it cannot run.' }),
    version_id: noText,
    version: z.object({ input_schema: z.record(z.string(), z.unknown()), default_function: z.literal('run') }),
  })
  .meta({ id: 'InferenceShApp' });

export const taskPageSchema = pageOf(taskSchema).meta({ id: 'InferenceShTaskPage' });
export const filePageSchema = pageOf(fileSchema).meta({ id: 'InferenceShFilePage' });
export const appPageSchema = pageOf(appSchema).meta({ id: 'InferenceShAppPage' });

function pageOf(item: z.ZodType) {
  return z.object({
    items: z.array(item),
    next_cursor: z.string().meta({ description: 'Empty on the last page.' }),
    prev_cursor: noText,
    has_next: z.boolean(),
    has_previous: z.boolean(),
    items_per_page: z.int().min(1),
    total_items: z.int().min(0).nullable().meta({ description: 'Known where there is but one page.' }),
  });
}

export const errorSchema = z
  .object({
    type: z.literal('about:blank'),
    title: z.string(),
    status: z.int().meta({ description: 'That of HTTP.' }),
    detail: z.string(),
    success: z.literal(false),
    error: z.object({ code: z.enum(ERROR_CODES), message: z.string() }).meta({ description: 'The same again, for older clients.' }),
    errors: z
      .array(z.object({ pointer: z.string(), message: z.string() }))
      .optional()
      .meta({ description: 'Everything that is wrong with the request.' }),
    request_id: z.uuid().optional(),
  })
  .meta({ id: 'InferenceShProblem' });

/** What a route says of itself that answers in the envelope, or without it to those who ask so. */
export function answered(description: string, data: z.ZodType) {
  const envelope = z.object({ success: z.literal(true), status: z.literal(200), data, messages: noItems });
  const answers: Readonly<Record<number, AnswerDescription>> = { 200: { description, schema: z.union([envelope, data]) } };
  return { headers: answerHeaders, answers };
}

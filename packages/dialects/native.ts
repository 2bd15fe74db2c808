/**
 * The service's own wire format: Segmind's requests and answers, plus what they lack (cancelling, purging, listing, events, waiting
 * and per-job webhooks). Here are the routes and the error envelope; the bodies are in `_native-answers.ts`.
 */
import {
  type Answer,
  AppError,
  type Dialect,
  type DialectRoute,
  isTerminal,
  type Job,
  on,
  type SubmitOperation,
  type Wait,
  type WireRequest,
} from '@claimcheck/core';
import { z } from 'zod';
import {
  claimCheckSchema,
  ENDED_WITHOUT_RESULT,
  errorSchema,
  eventSchema,
  listSchema,
  removedSchema,
  resultSchema,
  statusSchema,
  syncFailureSchema,
} from './_native-answer-schemas.ts';
import {
  claimCheck,
  failureMembers,
  metrics,
  responseUrl,
  resultAnswer,
  serverSentEvents,
  statusAnswer,
  statusBody,
} from './_native-answers.ts';
import { deliveryRoutes } from './_native-deliveries.ts';
import { modelRoutes } from './_native-models.ts';
import {
  followHeaders,
  followQuery,
  HOLD_SECONDS_MAX,
  listQuery,
  modelParameters,
  optionsInQuery,
  pathParameter,
  preferredWaitSeconds,
  type SubmissionHeaders,
  type SubmissionQuery,
  scheduling,
  statusQuery,
  submissionHeaders,
  submissionMembers,
  submissionQuery,
  WEBHOOK_OPTION_NAMES,
} from './_native-requests.ts';
import { uploadRoutes } from './_native-uploads.ts';
import { encodeWebhook } from './_native-webhook.ts';
import { webhookRoutes } from './_native-webhooks.ts';

/** How long `POST /v1/{model}` waits for the end of its job; `Prefer: wait=N` can only lower it. */
export const SYNC_WAIT_SECONDS = 120;

/** Lines with fixed paths or `:id` stand before those with `:model`, which would take their paths for names of models. */
const routes: readonly DialectRoute[] = [
  on('list', {
    method: 'GET',
    path: '/v2/requests',
    body: 'none',
    summary: 'Lists own jobs, newest first.',
    query: listQuery,
    answers: { 200: { description: 'A page of jobs.', schema: listSchema } },
    decode: (_request, { query: { limit, cursor, status } }) => ({
      kind: 'list',
      limit,
      ...(cursor !== undefined && { cursor }),
      ...(status && { state: status }),
    }),
    encode: (page, { baseUrl }) =>
      json(200, {
        requests: page.jobs.map((job) => ({
          ...statusBody(job, baseUrl),
          model: job.model,
          created_at: job.createdAt.toISOString(),
        })),
        next_cursor: page.nextCursor ?? null,
      }),
  }),
  on('read', {
    method: 'GET',
    path: '/v2/requests/:id/status',
    body: 'none',
    summary: 'Tells where a job stands.',
    query: statusQuery,
    answers: { 200: { description: 'It goes on, or is COMPLETED.', schema: statusSchema }, 422: ENDED_WITHOUT_RESULT },
    decode: (request, { query: { wait, logs } }) => ({
      kind: 'read',
      id: pathParameter(request, 'id'),
      wait: untilChange(wait),
      withLogs: logs,
    }),
    encode: (job, { baseUrl }) => statusAnswer(job, baseUrl),
  }),
  on('follow', {
    method: 'GET',
    path: '/v2/requests/:id/events',
    body: 'none',
    summary: 'Streams the events of a job, up to the one that ends it.',
    query: followQuery,
    headers: followHeaders,
    answers: {
      200: {
        description: 'Server-sent events: `status`, `progress`, `log` and `partial`. The schema is that of the data of each.',
        contentType: 'text/event-stream',
        schema: eventSchema,
      },
    },
    decode: (request, { query, headers }) => ({
      kind: 'follow',
      id: pathParameter(request, 'id'),
      after: headers['Last-Event-ID'] ?? query.after,
    }),
    encode: ({ events }, { baseUrl }) => ({ status: 200, body: { kind: 'events', events: serverSentEvents(events, baseUrl) } }),
  }),
  // The second path is the vendor's older one; its `poll_url` still names it.
  ...['/v2/requests/:id', '/v1/requests/:id'].map((path) =>
    on('read', {
      method: 'GET',
      path,
      body: 'none',
      summary: 'Tells the result of a job, or where it stands while there is none.',
      answers: {
        200: { description: 'The result, or the status before there is one.', schema: z.union([resultSchema, statusSchema]) },
        422: ENDED_WITHOUT_RESULT,
      },
      decode: (request) => ({ kind: 'read', id: pathParameter(request, 'id') }),
      encode: (job, { baseUrl }) => resultAnswer(job, baseUrl),
    }),
  ),
  ...(['POST', 'PUT'] as const).map((method) =>
    on('cancel', {
      method,
      path: '/v2/requests/:id/cancel',
      body: 'none',
      summary: 'Cancels a job; one that has ended stays as it is.',
      answers: { 200: { description: 'What became of it.', schema: statusSchema } },
      decode: (request) => ({ kind: 'cancel', id: pathParameter(request, 'id') }),
      // 200 in every state: the cancellation was understood, and the body says what became of it.
      encode: (job, { baseUrl }) => json(200, statusBody(job, baseUrl)),
    }),
  ),
  on('purge', {
    method: 'DELETE',
    path: '/v2/requests/:id',
    body: 'none',
    summary: 'Removes a job and its files now; one that runs is cancelled first.',
    answers: { 200: { description: 'It is gone; `status` is its last state.', schema: removedSchema } },
    decode: (request) => ({ kind: 'purge', id: pathParameter(request, 'id') }),
    encode: (job) => json(200, { request_id: job.id, status: job.state, deleted: true }),
  }),
  ...deliveryRoutes,
  ...webhookRoutes,
  ...modelRoutes,
  ...uploadRoutes,
  on('submit', {
    method: 'POST',
    path: '/v2/:model{.+}',
    body: 'json or form',
    summary: 'Hands in a job.',
    query: submissionQuery,
    headers: submissionHeaders,
    ownMembers: submissionMembers,
    answers: {
      200: {
        description: 'The claim check; with `Prefer: wait=N` the result, when the job ends within N seconds.',
        schema: z.union([claimCheckSchema, resultSchema]),
      },
      422: { description: 'With `Prefer: wait=N`: the job ended without a result.', schema: statusSchema },
    },
    decode: (request, values) => submission(request, values, untilEnd(preferredWaitSeconds(request, HOLD_SECONDS_MAX))),
    encode: submitAnswer,
  }),
  on('submit', {
    method: 'POST',
    path: '/v1/:model{.+}',
    body: 'json or form',
    summary: 'Hands in a job and waits for its result.',
    query: submissionQuery,
    headers: submissionHeaders,
    ownMembers: submissionMembers,
    answers: {
      200: { description: 'The file itself; of models for text and data JSON.', contentType: '*/*' },
      422: { description: 'The job ended without a result.', schema: syncFailureSchema },
    },
    decode: (request, values) => submission(request, values, untilEnd(syncWaitSeconds(request))),
    encode: syncAnswer,
  }),
];

const native: Dialect = {
  name: 'native',
  about: {
    title: 'claimcheck',
    description: "The service's own wire format: Segmind's requests and answers, plus what they lack.",
    documentationUrl: 'https://docs.segmind.com',
  },
  routes,
  encodeError,
  errorSchema,
  encodeWebhook,
};
export default native;

interface SubmissionValues {
  readonly query: SubmissionQuery;
  readonly headers: SubmissionHeaders;
}

function submission(request: WireRequest, { query, headers }: SubmissionValues, wait: Wait | undefined): SubmitOperation {
  return {
    kind: 'submit',
    model: pathParameter(request, 'model'),
    provider: headers['x-provider'],
    parameters: modelParameters(request),
    isText: request.isForm === true,
    webhookUrl: query.webhook,
    webhookMember: 'webhook',
    webhookOptions: optionsInQuery(query),
    webhookOptionMembers: WEBHOOK_OPTION_NAMES,
    wait,
    ...scheduling(query, headers),
    idempotencyKey: headers['Idempotency-Key'],
  };
}

function untilEnd(seconds: number | undefined): Wait | undefined {
  return seconds === undefined ? undefined : { until: 'end', seconds };
}

function untilChange(seconds: number | undefined): Wait | undefined {
  return seconds === undefined ? undefined : { until: 'change', seconds };
}

function syncWaitSeconds(request: WireRequest): number {
  return preferredWaitSeconds(request, SYNC_WAIT_SECONDS) ?? SYNC_WAIT_SECONDS;
}

/** The claim check, or the result when the client wanted to wait and the job ended in time. */
function submitAnswer(job: Job, request: WireRequest): Answer {
  const waited = preferredWaitSeconds(request, HOLD_SECONDS_MAX);
  if (waited === undefined) return json(200, claimCheck(job, request.baseUrl));
  const answer = isTerminal(job.state) ? resultAnswer(job, request.baseUrl) : json(200, claimCheck(job, request.baseUrl));
  return { ...answer, headers: { 'preference-applied': `wait=${waited}` } };
}

/**
 * The file itself when it is ours to send. Else JSON: what a model for structured data or chat produced, as it is, because the
 * vendor passes it through here; or the result body, for text and for files elsewhere.
 */
function syncAnswer(job: Job, request: WireRequest): Answer {
  if (!isTerminal(job.state)) {
    const seconds = syncWaitSeconds(request);
    const message = `The job did not end within ${seconds} seconds and goes on. Fetch its result at ${responseUrl(job.id, request.baseUrl)}.`;
    throw new AppError('wait_timeout', message, { requestId: job.id });
  }
  const headers = syncHeaders(job);
  if (job.state !== 'COMPLETED') {
    return { ...json(422, { ...failureMembers(job), request_id: job.id, status: job.state }), headers };
  }
  const [first] = job.output?.media ?? [];
  if (first && 'asset' in first.location) return { status: 200, headers, body: { kind: 'asset', token: first.location.asset } };
  if (!first && job.output?.json !== undefined) return { ...json(200, job.output.json), headers };
  return { ...resultAnswer(job, request.baseUrl), headers };
}

function syncHeaders(job: Job): Record<string, string> {
  const { inference_time: seconds } = metrics(job);
  return {
    'x-request-id': job.id,
    ...(seconds !== undefined && { 'x-generation-time': String(seconds) }),
    ...(job.output?.seed !== undefined && { 'x-seed-value': String(job.output.seed) }),
  };
}

function encodeError(error: AppError): Answer {
  const { requestId, retryAfterSeconds, problems } = error;
  return {
    status: error.status,
    headers: {
      // RFC 9110 allows whole seconds only; rounding down would invite a call that is refused again.
      ...(retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(retryAfterSeconds)) }),
      ...(requestId !== undefined && { 'x-request-id': requestId }),
    },
    body: {
      kind: 'json',
      value: {
        error: error.message,
        code: error.code,
        ...(problems.length > 0 && { errors: problems.map(({ pointer, message }) => ({ pointer, message })) }),
        ...(requestId !== undefined && { request_id: requestId }),
      },
    },
  };
}

function json(status: number, value: unknown): Answer {
  return { status, body: { kind: 'json', value } };
}

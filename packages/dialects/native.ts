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
  HOLD_SECONDS_MAX,
  lastSequence,
  listQuery,
  modelParameters,
  optionsInQuery,
  pathParameter,
  preferredWaitSeconds,
  scheduling,
  statusWaitSeconds,
  WEBHOOK_OPTION_NAMES,
  wantsLogs,
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
    decode: (request) => ({ kind: 'list', ...listQuery(request) }),
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
    decode: (request) => ({
      kind: 'read',
      id: pathParameter(request, 'id'),
      wait: untilChange(statusWaitSeconds(request)),
      withLogs: wantsLogs(request),
    }),
    encode: (job, { baseUrl }) => statusAnswer(job, baseUrl),
  }),
  on('follow', {
    method: 'GET',
    path: '/v2/requests/:id/events',
    body: 'none',
    decode: (request) => ({ kind: 'follow', id: pathParameter(request, 'id'), after: lastSequence(request) }),
    encode: ({ events }, { baseUrl }) => ({ status: 200, body: { kind: 'events', events: serverSentEvents(events, baseUrl) } }),
  }),
  // The second path is the vendor's older one; its `poll_url` still names it.
  ...['/v2/requests/:id', '/v1/requests/:id'].map((path) =>
    on('read', {
      method: 'GET',
      path,
      body: 'none',
      decode: (request) => ({ kind: 'read', id: pathParameter(request, 'id') }),
      encode: (job, { baseUrl }) => resultAnswer(job, baseUrl),
    }),
  ),
  ...(['POST', 'PUT'] as const).map((method) =>
    on('cancel', {
      method,
      path: '/v2/requests/:id/cancel',
      body: 'none',
      decode: (request) => ({ kind: 'cancel', id: pathParameter(request, 'id') }),
      // 200 in every state: the cancellation was understood, and the body says what became of it.
      encode: (job, { baseUrl }) => json(200, statusBody(job, baseUrl)),
    }),
  ),
  on('purge', {
    method: 'DELETE',
    path: '/v2/requests/:id',
    body: 'none',
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
    body: 'json',
    decode: (request) => submission(request, untilEnd(preferredWaitSeconds(request, HOLD_SECONDS_MAX))),
    encode: submitAnswer,
  }),
  on('submit', {
    method: 'POST',
    path: '/v1/:model{.+}',
    body: 'json',
    decode: (request) => submission(request, untilEnd(syncWaitSeconds(request))),
    encode: syncAnswer,
  }),
];

const native: Dialect = { name: 'native', routes, encodeError, encodeWebhook };
export default native;

function submission(request: WireRequest, wait: Wait | undefined): SubmitOperation {
  return {
    kind: 'submit',
    model: pathParameter(request, 'model'),
    provider: request.header('x-provider') || undefined,
    parameters: modelParameters(request),
    webhookUrl: request.query.get('webhook') ?? undefined,
    webhookMember: 'webhook',
    webhookOptions: optionsInQuery(request),
    webhookOptionMembers: WEBHOOK_OPTION_NAMES,
    wait,
    ...scheduling(request),
    idempotencyKey: request.header('idempotency-key'),
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

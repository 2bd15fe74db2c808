/**
 * fal's wire format: its queue below `/fal/queue`, synchronous calls and their streams below `/fal/run`, uploads and public keys below
 * `/fal/rest`, and one address for clients that name the vendor's in a header, `/fal/proxy`. Sections in comments are of the protocol sheet
 * fal.md.
 *
 * - Models: an id is a name or alias of a model, or `provider/model`. The vendor's clients refuse ids without a slash; `_/` in front of such a
 *   name is dropped here. Paths of requests may have the whole id, or its first two parts: the request is known by its own id.
 * - Honoured headers (section 4): `X-Fal-Request-Start-Timeout` and its older name `X-Fal-Request-Timeout`, `X-Fal-Queue-Priority`,
 *   `X-Fal-No-Retry`, `x-app-fal-disable-fallback`, and `Idempotency-Key`, which the vendor has not.
 * - `X-Fal-Store-IO`: nothing is ever kept for longer than a result, which is what `0` asks for.
 * - Hints, which change nothing: `X-Fal-Runner-Hint` (any worker is as good), `X-Fal-Tags` (labels for the vendor's own accounts),
 *   `X-Fal-Retry-Config` (for one's own apps only). `X-Fal-Object-Lifecycle-Preference` wishes how long files are kept, which here is as long as
 *   the result; but rules about who may read them are refused.
 * - A request that a model cannot take is refused when it is handed in, with what the vendor answers at the result: 422.
 */
import {
  type Answer,
  AppError,
  type Dialect,
  type DialectRoute,
  isTerminal,
  type Job,
  on,
  readQuery,
  type WireRequest,
} from '@claimcheck/core';
import {
  answered,
  CANCEL_ANSWERS,
  errorSchema,
  queuedSchema,
  READ_RESULT_ANSWERS,
  RESULT_ANSWERS,
  RESULT_STREAM_ANSWERS,
  STATUS_ANSWERS,
  STATUS_STREAM_ANSWERS,
} from './_fal-answer-schemas.ts';
import { claimCheck, jobAnswer, resultAnswer, resultEvents, statusAnswer, statusEvents, unfinishedAnswer } from './_fal-answers.ts';
import { encodeError } from './_fal-errors.ts';
import { falProxy } from './_fal-proxy.ts';
import { pathParameter, submission } from './_fal-requests.ts';
import { notOffered, restRoutes } from './_fal-rest.ts';
import { statusQuery, submissionHeaders, submissionQuery } from './_fal-schemas.ts';
import { encodeWebhook, signWebhook } from './_fal-webhook.ts';

/** Node's own client gives up on an answer that has not begun after 300 seconds, and the vendor's would hand in the request again. */
export const RUN_WAIT_SECONDS = 290;

const MODEL = '/fal/queue/:model{.+}';
const REQUEST = `${MODEL}/requests/:id`;
const RUN = '/fal/run/:model{.+}';

const SUBMISSION = { query: submissionQuery, headers: submissionHeaders };

/** Lines of requests stand before those of models, which would take their paths for ids. */
const routes: readonly DialectRoute[] = [
  on('follow', {
    method: 'GET',
    path: `${REQUEST}/status/stream`,
    body: 'none',
    summary: 'Streams the status of a job up to its end.',
    answers: STATUS_STREAM_ANSWERS,
    query: statusQuery,
    decode: (request) => ({ kind: 'follow', id: pathParameter(request, 'id'), after: 0 }),
    encode: (followed, request) => ({
      ...jobAnswer(followed.job, 200, null),
      body: { kind: 'events', events: statusEvents(followed, request.baseUrl, isLogged(request)) },
    }),
  }),
  on('read', {
    method: 'GET',
    path: `${REQUEST}/status`,
    body: 'none',
    summary: 'Tells where a job stands: 202 until it has ended, then 200.',
    answers: STATUS_ANSWERS,
    query: statusQuery,
    decode: (request, { query: { logs } }) => ({ kind: 'read', id: pathParameter(request, 'id'), withLogs: logs }),
    encode: (job, request) => statusAnswer(job, request.baseUrl, isLogged(request)),
  }),
  // The vendor's pages show the second, its queue hands out the first.
  ...[REQUEST, `${REQUEST}/response`].map((path) =>
    on('read', {
      method: 'GET',
      path,
      body: 'none',
      summary: 'Tells what the model made, or the error that the job ended with; 400 before the end.',
      answers: READ_RESULT_ANSWERS,
      decode: (request) => ({ kind: 'read', id: pathParameter(request, 'id') }),
      encode: (job, { baseUrl }) => (isTerminal(job.state) ? resultAnswer(job, baseUrl) : unfinishedAnswer(job)),
    }),
  ),
  on('cancel', {
    method: 'PUT',
    path: `${REQUEST}/cancel`,
    body: 'none',
    summary: 'Cancels a job; 400 when it has ended.',
    answers: CANCEL_ANSWERS,
    decode: (request) => ({ kind: 'cancel', id: pathParameter(request, 'id') }),
    encode: cancelAnswer,
  }),
  notOffered('GET', `${RUN}/realtime`, 'Realtime connections are not offered: use /stream, or the queue.'),
  // Who tells the vendor's client to use GET has the parameters in the address line (section 3).
  ...(['POST', 'GET'] as const).flatMap((method) => [
    on('submit', {
      method,
      path: MODEL,
      body: bodyOf(method),
      summary: 'Hands in a job and tells where to ask for it.',
      answers: answered('The claim check.', queuedSchema),
      ...SUBMISSION,
      decode: submission,
      encode: (job, { baseUrl }) => jobAnswer(job, 200, claimCheck(job, baseUrl)),
    }),
    on('stream', {
      method,
      path: `${RUN}/stream`,
      body: bodyOf(method),
      summary: 'Hands in a job and streams its text so far, at last its result.',
      answers: RESULT_STREAM_ANSWERS,
      ...SUBMISSION,
      decode: (request, values) => ({ kind: 'stream', submission: submission(request, values) }),
      encode: (followed, { baseUrl }) => ({
        ...jobAnswer(followed.job, 200, null),
        body: { kind: 'events', events: resultEvents(followed, baseUrl) },
      }),
    }),
    on('submit', {
      method,
      path: RUN,
      body: bodyOf(method),
      summary: 'Hands in a job and waits for what the model makes.',
      answers: RESULT_ANSWERS,
      ...SUBMISSION,
      decode: (request, values) => ({ ...submission(request, values), wait: { until: 'end', seconds: RUN_WAIT_SECONDS } }),
      encode: runAnswer,
    }),
  ]),
  ...restRoutes,
  ...(['GET', 'POST'] as const).map((method) =>
    notOffered(method, '/fal/api/:path{.+}', 'Accounts, usage and prices of the vendor are not offered; GET /v1/models lists the models.'),
  ),
];

const fal: Dialect = {
  name: 'fal',
  about: {
    title: 'fal',
    description: 'The queue, runs that are waited for or streamed, and files. The README says what to set in the client.',
    documentationUrl: 'https://docs.fal.ai',
  },
  paths: ['/fal'],
  routes,
  proxy: falProxy,
  encodeError,
  errorSchema,
  encodeWebhook,
  signWebhook,
};
export default fal;

/** Of a request that was read by {@link statusQuery}. */
function isLogged(request: WireRequest): boolean {
  return readQuery(request, statusQuery).logs;
}

function bodyOf(method: 'GET' | 'POST'): DialectRoute['body'] {
  return method === 'GET' ? 'none' : 'optional json';
}

/** 202 also for one that was cancelled before: asking twice is no mistake (section 6). */
function cancelAnswer(job: Job): Answer {
  const isLate = job.state === 'COMPLETED' || job.state === 'FAILED';
  return isLate ? jobAnswer(job, 400, { status: 'ALREADY_COMPLETED' }) : jobAnswer(job, 202, { status: 'CANCELLATION_REQUESTED' });
}

function runAnswer(job: Job, { baseUrl }: WireRequest): Answer {
  if (isTerminal(job.state)) return resultAnswer(job, baseUrl);
  const { response_url: url } = claimCheck(job, baseUrl);
  const message = `The request did not end within ${RUN_WAIT_SECONDS} seconds and goes on. Fetch its result at ${url}.`;
  throw new AppError('wait_timeout', message, { requestId: job.id });
}

/**
 * Replicate's wire format below `/replicate/v1`: predictions with their streams, files, models, and the secret of webhooks. Sections in comments
 * are of the protocol sheet replicate.md.
 *
 * - Models: `owner/name` is a name or alias of a model, or a provider and one; `_` stands for the owner of a name that has none. A deployment is
 *   a model by its name. Versions are names and aliases too.
 * - Honoured headers (section 2): `Prefer: wait`, `Cancel-After`, and `Idempotency-Key`, which the vendor has not.
 * - Webhooks are signed as Standard Webhooks, which is the vendor's way (section 7): the service's own signature is the one its clients check.
 */
import {
  type Answer,
  absent,
  type Dialect,
  type DialectRoute,
  type Job,
  on,
  type WebhookMessage,
  type WireRequest,
} from '@claimcheck/core';
import { answered, errorSchema, pageSchema, predictionSchema, secretSchema, streamSchema } from './_replicate-answer-schemas.ts';
import { encodeError } from './_replicate-errors.ts';
import { fileRoutes } from './_replicate-files.ts';
import { modelRoutes } from './_replicate-models.ts';
import { BASE, predictionBody } from './_replicate-prediction.ts';
import { modelInPath, modelOfVersion, pageBody, pathParameter, predictionPage, submission, waitSeconds } from './_replicate-requests.ts';
import { predictionQuery, submissionByVersionMembers, submissionHeaders, submissionMembers } from './_replicate-schemas.ts';
import { streamEvents } from './_replicate-stream.ts';

const OF_VENDOR = "it is about the vendor's accounts, machines or trainings";

const CREATED = answered('The prediction; with `Prefer: wait` when it has ended, or `starting` after that time.', predictionSchema, 201);

/** Lines with more path behind a model's name stand before those with the name alone, which would take it for a part of that. */
const routes: readonly DialectRoute[] = [
  on('submit', {
    method: 'POST',
    path: `${BASE}/predictions`,
    body: 'json',
    summary: 'Makes a prediction by the version that the body names.',
    headers: submissionHeaders,
    members: submissionByVersionMembers,
    answers: CREATED,
    decode: (request, values) => ({
      ...submission(request, values, modelOfVersion(values.members.version)),
      modelPointer: '/version',
    }),
    encode: createdAnswer,
  }),
  ...['models', 'deployments'].map((kind) =>
    on('submit', {
      method: 'POST',
      path: `${BASE}/${kind}/:model{.+}/predictions`,
      body: 'json',
      summary: 'Makes a prediction.',
      headers: submissionHeaders,
      members: submissionMembers,
      answers: CREATED,
      decode: (request, values) => submission(request, values, modelInPath(request)),
      encode: createdAnswer,
    }),
  ),
  on('list', {
    method: 'GET',
    path: `${BASE}/predictions`,
    body: 'none',
    summary: 'Lists own predictions, newest first.',
    query: predictionQuery,
    answers: answered('A page of predictions.', pageSchema(predictionSchema)),
    decode: (_request, { query }) => ({ kind: 'list', ...predictionPage(query) }),
    encode: ({ jobs, nextCursor }, request) => {
      const predictions = jobs.map((job) => prediction(job, request));
      return json(200, pageBody(predictions, nextCursor, request));
    },
  }),
  on('cancel', {
    method: 'POST',
    path: `${BASE}/predictions/:id/cancel`,
    body: 'none',
    answers: answered('The prediction, also one that had ended before.', predictionSchema),
    decode: (request) => ({ kind: 'cancel', id: pathParameter(request, 'id') }),
    // Harmless after the end: the prediction says what became of it.
    encode: (job, request) => json(200, prediction(job, request)),
  }),
  on('read', {
    method: 'GET',
    path: `${BASE}/predictions/:id`,
    body: 'none',
    answers: answered('The prediction.', predictionSchema),
    decode: (request) => ({ kind: 'read', id: pathParameter(request, 'id'), withLogs: true }),
    encode: (job, request) => json(200, prediction(job, request)),
  }),
  on('followByToken', {
    method: 'GET',
    path: `${BASE}/streams/:token`,
    body: 'none',
    answers: { 200: { description: 'Output and logs as they come, and the end.', contentType: 'text/event-stream', schema: streamSchema } },
    decode: (request) => ({ kind: 'followByToken', token: pathParameter(request, 'token') }),
    encode: (followed, { baseUrl }) => ({ status: 200, body: { kind: 'events', events: streamEvents(followed, baseUrl) } }),
  }),
  on('readWebhookSecret', {
    method: 'GET',
    path: `${BASE}/webhooks/default/secret`,
    body: 'none',
    answers: answered('The secret.', secretSchema),
    decode: () => ({ kind: 'readWebhookSecret' }),
    encode: ({ secret }) => json(200, { key: secret }),
  }),
  ...fileRoutes,
  // What belongs to the vendor's accounts, its machines, and models that are made there (section 1).
  ...(['GET', 'POST'] as const).flatMap((method) =>
    ['trainings', 'deployments'].map((path) => absent(method, `${BASE}/${path}`, OF_VENDOR)),
  ),
  absent('GET', `${BASE}/trainings/:id`, OF_VENDOR),
  absent('POST', `${BASE}/trainings/:id/cancel`, OF_VENDOR),
  absent('POST', `${BASE}/models/:model{.+}/versions/:version/trainings`, OF_VENDOR),
  ...(['GET', 'PATCH', 'DELETE'] as const).map((method) => absent(method, `${BASE}/deployments/:owner/:name`, OF_VENDOR)),
  ...['hardware', 'account', 'collections', 'collections/:slug'].map((path) => absent('GET', `${BASE}/${path}`, OF_VENDOR)),
  ...modelRoutes,
  absent('POST', `${BASE}/models`, OF_VENDOR),
  absent('DELETE', `${BASE}/models/:model{.+}`, OF_VENDOR),
];

const replicate: Dialect = {
  name: 'replicate',
  about: {
    title: 'Replicate',
    description: 'Predictions with their streams, files, models, and the secret of webhooks. Set `/replicate/v1` as the base URL.',
    documentationUrl: 'https://replicate.com/docs/reference/http',
  },
  paths: ['/replicate'],
  routes,
  encodeError,
  errorSchema,
  encodeWebhook,
  webhookTellsLogs: true,
};
export default replicate;

/** 201 whether or not the output is there: so it was always seen (section 3). */
function createdAnswer(job: Job, request: WireRequest): Answer {
  const waited = waitSeconds(request);
  const answer = json(201, prediction(job, request, waited !== undefined));
  return waited === undefined ? answer : { ...answer, headers: { 'preference-applied': `wait=${waited}` } };
}

function prediction(job: Job, { baseUrl, followToken }: WireRequest, isHeld = false) {
  return predictionBody(job, { baseUrl, isHeld, followToken: followToken?.(job) });
}

/** The prediction at that moment (section 7). No stream is told of: who is called has no need of it. */
function encodeWebhook(job: Job): WebhookMessage {
  return { contentType: 'application/json', body: JSON.stringify(predictionBody(job, { baseUrl: job.baseUrl })) };
}

function json(status: number, value: unknown): Answer {
  return { status, body: { kind: 'json', value } };
}

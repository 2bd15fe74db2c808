/**
 * OpenAI's wire format, and that of Lumenfall, which speaks it too: pictures and words while the client waits or as a stream, videos and
 * background responses as jobs. "Sheet" in the parts means protocols/openai.md and protocols/lumenfall.md. Here are the routes.
 *
 * Lumenfall's pages write both `/openai/v1` and `/v1`, so everything is served below both, but what the native format has at `/v1` already:
 * the list of models, and requests by their bare ids.
 */
import {
  type Answer,
  AppError,
  absent,
  type Dialect,
  type DialectRoute,
  type Followed,
  type Job,
  on,
  readMembers,
  readQuery,
  type ServerSentEvent,
  type SubmitOperation,
  type WireRequest,
} from '@claimcheck/core';
import { balanceAnswer, quoteAnswer, requestBody, requestFilter, requestListAnswer } from './_openai-account.ts';
import { chunks, completionAnswer, fitChat } from './_openai-chat.ts';
import { encodeError } from './_openai-errors.ts';
import { ID_PREFIXES, jobIdOf } from './_openai-ids.ts';
import { fitEdit, fitGeneration, HELD_SECONDS, pictureEvents, picturesAnswer } from './_openai-images.ts';
import { modelAnswer, modelList } from './_openai-models.ts';
import {
  contentQuery,
  modelQuery,
  requestsQuery,
  responseMembers,
  responseQuery,
  streamMembers,
  submissionHeaders,
  submissionQuery,
  videoMembers,
  videosQuery,
} from './_openai-queries.ts';
import { refuseOtherFilters, submission } from './_openai-requests.ts';
import { RESPONSE, RESPONSE_DELETED, RESPONSE_OR_EVENTS, RESPONSE_OR_MORE } from './_openai-response-schemas.ts';
import { createdAnswer, fitResponse, isInBackground, responseAnswer, responseEvents } from './_openai-responses.ts';
import {
  COMPLETION_OR_MORE,
  CONTENT,
  PICTURES_OR_MORE,
  VIDEO,
  VIDEO_DELETED,
  VIDEO_LIST,
  VIDEO_OR_PRICE,
} from './_openai-result-schemas.ts';
import { BALANCE, errorSchema, MODEL, MODEL_LIST, REQUEST, REQUEST_DELETED, REQUEST_LIST, SECRET } from './_openai-schemas.ts';
import { contentAnswer, encodeWebhook, fitVideo, videoBody, videoList } from './_openai-videos.ts';

const HELD = { until: 'end', seconds: HELD_SECONDS } as const;

/** What a submission's line says; whether it is a quote or a stream says the request. */
interface SubmitLine {
  readonly path: string;
  readonly body: 'json' | 'json or form';
  readonly summary: string;
  /** What is said of the body in the description of the API. */
  readonly ownMembers: DialectRoute['ownMembers'];
  readonly answers: DialectRoute['answers'];
  readonly decode: (request: WireRequest) => SubmitOperation;
  readonly encode: (job: Job, request: WireRequest) => Answer;
  /** What is sent for `stream: true`; without it that is refused. */
  readonly events?: (followed: Followed, request: WireRequest) => AsyncIterable<ServerSentEvent>;
}

/** One line for the three things that the same address can be asked for: the result, a stream of it, and its price. */
function submitLine({ path, body, summary, ownMembers, answers, decode, encode, events }: SubmitLine): DialectRoute {
  const schemas = { query: submissionQuery, headers: submissionHeaders, ...(ownMembers && { ownMembers }) };
  const line = { method: 'POST', path, body, summary, answers, ...schemas } as const;
  const result = on('submit', { ...line, decode, encode });
  const quote = on('quote', {
    ...line,
    decode: (request) => ({ kind: 'quote', submission: decode(request) }),
    encode: quoteAnswer,
  });
  const stream =
    events &&
    on('stream', {
      ...line,
      decode: (request) => {
        const { wait: _wait, ...rest } = decode(request);
        return { kind: 'stream', submission: rest };
      },
      encode: (followed, request) => eventsAnswer(events(followed, request)),
    });
  const chosen = (request: WireRequest): DialectRoute => {
    if (readQuery(request, submissionQuery).dryRun) return quote;
    if (!readMembers(request, streamMembers).stream) return result;
    if (stream) return stream;
    const message = 'must be false: this endpoint has no stream';
    throw new AppError('invalid_parameters', `stream ${message}.`, { problems: [{ pointer: '/stream', message }] });
  };
  return eitherOf(result, chosen);
}

/** A line that does what `choose` says for the request; `usual` says the rest about it. */
function eitherOf(usual: DialectRoute, choose: (request: WireRequest) => DialectRoute): DialectRoute {
  return {
    ...usual,
    decode: (request) => choose(request).decode(request),
    encode: (outcome, request) => choose(request).encode(outcome, request),
  };
}

const OF_ACCOUNTS = "it is about the vendor's accounts, or no job";

function imageLines(base: string): readonly DialectRoute[] {
  const line = (path: string, body: SubmitLine['body'], fit: SubmitOperation['fit'], kind: 'image_generation' | 'image_edit') =>
    submitLine({
      path: `${base}/images/${path}`,
      body,
      summary: 'Makes pictures, and waits for them.',
      ownMembers: streamMembers,
      answers: PICTURES_OR_MORE,
      decode: (request) => submission(request, { fit, wait: HELD }),
      encode: picturesAnswer,
      events: (followed, request) => pictureEvents(followed, request, kind),
    });
  return [
    line('generations', 'json', fitGeneration, 'image_generation'),
    line('edits', 'json or form', fitEdit, 'image_edit'),
    line('variations', 'json or form', fitEdit, 'image_edit'),
  ];
}

function videoLines(base: string): readonly DialectRoute[] {
  const videoAnswer = (status: number) => (job: Job, request: WireRequest) => json(videoBody(job, request.baseUrl), status);
  return [
    submitLine({
      path: `${base}/videos`,
      body: 'json or form',
      summary: 'Hands in a job, and tells it as a video.',
      ownMembers: videoMembers,
      answers: VIDEO_OR_PRICE,
      decode: (request) => submission(request, { fit: fitVideo, webhookMember: 'webhook_url' }),
      // Lumenfall's code; OpenAI's clients take any 2xx.
      encode: videoAnswer(202),
    }),
    on('list', {
      method: 'GET',
      path: `${base}/videos`,
      body: 'none',
      summary: 'Lists the jobs as videos, newest first.',
      query: videosQuery,
      answers: VIDEO_LIST,
      decode: (_request, { query: { limit, after } }) => ({ kind: 'list', limit, ...(after !== undefined && { cursor: after }) }),
      encode: (page, { baseUrl }) => json(videoList(page, baseUrl)),
    }),
    ...['edits', 'extensions', 'characters', ':id/remix'].map((path) => absent('POST', `${base}/videos/${path}`, OF_ACCOUNTS)),
    on('read', {
      method: 'GET',
      path: `${base}/videos/:id/content`,
      body: 'none',
      summary: 'Sends the file.',
      query: contentQuery,
      answers: CONTENT,
      decode: (request) => ({ kind: 'read', id: jobIdOf(request) }),
      encode: contentAnswer,
    }),
    on('read', {
      method: 'GET',
      path: `${base}/videos/:id`,
      body: 'none',
      summary: 'Tells a job as a video.',
      answers: VIDEO,
      decode: (request) => ({ kind: 'read', id: jobIdOf(request) }),
      encode: videoAnswer(200),
    }),
    // To Lumenfall this is how a video is cancelled, to OpenAI how it is removed.
    on('discard', {
      method: 'DELETE',
      path: `${base}/videos/:id`,
      body: 'none',
      summary: 'Cancels a job that runs, and removes one that has ended.',
      answers: VIDEO_DELETED,
      decode: (request) => ({ kind: 'discard', id: jobIdOf(request) }),
      encode: ({ id }) => json({ id: `${ID_PREFIXES.video}${id}`, object: 'video.deleted', deleted: true }),
    }),
  ];
}

function responseLines(base: string): readonly DialectRoute[] {
  const path = `${base}/responses/:id`;
  const read = on('read', {
    method: 'GET',
    path,
    body: 'none',
    summary: 'Tells a job as a response, or streams its events.',
    query: responseQuery,
    answers: RESPONSE_OR_EVENTS,
    decode: (request) => ({ kind: 'read', id: jobIdOf(request) }),
    encode: (job, { baseUrl }) => responseAnswer(job, baseUrl),
  });
  const follow = on('follow', {
    method: 'GET',
    path,
    body: 'none',
    decode: (request) => ({ kind: 'follow', id: jobIdOf(request), after: 0 }),
    encode: (followed, request) => {
      const { starting_after: after } = readQuery(request, responseQuery);
      return eventsAnswer(responseEvents(followed, request.baseUrl, true, after));
    },
  });
  return [
    submitLine({
      path: `${base}/responses`,
      body: 'json',
      summary: 'Makes words or pictures: waits for them, or hands in a job.',
      ownMembers: responseMembers,
      answers: RESPONSE_OR_MORE,
      decode: (request) => submission(request, { fit: fitResponse, ...(!isInBackground(request) && { wait: HELD }) }),
      encode: createdAnswer,
      events: (followed, request) => responseEvents(followed, request.baseUrl, isInBackground(request)),
    }),
    on('cancel', {
      method: 'POST',
      path: `${path}/cancel`,
      body: 'none',
      summary: 'Cancels a job.',
      answers: RESPONSE,
      decode: (request) => ({ kind: 'cancel', id: jobIdOf(request) }),
      encode: (job, { baseUrl }) => responseAnswer(job, baseUrl),
    }),
    eitherOf(read, (request) => (readQuery(request, responseQuery).stream ? follow : read)),
    on('purge', {
      method: 'DELETE',
      path,
      body: 'none',
      summary: 'Removes a job, which is cancelled first.',
      answers: RESPONSE_DELETED,
      decode: (request) => ({ kind: 'purge', id: jobIdOf(request) }),
      encode: ({ id }) => json({ id: `${ID_PREFIXES.response}${id}`, object: 'response', deleted: true }),
    }),
  ];
}

/** `requestPath` leaves the bare ids below `/v1/requests` to the native format. */
function accountLines(base: string, requestPath: string): readonly DialectRoute[] {
  return [
    on('readCaller', {
      method: 'GET',
      path: `${base}/balance`,
      body: 'none',
      summary: 'Says that there is no money here.',
      answers: BALANCE,
      decode: () => ({ kind: 'readCaller' }),
      encode: balanceAnswer,
    }),
    on('list', {
      method: 'GET',
      path: `${base}/requests`,
      body: 'none',
      summary: 'Lists the jobs as requests, newest first.',
      query: requestsQuery,
      answers: REQUEST_LIST,
      decode: (request, { query }) => {
        refuseOtherFilters(request);
        const { limit, starting_after: cursor } = query;
        return { kind: 'list', limit, ...(cursor !== undefined && { cursor }), ...requestFilter(query) };
      },
      encode: requestListAnswer,
    }),
    on('purge', {
      method: 'DELETE',
      path: `${base}/requests/:id/payloads`,
      body: 'none',
      summary: 'Removes a job with all that it has made.',
      answers: REQUEST_DELETED,
      decode: (request) => ({ kind: 'purge', id: jobIdOf(request) }),
      encode: ({ id }) => json({ id: `${ID_PREFIXES.request}${id}`, object: 'request', deleted: true }),
    }),
    on('read', {
      method: 'GET',
      path: `${base}${requestPath}`,
      body: 'none',
      summary: 'Tells a job as a request.',
      answers: REQUEST,
      decode: (request) => ({ kind: 'read', id: jobIdOf(request) }),
      encode: (job) => json(requestBody(job)),
    }),
    on('readWebhookSecret', {
      method: 'GET',
      path: `${base}/webhooks/secret`,
      body: 'none',
      summary: 'Tells what webhooks are signed with.',
      answers: SECRET,
      decode: () => ({ kind: 'readWebhookSecret' }),
      encode: ({ secret }) => json({ key: secret }),
    }),
    ...(['GET', 'POST'] as const).map((method) => absent(method, `${base}/webhook_endpoints`, OF_ACCOUNTS)),
    ...(['GET', 'POST', 'DELETE'] as const).map((method) => absent(method, `${base}/webhook_endpoints/:id`, OF_ACCOUNTS)),
    ...['rotate_secret', 'test'].map((path) => absent('POST', `${base}/webhook_endpoints/:id/${path}`, OF_ACCOUNTS)),
  ];
}

function chatLine(base: string): DialectRoute {
  return submitLine({
    path: `${base}/chat/completions`,
    body: 'json',
    summary: 'Answers in words.',
    ownMembers: streamMembers,
    answers: COMPLETION_OR_MORE,
    decode: (request) => submission(request, { fit: fitChat, wait: HELD }),
    encode: completionAnswer,
    events: chunks,
  });
}

function linesBelow(base: string, requestPath: string): readonly DialectRoute[] {
  return [...imageLines(base), ...videoLines(base), ...responseLines(base), chatLine(base), ...accountLines(base, requestPath)];
}

const modelLines: readonly DialectRoute[] = [
  on('listModels', {
    method: 'GET',
    path: '/openai/v1/models',
    body: 'none',
    summary: 'Lists the models.',
    answers: MODEL_LIST,
    decode: () => ({ kind: 'listModels' }),
    encode: modelList,
  }),
  on('readModel', {
    method: 'GET',
    path: '/openai/v1/models/:model{.+}',
    body: 'none',
    summary: 'Tells a model.',
    query: modelQuery,
    answers: MODEL,
    decode: ({ params }) => ({ kind: 'readModel', name: params.model ?? '' }),
    encode: modelAnswer,
  }),
];

const openai: Dialect = {
  name: 'openai',
  paths: ['/openai', ...['images', 'videos', 'responses', 'chat', 'balance', 'webhooks', 'webhook_endpoints'].map((path) => `/v1/${path}`)],
  about: {
    title: 'OpenAI and Lumenfall',
    description:
      'Pictures and words while the client waits or as a stream, videos and background responses as jobs. Set `/openai/v1` as the base URL.',
    documentationUrl: 'https://platform.openai.com/docs/api-reference',
  },
  routes: [...linesBelow('/openai/v1', '/requests/:id'), ...linesBelow('/v1', '/requests/:id{req_[^/]+}'), ...modelLines],
  encodeError,
  errorSchema,
  encodeWebhook,
};
export default openai;

function eventsAnswer(events: AsyncIterable<ServerSentEvent>): Answer {
  return { status: 200, body: { kind: 'events', events } };
}

function json(value: unknown, status = 200): Answer {
  return { status, body: { kind: 'json', value } };
}

/**
 * inference.sh's wire format: apps are run as tasks, which are followed by streams of lines or of events, polled, and cancelled; files are handed
 * in beforehand. "Sheet" in the parts means protocols/inference-sh.md. Here are the routes.
 *
 * Everything is served with `/v1` in front, too, as older documents have it (sheet, section 1).
 */
import { type Answer, AppError, absent, type Dialect, type DialectRoute, type Followed, on, type WireRequest } from '@claimcheck/core';
import { appBody, appPage } from './_inference-sh-apps.ts';
import { answer, encodeError } from './_inference-sh-envelope.ts';
import { announcementOf, fileBody } from './_inference-sh-files.ts';
import { pageBody, pageQuery, runOf, searchQuery, taskQuery, waits } from './_inference-sh-requests.ts';
import { oneSession, sessionList } from './_inference-sh-sessions.ts';
import { hasSeenEnd, taskEvents, taskLines } from './_inference-sh-stream.ts';
import { encodeWebhook, logsBody, receivedTask, statusBody, taskFiles, taskResult, timingsBody, wholeTask } from './_inference-sh-tasks.ts';

/** The rest of the vendor's platform, or what needs more than a queue of jobs. */
const OF_PLATFORM = "it is about the rest of the vendor's platform";

function idOf({ params }: WireRequest): string {
  return params.id ?? '';
}

function runLines(base: string): readonly DialectRoute[] {
  return ['/apps/run', '/run'].map((path) =>
    on('submit', {
      method: 'POST',
      path: `${base}${path}`,
      body: 'json',
      decode: runOf,
      encode: (job, request) => answer(waits(request) ? taskResult(job) : receivedTask(job), request),
    }),
  );
}

function taskLinesBelow(base: string): readonly DialectRoute[] {
  const path = `${base}/tasks/:id`;
  const read = { method: 'GET', body: 'none', decode: (request: WireRequest) => ({ kind: 'read' as const, id: idOf(request) }) } as const;
  const readWithLogs = { ...read, decode: (request: WireRequest) => ({ ...read.decode(request), withLogs: true }) };
  return [
    on('list', {
      method: 'POST',
      path: `${base}/tasks/list`,
      body: 'optional json',
      decode: (request) => ({ kind: 'list', ...taskQuery(request) }),
      encode: ({ jobs, nextCursor }, request) =>
        answer(
          pageBody(
            jobs.map((job) => wholeTask(job)),
            nextCursor,
            taskQuery(request),
          ),
          request,
        ),
    }),
    absent('GET', `${base}/tasks/featured`, OF_PLATFORM),
    on('read', { ...readWithLogs, path, encode: (job, request) => answer(wholeTask(job), request) }),
    on('read', {
      ...read,
      path: `${path}/status`,
      summary: 'Tells where a task stands.',
      encode: (job, request) => answer(statusBody(job), request),
    }),
    on('read', {
      ...readWithLogs,
      path: `${path}/logs`,
      summary: 'Tells what a task has printed.',
      encode: (job, request) => answer(logsBody(job), request),
    }),
    on('read', {
      ...read,
      path: `${path}/timings`,
      summary: 'Tells how long the steps of a task took.',
      encode: (job, request) => answer(timingsBody(job), request),
    }),
    on('read', {
      ...read,
      path: `${path}/files`,
      summary: 'Lists the files that a task has made.',
      encode: (job, request) => answer(filesOfRole(taskFiles(job), request), request),
    }),
    on('follow', {
      method: 'GET',
      path: `${path}/stream`,
      body: 'none',
      // From the first event, for what was printed and written before.
      decode: (request) => ({ kind: 'follow', id: idOf(request), after: 0 }),
      encode: streamAnswer,
    }),
    on('cancel', {
      method: 'POST',
      path: `${path}/cancel`,
      body: 'none',
      decode: (request) => ({ kind: 'cancel', id: idOf(request) }),
      // Of one that has ended it changes nothing, and says what became of it (sheet, section 10).
      encode: (job, request) => answer({ ...taskResult(job), cancelled: job.state === 'CANCELLED' }, request),
    }),
    on('purge', {
      method: 'DELETE',
      path,
      body: 'none',
      decode: (request) => ({ kind: 'purge', id: idOf(request) }),
      encode: ({ id }, request) => answer({ id, deleted: true }, request),
    }),
    absent('GET', `${path}/telemetry`, OF_PLATFORM),
    absent('DELETE', `${path}/files`, OF_PLATFORM),
    absent('POST', `${path}/visibility`, OF_PLATFORM),
    absent('POST', `${path}/featured`, OF_PLATFORM),
  ];
}

/** Files of inputs are where they came from. @throws AppError for a role that no file has. */
function filesOfRole(files: readonly object[], { query }: WireRequest): readonly object[] {
  const role = query.get('role') || 'output';
  if (role === 'output') return files;
  throw new AppError('invalid_request', `role must be output, not ${JSON.stringify(role)}: only what a task has made is listed.`, {
    problems: [{ pointer: '/role', message: 'must be output' }],
  });
}

/** Sheet, section 6: lines for those who ask for them, and events for all others. */
function streamAnswer(followed: Followed, request: WireRequest): Answer {
  if (request.header('accept')?.includes('application/x-ndjson'))
    return { status: 200, body: { kind: 'lines', lines: taskLines(followed), heartbeat: { type: 'heartbeat' } } };
  // To a browser this says that it need not come back.
  if (hasSeenEnd(followed, request.header('last-event-id'))) return { status: 204, body: { kind: 'empty' } };
  return { status: 200, body: { kind: 'events', events: taskEvents(followed) } };
}

function fileLines(base: string): readonly DialectRoute[] {
  const path = `${base}/files`;
  return [
    on('createUploads', {
      method: 'POST',
      path,
      body: 'json',
      decode: announcementOf,
      encode: (uploads, request) =>
        answer(
          uploads.map((upload) => fileBody(upload, request.baseUrl)),
          request,
        ),
    }),
    on('listUploads', {
      method: 'POST',
      path: `${path}/list`,
      body: 'optional json',
      decode: (request) => ({ kind: 'listUploads', ...pageQuery(request) }),
      encode: ({ uploads, nextCursor }, request) => {
        const items = uploads.map((upload) => fileBody(upload, request.baseUrl));
        return answer(pageBody(items, nextCursor, pageQuery(request)), request);
      },
    }),
    on('readUpload', {
      method: 'GET',
      path: `${path}/:id`,
      body: 'none',
      decode: (request) => ({ kind: 'readUpload', id: idOf(request) }),
      encode: (upload, request) => answer(fileBody(upload, request.baseUrl), request),
    }),
    on('deleteUpload', {
      method: 'DELETE',
      path: `${path}/:id`,
      body: 'none',
      decode: (request) => ({ kind: 'deleteUpload', id: idOf(request) }),
      encode: ({ id }, request) => answer({ id, deleted: true }, request),
    }),
  ];
}

/** So many of the newest tasks are looked through, which is as many as a page can have. */
const SESSION_TASKS_MAX = 100;

function sessionLines(base: string): readonly DialectRoute[] {
  const path = `${base}/sessions/:id`;
  const ofSession = {
    body: 'none',
    decode: (request: WireRequest) => ({ kind: 'list' as const, limit: SESSION_TASKS_MAX, sessionId: idOf(request) }),
  } as const;
  return [
    on('list', {
      method: 'GET',
      path: `${base}/sessions`,
      body: 'none',
      summary: 'Lists the sessions of the newest tasks.',
      decode: () => ({ kind: 'list', limit: SESSION_TASKS_MAX }),
      encode: (page, request) => answer(sessionList(page), request),
    }),
    on('list', {
      ...ofSession,
      method: 'GET',
      path,
      summary: 'Tells of one session.',
      encode: (page, request) => answer(oneSession(page, request), request),
    }),
    on('list', {
      ...ofSession,
      method: 'POST',
      path: `${path}/keepalive`,
      summary: 'Tells of one session, which needs nothing to be kept alive.',
      encode: (page, request) => answer(oneSession(page, request), request),
    }),
    on('list', {
      ...ofSession,
      method: 'DELETE',
      path,
      summary: 'Ends a session, of which nothing is kept; its tasks stay.',
      // Nothing is kept for a session, so nothing is left to free; its tasks stay.
      encode: (page, request) => {
        oneSession(page, request);
        return { status: 204, body: { kind: 'empty' } };
      },
    }),
  ];
}

function appLines(base: string): readonly DialectRoute[] {
  return [
    on('listModels', {
      method: 'POST',
      path: `${base}/apps/list`,
      body: 'optional json',
      decode: (request) => {
        searchQuery(request);
        return { kind: 'listModels' };
      },
      encode: (listings, request) => answer(appPage(listings, searchQuery(request)), request),
    }),
    on('readModel', {
      method: 'GET',
      path: `${base}/apps/:name{.+}`,
      body: 'none',
      decode: ({ params }) => ({ kind: 'readModel', name: params.name ?? '' }),
      encode: (listing, request) => answer(appBody(listing), request),
    }),
    absent('POST', `${base}/apps`, OF_PLATFORM),
    ...(['POST', 'PUT', 'DELETE'] as const).map((method) => absent(method, `${base}/apps/:name{.+}`, OF_PLATFORM)),
  ];
}

/** Beginnings of paths of what is served. Without a base, `/files` has the service's own files as well: errors below it are not all the vendor's. */
const SERVED = ['apps', 'run', 'tasks', 'sessions'];

/** The rest of the platform: chats, what is built of apps, machines, accounts. */
const ABSENT = [
  'agents',
  'agent-runs',
  'apikeys',
  'artifacts',
  'billing',
  'chats',
  'credentials',
  'engines',
  'entitlements',
  'events',
  'flowruns',
  'flows',
  'integrations',
  'knowledge',
  'mcp-servers',
  'projects',
  'secrets',
  'skills',
  'sockets',
  'teams',
];

const area = `/:area{(?:${ABSENT.join('|')})}`;
const absentLines = [area, `${area}/:rest{.+}`].flatMap((path) =>
  (['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const).map((method) => absent(method, path, OF_PLATFORM)),
);

const bases = ['', '/v1'];

const inferenceSh: Dialect = {
  name: 'inference-sh',
  about: {
    title: 'inference.sh',
    description:
      'Apps are run as tasks, which are followed by streams, polled and cancelled. Set the address of this service as the base URL.',
    documentationUrl: 'https://inference.sh/docs',
  },
  paths: [...bases.flatMap((base) => SERVED.map((name) => `${base}/${name}`)), '/v1/files', ...ABSENT.map((name) => `/${name}`)],
  routes: [
    ...bases.flatMap((base) => [...runLines(base), ...taskLinesBelow(base), ...fileLines(base), ...sessionLines(base), ...appLines(base)]),
    ...absentLines,
  ],
  encodeError,
  encodeWebhook,
};
export default inferenceSh;

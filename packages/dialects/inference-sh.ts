/**
 * inference.sh's wire format: apps are run as tasks, which are followed by streams of lines or of events, polled, and cancelled; files are handed
 * in beforehand. "Sheet" in the parts means protocols/inference-sh.md. Here are the routes.
 *
 * Everything is served with `/v1` in front, too, as older documents have it (sheet, section 1).
 */
import { type Answer, absent, type Dialect, type DialectRoute, type Followed, on, readHeaders, type WireRequest } from '@claimcheck/core';
import { z } from 'zod';
import { appBody, appPage } from './_inference-sh-apps.ts';
import { answer, encodeError } from './_inference-sh-envelope.ts';
import { announcementOf, fileBody } from './_inference-sh-files.ts';
import {
  announcementMembers,
  filesQuery,
  pageMembers,
  runHeaders,
  runMembers,
  searchMembers,
  streamHeaders,
  taskListMembers,
} from './_inference-sh-request-schemas.ts';
import { pageBody, pageQuery, runOf, searchQuery, taskQuery, waits } from './_inference-sh-requests.ts';
import {
  answered,
  appPageSchema,
  appSchema,
  cancelledSchema,
  deletedSchema,
  errorSchema,
  filePageSchema,
  fileSchema,
  HEARTBEAT,
  runSchema,
  sessionSchema,
  streamAnswers,
  taskFilesSchema,
  taskLogsSchema,
  taskPageSchema,
  taskSchema,
  taskStatusSchema,
  timingsSchema,
} from './_inference-sh-schemas.ts';
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
      ...answered('The task as it was taken; with `wait` as it is then.', runSchema),
      headers: runHeaders,
      ownMembers: runMembers,
      decode: (request, { headers }) => runOf(request, headers['Idempotency-Key']),
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
      summary: 'Lists own tasks, newest first.',
      ...answered('A page of tasks.', taskPageSchema),
      ownMembers: taskListMembers,
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
    on('read', {
      ...readWithLogs,
      path,
      ...answered('The task.', taskSchema),
      encode: (job, request) => answer(wholeTask(job), request),
    }),
    on('read', {
      ...read,
      path: `${path}/status`,
      summary: 'Tells where a task stands.',
      ...answered('Where it stands.', taskStatusSchema),
      encode: (job, request) => answer(statusBody(job), request),
    }),
    on('read', {
      ...readWithLogs,
      path: `${path}/logs`,
      summary: 'Tells what a task has printed.',
      ...answered('What it has printed, and the steps it took.', taskLogsSchema),
      encode: (job, request) => answer(logsBody(job), request),
    }),
    on('read', {
      ...read,
      path: `${path}/timings`,
      summary: 'Tells how long the steps of a task took.',
      ...answered('The steps that have ended.', timingsSchema),
      encode: (job, request) => answer(timingsBody(job), request),
    }),
    on('read', {
      ...read,
      path: `${path}/files`,
      summary: 'Lists the files that a task has made.',
      ...answered('The files.', taskFilesSchema),
      query: filesQuery,
      encode: (job, request) => answer(taskFiles(job), request),
    }),
    on('follow', {
      method: 'GET',
      path: `${path}/stream`,
      body: 'none',
      headers: streamHeaders,
      answers: streamAnswers,
      // From the first event, for what was printed and written before.
      decode: (request) => ({ kind: 'follow', id: idOf(request), after: 0 }),
      encode: streamAnswer,
    }),
    on('cancel', {
      method: 'POST',
      path: `${path}/cancel`,
      body: 'none',
      ...answered('What became of it.', cancelledSchema),
      decode: (request) => ({ kind: 'cancel', id: idOf(request) }),
      // Of one that has ended it changes nothing, and says what became of it (sheet, section 10).
      encode: (job, request) => answer({ ...taskResult(job), cancelled: job.state === 'CANCELLED' }, request),
    }),
    on('purge', {
      method: 'DELETE',
      path,
      body: 'none',
      ...answered('It is gone.', deletedSchema),
      decode: (request) => ({ kind: 'purge', id: idOf(request) }),
      encode: ({ id }, request) => answer({ id, deleted: true }, request),
    }),
    absent('GET', `${path}/telemetry`, OF_PLATFORM),
    absent('DELETE', `${path}/files`, OF_PLATFORM),
    absent('POST', `${path}/visibility`, OF_PLATFORM),
    absent('POST', `${path}/featured`, OF_PLATFORM),
  ];
}

/** Sheet, section 6: lines for those who ask for them, and events for all others. */
function streamAnswer(followed: Followed, request: WireRequest): Answer {
  const { Accept: accept, 'Last-Event-ID': lastEventId } = readHeaders(request, streamHeaders);
  if (accept?.includes('application/x-ndjson'))
    return { status: 200, body: { kind: 'lines', lines: taskLines(followed), heartbeat: HEARTBEAT } };
  // To a browser this says that it need not come back.
  if (hasSeenEnd(followed, lastEventId)) return { status: 204, body: { kind: 'empty' } };
  return { status: 200, body: { kind: 'events', events: taskEvents(followed) } };
}

function fileLines(base: string): readonly DialectRoute[] {
  const path = `${base}/files`;
  return [
    on('createUploads', {
      method: 'POST',
      path,
      body: 'json',
      ...answered('Where the bytes of each go, and where they are then.', z.array(fileSchema)),
      ownMembers: announcementMembers,
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
      ...answered('A page of files.', filePageSchema),
      ownMembers: pageMembers,
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
      ...answered('The file.', fileSchema),
      decode: (request) => ({ kind: 'readUpload', id: idOf(request) }),
      encode: (upload, request) => answer(fileBody(upload, request.baseUrl), request),
    }),
    on('deleteUpload', {
      method: 'DELETE',
      path: `${path}/:id`,
      body: 'none',
      ...answered('It is gone.', deletedSchema),
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
      ...answered('The sessions.', z.array(sessionSchema)),
      decode: () => ({ kind: 'list', limit: SESSION_TASKS_MAX }),
      encode: (page, request) => answer(sessionList(page), request),
    }),
    on('list', {
      ...ofSession,
      method: 'GET',
      path,
      summary: 'Tells of one session.',
      ...answered('The session.', sessionSchema),
      encode: (page, request) => answer(oneSession(page, request), request),
    }),
    on('list', {
      ...ofSession,
      method: 'POST',
      path: `${path}/keepalive`,
      summary: 'Tells of one session, which needs nothing to be kept alive.',
      ...answered('The session.', sessionSchema),
      encode: (page, request) => answer(oneSession(page, request), request),
    }),
    on('list', {
      ...ofSession,
      method: 'DELETE',
      path,
      summary: 'Ends a session, of which nothing is kept; its tasks stay.',
      answers: { 204: { description: 'It is ended.' } },
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
      ...answered('A page of apps.', appPageSchema),
      ownMembers: searchMembers,
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
      ...answered('The app.', appSchema),
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
  errorSchema,
  encodeWebhook,
};
export default inferenceSh;

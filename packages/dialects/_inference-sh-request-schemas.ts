/** Schemas that read inference.sh's requests and describe them (protocols/inference-sh.md, sections 1, 3, 7 and 8). */
import { instant } from '@claimcheck/core';
import { z } from 'zod';
import { stateNamed } from './_inference-sh-tasks.ts';
import { HOLD_SECONDS_MAX } from './_native-requests.ts';

/**
 * A member that may say nothing, and is undefined then: the vendor's typed clients send those that were not set, too, each with the nothing of
 * its type.
 */
function said<Schema extends z.ZodType>(schema: Schema) {
  return z.preprocess((value) => (saysNothing(value) ? undefined : value), schema.optional()).optional();
}

function saysNothing(value: unknown): boolean {
  if (value === null || value === '' || value === false || value === 0) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** A member that can only ask for what cannot be had; `error` says so. */
function refused(error: string): z.ZodType {
  return said(z.never({ error })).meta({ description: `It ${error}.` });
}

const SAYS_NOTHING = 'A member that is null, false, 0 or empty is as if it were not there.';

function text(wanted = 'text') {
  return z.string({ error: `must be ${wanted}` });
}

function wholeNumber(min: number, max: number, wanted: string) {
  const error = `must be a whole number ${wanted}from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

export const answerHeaders = z.object({
  'X-API-Version': z.string().optional().meta({ description: '`2` asks for the answer without its envelope.' }),
});

export const runHeaders = answerHeaders.extend({
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again; the vendor has no such header.' }),
});

export const streamHeaders = z.object({
  Accept: z.string().optional().meta({ description: '`application/x-ndjson` asks for lines instead of events.' }),
  'Last-Event-ID': z.string().optional().meta({ description: 'The event after which the stream broke off.' }),
});

export const filesQuery = z.object({
  role: z
    .enum(['output', ''], { error: 'must be output' })
    .optional()
    .meta({ description: 'Only what a task has made is listed: files of inputs are where they came from.' }),
});

const SESSION_SECONDS_MAX = 3_600;
/** Ids of sessions come back in the path of an address. */
const SESSION = /^[\w.-]{1,200}$/;
const SESSION_ERROR = { error: 'must be "new", or 1 to 200 letters, digits and . _ -' };
const SESSION_TEXT = z
  .string(SESSION_ERROR)
  .regex(SESSION, SESSION_ERROR)
  .meta({ examples: ['new'] });
const APP = text()
  .regex(/^[^@]*$/, { error: 'must come without a version: the model says which one runs' })
  .meta({ examples: ['infsh/hidream-i1-fast'] });

/** Rules about several members hold also where another member is wrong, so that a client learns of everything at once. */
const when = () => true;

export const runMembers = z
  .object({
    app: said(APP),
    app_id: said(APP).meta({ description: 'The same, where there is no `app`.' }),
    input: z.record(z.string(), z.unknown(), { error: "must be an object whose members are the app's parameters" }),
    webhook: said(text('the address of a receiver')).meta({ description: 'Where the end of the task is told.' }),
    session: said(SESSION_TEXT).meta({ description: '`new`, or the id of one.' }),
    session_timeout: said(wholeNumber(1, SESSION_SECONDS_MAX, 'of seconds ')).meta({ description: 'Of a new session; has no effect.' }),
    run_at: said(instant()).meta({ description: 'Not to be started before.' }),
    wait: said(z.boolean({ error: 'must be true or false' })).meta({
      description: `Answers when the task has ended, or after ${HOLD_SECONDS_MAX} seconds.`,
    }),
    infra: said(z.enum(['cloud', 'private_first'], { error: 'must be cloud or private_first: there are no workers of your own' })),
    function: said(z.literal('run', { error: 'must be run: models have no other function' })),
    version_id: refused('cannot be chosen here: the model says which version runs'),
    workers: refused('must be empty: there are no workers of your own'),
    setup: refused('must be left out: models are not set up by requests'),
    variant: refused('must be left out: models have no variants'),
    metadata: refused('must be left out: nothing is kept with a task but its input'),
    stream: refused('must be false: follow GET /tasks/{id}/stream'),
  })
  .catchall(refused('is not known here: leave it out, or put it into input'))
  .refine(({ app, app_id: appId }) => app !== undefined || appId !== undefined, {
    path: ['app'],
    error: 'must name an app; POST /apps/list lists them',
    when,
  })
  .refine(({ session, session_timeout: seconds }) => seconds === undefined || session === 'new', {
    path: ['session_timeout'],
    error: 'is only for the session "new"',
    when,
  })
  .meta({ id: 'InferenceShRun', description: SAYS_NOTHING });

export const LIMIT_DEFAULT = 20;
const LIMIT_MAX = 100;
const UNSUPPORTED = 'is not supported in this list: leave it out';
const withoutEffect = z.unknown().optional().meta({ description: 'Has no effect.' });

/** What all lists have. What some members would add is in every answer, or is nobody's. */
const page = {
  limit: said(wholeNumber(1, LIMIT_MAX, '')).meta({ description: `${LIMIT_DEFAULT} unless given.` }),
  cursor: said(text('the next_cursor of a page')),
  direction: said(z.literal('next', { error: 'must be next: pages follow one another one way' })),
  preloads: withoutEffect,
  include_private: withoutEffect,
  page: withoutEffect,
};

/** Of a list that cannot be searched: typed clients send a search for nothing. */
const unsearchable = z.preprocess((search) => (isSearchForNothing(search) ? undefined : search), refused(UNSUPPORTED)).optional();

function isSearchForNothing(search: unknown): boolean {
  return typeof search === 'object' && search !== null && (!('term' in search) || saysNothing(search.term));
}

export const pageMembers = z
  .object({ ...page, search: unsearchable })
  .catchall(refused(UNSUPPORTED))
  .meta({ id: 'InferenceShPageRequest', description: SAYS_NOTHING });

export const searchMembers = z
  .object({ ...page, search: said(z.object({ term: text().nullish(), exact: withoutEffect }, { error: 'must be an object' })) })
  .catchall(refused(UNSUPPORTED))
  .meta({ id: 'InferenceShSearchRequest', description: SAYS_NOTHING });

const status = z
  .union([z.int(), z.string()])
  .transform((named, { issues }) => {
    const state = stateNamed(named);
    if (state) return state;
    issues.push({ code: 'custom', message: 'must be the number or the name of a status', input: named });
    return z.NEVER;
  })
  .meta({ description: 'Its number, or its name in any case.' });

/** The operator is looked at first, because nothing else that is wrong matters then. */
const filter = z.preprocess(
  (given, { issues }) => {
    if (typeof given === 'object' && given !== null && 'operator' in given && given.operator !== 'eq' && given.operator !== 'in')
      issues.push({ code: 'custom', path: ['operator'], message: 'must be eq or in', input: given });
    return given;
  },
  z.union(
    [
      z.object({ field: z.literal('status'), operator: z.literal('eq').optional(), value: status }),
      z.object({
        field: z.literal('status'),
        operator: z.literal('in'),
        value: z.union([status, z.array(status).min(1, { abort: true })]),
      }),
      z.object({ field: z.literal('app_id'), operator: z.literal('eq').optional(), value: z.string() }),
    ],
    { error: 'must be about status, with its numbers or names, or app_id eq a name' },
  ),
);

/** What lists are ordered by in any case. */
const order = z.object({ field: z.literal('created_at'), dir: z.literal('desc').optional() });

export const taskListMembers = z
  .object({
    ...page,
    search: unsearchable,
    filters: said(z.array(filter, { error: 'must be a list' })),
    sort: said(z.union([order, z.array(order)], { error: 'must be empty, or [{"field":"created_at","dir":"desc"}]' })),
  })
  .catchall(refused(UNSUPPORTED))
  .meta({ id: 'InferenceShTaskListRequest', description: SAYS_NOTHING });

/** In one request; each is a row until its bytes come. */
const FILES_MAX = 100;
const FILES_ERROR = { error: `must be a list of 1 to ${FILES_MAX} files` };
const SIZE_ERROR = { error: 'must be a number of bytes' };

function unset(error: string) {
  return z.literal(['', null], { error }).optional();
}

const announcedFile = z.object(
  {
    uri: unset('must be empty: the answer says it'),
    path: unset('must be left out: there are no folders'),
    filename: text().nullish(),
    content_type: text().nullish(),
    size: z.int(SIZE_ERROR).min(0, SIZE_ERROR).nullish().meta({ description: 'In bytes; 0 where it is not known.' }),
  },
  { error: 'must be an object' },
);

export const announcementMembers = z
  .object({
    category: z.literal(['input', '', null], { error: 'must be left out, or input: files here are for the inputs of tasks' }).optional(),
    files: z.array(announcedFile, FILES_ERROR).min(1, FILES_ERROR).max(FILES_MAX, FILES_ERROR),
  })
  .meta({ id: 'InferenceShAnnouncement' });

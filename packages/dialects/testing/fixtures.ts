/** Requests and jobs for tests of dialects: legal for their state without being told. Set only what the test is about. */
import {
  type Answer,
  type Dialect,
  type DialectRoute,
  type Job,
  type Media,
  parseExactJson,
  type State,
  toJsonText,
  type WireRequest,
} from '@claimcheck/core';
import { describedRoute } from './described.ts';

export const BASE_URL = 'https://queue.example';
export const JOB_ID = '019b7602-7c00-7000-8000-00000000a001';

export const CREATED_AT = new Date('2026-01-01T10:00:00.000Z');
/** 0.4 s after it was created. */
export const STARTED_AT = new Date('2026-01-01T10:00:00.400Z');
/** 3.2 s after it was started. */
export const FINISHED_AT = new Date('2026-01-01T10:00:03.600Z');

export const anImage: Media = {
  location: { asset: 'tok1' },
  contentType: 'image/webp',
  fileName: 'a b.webp',
  bytes: 12345,
  width: 1024,
  height: 768,
};

const BY_STATE: Record<State, Partial<Job>> = {
  QUEUED: { queuePosition: 2 },
  PROCESSING: { progress: 0.25, attempt: 1, startedAt: STARTED_AT, attemptStartedAt: STARTED_AT, updatedAt: STARTED_AT },
  COMPLETED: { ...ended(), output: { media: [anImage], seed: 7 } },
  FAILED: { ...ended(), progress: 0.5, failure: { code: 'provider_error', message: 'The upstream gave up.' } },
  CANCELLED: { ...ended(), progress: 0.5, failure: { code: 'cancelled', message: 'The job was cancelled.' } },
};

function ended(): Partial<Job> {
  return { attempt: 1, startedAt: STARTED_AT, attemptStartedAt: STARTED_AT, finishedAt: FINISHED_AT, updatedAt: FINISHED_AT };
}

export function aJob(state: State, fields: Partial<Job> = {}): Job {
  return {
    id: JOB_ID,
    callerId: '019b7602-7c00-7000-8000-00000000c001',
    dialect: 'native',
    model: 'hidream-i1-fast',
    isPinned: false,
    provider: 'sandbox',
    input: toJsonText({ prompt: 'a panda', seed: 7 }),
    state,
    progress: 0,
    attempt: 0,
    priority: 'normal',
    resubmits: 0,
    sequence: 1,
    baseUrl: BASE_URL,
    createdAt: CREATED_AT,
    updatedAt: CREATED_AT,
    ...BY_STATE[state],
    ...fields,
  };
}

export interface RequestFields {
  readonly params?: Readonly<Record<string, string>>;
  /** Without the question mark. */
  readonly query?: string;
  /** By their lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The text of a JSON body. */
  readonly body?: string;
}

export function aRequest(fields: RequestFields = {}): WireRequest {
  return {
    method: 'GET',
    path: '/',
    params: fields.params ?? {},
    query: new URLSearchParams(fields.query),
    header: (name) => fields.headers?.[name],
    body: fields.body === undefined ? undefined : parseExactJson(fields.body),
    baseUrl: BASE_URL,
  };
}

/** The line of a dialect's table with this method and path, written as `GET /v2/requests`. What it answers must be as it describes it. */
export function routeOf(dialect: Dialect, line: string): DialectRoute {
  const route = dialect.routes.find(({ method, path }) => `${method} ${path}` === line);
  if (!route) throw new Error(`The dialect ${dialect.name} has no route ${line}.`);
  return describedRoute(route);
}

/** A JSON answer's body as a client reads it. */
export function bodyOf(answer: Answer): Record<string, unknown> {
  if (answer.body.kind !== 'json') throw new Error(`The answer is of kind ${answer.body.kind}, not json.`);
  return JSON.parse(JSON.stringify(answer.body.value));
}

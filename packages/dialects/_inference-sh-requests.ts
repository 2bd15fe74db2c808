/**
 * What inference.sh's routes read out of a request: the run, and the page of a list (protocols/inference-sh.md, sections 3 and 8). What a member
 * asks for and cannot be had is refused by name; members that ask for nothing, as the vendor's typed clients send many, are passed over.
 */
import { type ExactJson, isJsonObject, jsonPointer, membersOf, type State, type SubmitOperation, type WireRequest } from '@claimcheck/core';
import type { z } from 'zod';
import { LIMIT_DEFAULT, pageMembers, runMembers, searchMembers, taskListMembers } from './_inference-sh-request-schemas.ts';
import { newSessionId } from './_inference-sh-sessions.ts';
import { HOLD_SECONDS_MAX } from './_native-requests.ts';
import { refusal } from './_refusal.ts';

/**
 * The members of a body; no body is one without any. Read here, as problems lie deep within these bodies, and are told where they do.
 * @throws AppError that lists everything which is wrong.
 */
export function readBody<Schema extends z.ZodObject>({ body }: Pick<WireRequest, 'body'>, schema: Schema): z.output<Schema> {
  const value = body ? body.value : {};
  if (!isJsonObject(value)) throw refusal([{ pointer: '', message: 'must be an object whose members are the request' }]);
  const read = schema.safeParse(value);
  if (read.success) return read.data;
  const problems = read.error.issues.map(({ path, message }) => ({ pointer: jsonPointer(path.map(String)), message }));
  // A second problem in one place would only repeat its rule.
  throw refusal(problems.filter(({ pointer }, at) => problems.findIndex((first) => first.pointer === pointer) === at));
}

/** @throws AppError that lists everything which is wrong. */
export function runOf(request: WireRequest, idempotencyKey: string | undefined): SubmitOperation {
  const { app, app_id: appId, webhook, session, run_at: runAt, wait } = readBody(request, runMembers);
  return {
    kind: 'submit',
    // The function that every app has may stand behind its name.
    model: (app ?? appId ?? '').replace(/:run$/, ''),
    modelPointer: '/app',
    parameters: inputOf(request),
    parametersPointer: '/input',
    ...(webhook !== undefined && { webhookUrl: webhook }),
    ...(session !== undefined && { sessionId: session === 'new' ? newSessionId() : session }),
    ...(runAt && { runAt }),
    ...(wait && { wait: { until: 'end', seconds: HOLD_SECONDS_MAX } }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
}

/** The exact text of an input that was read before. */
function inputOf({ body }: WireRequest): ExactJson {
  const text = body && membersOf(body.text).get('input');
  if (text === undefined || !isJsonObject(body?.value)) throw new Error('A run that was read has no input.');
  return { text, value: body.value.input ?? null };
}

/** True when the client waits for the end in the same request. Only by the body: as old documents have it, the address line says false. */
export function waits(request: WireRequest): boolean {
  return readBody(request, runMembers).wait === true;
}

export interface PageQuery {
  readonly limit: number;
  readonly cursor?: string;
}

export interface TaskQuery extends PageQuery {
  readonly state?: readonly State[];
  readonly model?: string;
}

/** Of two filters about the same, the later one counts. */
export function taskQuery(request: WireRequest): TaskQuery {
  const { filters = [], ...page } = readBody(request, taskListMembers);
  const status = filters.findLast((filter) => filter.field === 'status');
  const app = filters.findLast((filter) => filter.field === 'app_id');
  return { ...pageIn(page), ...(status && { state: [status.value].flat() }), ...(app && { model: app.value }) };
}

/** Of a list that has neither filters nor another order. */
export function pageQuery(request: WireRequest): PageQuery {
  return pageIn(readBody(request, pageMembers));
}

export interface SearchQuery extends PageQuery {
  /** In lower case; everything contains the empty one. */
  readonly term: string;
}

/** Of a list that can be searched. */
export function searchQuery(request: WireRequest): SearchQuery {
  const { search, ...page } = readBody(request, searchMembers);
  return { ...pageIn(page), term: search?.term?.toLowerCase() ?? '' };
}

function pageIn({
  limit = LIMIT_DEFAULT,
  cursor,
}: {
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}): PageQuery {
  return { limit, ...(cursor !== undefined && { cursor }) };
}

/** Section 8. How many there are in all is known where there is but one page. */
export function pageBody(items: readonly object[], nextCursor: string | undefined, { limit, cursor }: PageQuery) {
  return {
    items,
    next_cursor: nextCursor ?? '',
    prev_cursor: '',
    has_next: nextCursor !== undefined,
    has_previous: cursor !== undefined,
    items_per_page: limit,
    total_items: nextCursor === undefined && cursor === undefined ? items.length : null,
  };
}

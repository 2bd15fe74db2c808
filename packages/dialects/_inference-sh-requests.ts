/**
 * What inference.sh's routes read out of a request: the run, and the page of a list (protocols/inference-sh.md, sections 3 and 8). What a member
 * asks for and cannot be had is refused by name; members that ask for nothing, as the vendor's typed clients send many, are passed over.
 */
import {
  type ExactJson,
  instant,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonPointer,
  membersOf,
  type Problem,
  type State,
  type SubmitOperation,
  type WireRequest,
} from '@claimcheck/core';
import { refusal } from './_inference-sh-envelope.ts';
import { newSessionId } from './_inference-sh-sessions.ts';
import { stateNamed } from './_inference-sh-tasks.ts';
import { HOLD_SECONDS_MAX } from './_native-requests.ts';

const SESSION_SECONDS_MAX = 3_600;
/** Ids of sessions come back in the path of an address. */
const SESSION = /^[\w.-]{1,200}$/;

/** Members of a run that cannot be honoured, with what may be said in them and what to do instead. */
const REFUSED: Readonly<Record<string, { readonly usual?: readonly JsonValue[]; readonly message: string }>> = {
  version_id: { message: 'cannot be chosen here: the model says which version runs' },
  infra: { usual: ['cloud', 'private_first'], message: 'must be cloud or private_first: there are no workers of your own' },
  workers: { message: 'must be empty: there are no workers of your own' },
  setup: { message: 'must be left out: models are not set up by requests' },
  function: { usual: ['run'], message: 'must be run: models have no other function' },
  variant: { message: 'must be left out: models have no variants' },
  metadata: { message: 'must be left out: nothing is kept with a task but its input' },
  stream: { message: 'must be false: follow GET /tasks/{id}/stream' },
};
const INSTANT = instant();
const READ = ['app', 'app_id', 'input', 'webhook', 'session', 'session_timeout', 'run_at', 'wait'];

/** @throws AppError that lists everything which is wrong. */
export function runOf(request: WireRequest): SubmitOperation {
  const body = bodyOf(request);
  const problems: Problem[] = [];
  for (const [name, value] of Object.entries(body)) {
    if (READ.includes(name) || asksNothing(value)) continue;
    const { usual = [], message } = REFUSED[name] ?? { message: 'is not known here: leave it out, or put it into input' };
    if (!usual.includes(value)) problems.push({ pointer: jsonPointer([name]), message });
  }
  const take = <Value>(name: string, wanted: string, read: (value: JsonValue) => Value | undefined): Value | undefined => {
    const given = body[name];
    if (given === undefined || asksNothing(given)) return undefined;
    const value = read(given);
    if (value === undefined) problems.push({ pointer: `/${name}`, message: `must be ${wanted}` });
    return value;
  };
  const model = take('app', 'text', textFrom) ?? take('app_id', 'text', textFrom);
  if (model === undefined && problems.every(({ pointer }) => pointer !== '/app'))
    problems.push({ pointer: '/app', message: 'must name an app; POST /apps/list lists them' });
  if (model?.includes('@')) problems.push({ pointer: '/app', message: 'must come without a version: the model says which one runs' });
  const parameters = inputOf(request, body);
  if (!parameters) problems.push({ pointer: '/input', message: "must be an object whose members are the app's parameters" });
  const webhookUrl = take('webhook', 'the address of a receiver', textFrom);
  const session = take('session', '"new", or 1 to 200 letters, digits and . _ -', sessionFrom);
  const timeout = take('session_timeout', `a whole number of seconds from 1 to ${SESSION_SECONDS_MAX}`, sessionSecondsFrom);
  if (timeout !== undefined && session !== 'new') problems.push({ pointer: '/session_timeout', message: 'is only for the session "new"' });
  const runAt = take(
    'run_at',
    'an instant such as 2030-01-31T09:00:00Z, with its offset from UTC',
    (value) => INSTANT.safeParse(value).data,
  );
  const isHeld = take('wait', 'true or false', (value) => (typeof value === 'boolean' ? value : undefined));
  if (problems.length > 0 || model === undefined || !parameters) throw refusal(problems);
  const idempotencyKey = request.header('idempotency-key');
  return {
    kind: 'submit',
    // The function that every app has may stand behind its name.
    model: model.replace(/:run$/, ''),
    modelPointer: '/app',
    parameters,
    parametersPointer: '/input',
    ...(webhookUrl !== undefined && { webhookUrl }),
    ...(session !== undefined && { sessionId: session === 'new' ? newSessionId() : session }),
    ...(runAt && { runAt }),
    ...(isHeld && { wait: { until: 'end', seconds: HOLD_SECONDS_MAX } }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
}

/** What is meant by every kind of nothing: the vendor's clients send members that were not set, too. */
function asksNothing(value: JsonValue): boolean {
  if (value === null || value === '' || value === false || value === 0) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** @throws AppError when the body is no object. */
function bodyOf({ body }: WireRequest): JsonObject {
  if (body && isJsonObject(body.value)) return body.value;
  throw refusal([{ pointer: '', message: 'must be an object whose members are the request' }]);
}

/** The input's exact text. */
function inputOf({ body }: WireRequest, { input }: JsonObject): ExactJson | undefined {
  const text = isJsonObject(input) && body ? membersOf(body.text).get('input') : undefined;
  return text === undefined || !isJsonObject(input) ? undefined : { text, value: input };
}

/** True when the client waits for the end in the same request. Only by the body: as old documents have it, the address line says false. */
export function waits({ body }: WireRequest): boolean {
  return body !== undefined && isJsonObject(body.value) && body.value.wait === true;
}

function textFrom(value: JsonValue): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function sessionFrom(value: JsonValue): string | undefined {
  return typeof value === 'string' && SESSION.test(value) ? value : undefined;
}

function sessionSecondsFrom(value: JsonValue): number | undefined {
  const isCount = typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= SESSION_SECONDS_MAX;
  return isCount ? value : undefined;
}

export interface PageQuery {
  readonly limit: number;
  readonly cursor?: string;
}

export interface TaskQuery extends PageQuery {
  readonly state?: readonly State[];
  readonly model?: string;
}

const LIMIT_DEFAULT = 20;
const LIMIT_MAX = 100;
/** What the lists are ordered by in any case. */
const ORDER = { field: 'created_at', dir: 'desc' };
/** Members that change nothing: what they would add is in every answer, or is nobody's. */
const WITHOUT_EFFECT = ['preloads', 'include_private', 'page'];

export function taskQuery(request: WireRequest): TaskQuery {
  const problems: Problem[] = [];
  const body = listBody(request, ['filters', 'sort'], problems);
  const filters = filtersIn(body, problems);
  sortIn(body, problems);
  const page = pageIn(body, problems);
  if (problems.length > 0) throw refusal(problems);
  return { ...page, ...filters };
}

/** Of a list that has neither filters nor another order. */
export function pageQuery(request: WireRequest): PageQuery {
  const problems: Problem[] = [];
  const page = pageIn(listBody(request, [], problems), problems);
  if (problems.length > 0) throw refusal(problems);
  return page;
}

export interface SearchQuery extends PageQuery {
  /** In lower case; everything contains the empty one. */
  readonly term: string;
}

/** Of a list that can be searched. */
export function searchQuery(request: WireRequest): SearchQuery {
  const problems: Problem[] = [];
  const body = listBody(request, ['search'], problems);
  const { term = '' } = isJsonObject(body.search) ? body.search : {};
  if (typeof term !== 'string') problems.push({ pointer: '/search/term', message: 'must be text' });
  const page = pageIn(body, problems);
  if (problems.length > 0) throw refusal(problems);
  return { ...page, term: String(term).toLowerCase() };
}

/** An empty body asks for the first page. */
function listBody(request: WireRequest, known: readonly string[], problems: Problem[]): JsonObject {
  const body = request.body ? bodyOf(request) : {};
  const read = ['cursor', 'limit', 'direction', ...WITHOUT_EFFECT, ...known];
  for (const [name, value] of Object.entries(body)) {
    if (read.includes(name) || asksNothing(value) || (name === 'search' && isEmptySearch(value))) continue;
    problems.push({ pointer: jsonPointer([name]), message: 'is not supported in this list: leave it out' });
  }
  return body;
}

function isEmptySearch(search: JsonValue): boolean {
  return isJsonObject(search) && (search.term ?? '') === '';
}

function pageIn({ cursor = null, limit = null, direction = null }: JsonObject, problems: Problem[]): PageQuery {
  const given = limit === null || limit === 0 ? LIMIT_DEFAULT : limit;
  const isLimit = typeof given === 'number' && Number.isInteger(given) && given >= 1 && given <= LIMIT_MAX;
  if (!isLimit) problems.push({ pointer: '/limit', message: `must be a whole number from 1 to ${LIMIT_MAX}` });
  if (cursor !== null && typeof cursor !== 'string') problems.push({ pointer: '/cursor', message: 'must be the next_cursor of a page' });
  if (direction !== null && direction !== '' && direction !== 'next')
    problems.push({ pointer: '/direction', message: 'must be next: pages follow one another one way' });
  return { limit: isLimit ? given : LIMIT_DEFAULT, ...(typeof cursor === 'string' && cursor !== '' && { cursor }) };
}

function filtersIn({ filters = null }: JsonObject, problems: Problem[]): Pick<TaskQuery, 'state' | 'model'> {
  let found: Pick<TaskQuery, 'state' | 'model'> = {};
  for (const [index, filter] of (Array.isArray(filters) ? filters : filters === null ? [] : [filters]).entries()) {
    const { field, operator = 'eq', value }: JsonObject = isJsonObject(filter) ? filter : {};
    const values: readonly (JsonValue | undefined)[] = operator === 'in' && Array.isArray(value) ? value : [value];
    const states = field === 'status' ? values.map(stateNamed) : [];
    const isKnown = states.length > 0 && states.every((state) => state !== undefined);
    if (operator !== 'eq' && operator !== 'in') {
      problems.push({ pointer: `/filters/${index}/operator`, message: 'must be eq or in' });
    } else if (field === 'status' && isKnown) {
      found = { ...found, state: states.filter((state) => state !== undefined) };
    } else if (field === 'app_id' && operator === 'eq' && typeof value === 'string') {
      found = { ...found, model: value };
    } else {
      problems.push({ pointer: `/filters/${index}`, message: 'must be about status, with its numbers or names, or app_id eq a name' });
    }
  }
  return found;
}

function sortIn({ sort = null }: JsonObject, problems: Problem[]): void {
  for (const order of Array.isArray(sort) ? sort : sort === null ? [] : [sort]) {
    const { field, dir = ORDER.dir }: JsonObject = isJsonObject(order) ? order : {};
    if (field === ORDER.field && dir === ORDER.dir) continue;
    problems.push({ pointer: '/sort', message: `must be empty, or ${JSON.stringify([ORDER])}` });
  }
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

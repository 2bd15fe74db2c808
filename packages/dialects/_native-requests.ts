/** What the native routes read out of a request: path parameters, the model's parameters, preferences and query values. */
import {
  AppError,
  DELIVERY_STATES,
  type DeliveryQuery,
  type ExactJson,
  isJsonObject,
  PRIORITIES,
  type Problem,
  readWebhookOptions,
  STATES,
  type State,
  type SubmitOperation,
  type WebhookOptions,
  type WireRequest,
} from '@claimcheck/core';

/** The longest a claim check or a status is held back, in seconds: common proxies give up on a silent answer after 60. */
export const HOLD_SECONDS_MAX = 60;

/** A month: longer plans belong into the client's own calendar. */
const DELAY_SECONDS_MAX = 31 * 24 * 3600;
const TIMEOUT_SECONDS_MAX = 24 * 3600;
/** RFC 3339; a time without its offset would mean another instant on every machine. */
const INSTANT = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})$/;

const LIST_LIMIT_DEFAULT = 20;
const LIST_LIMIT_MAX = 100;

/** Far above the events of any job, and the largest number every store can compare; a larger one is a mistake. */
const SEQUENCE_MAX = 2 ** 31 - 1;

/** A parameter the route's own path promises. */
export function pathParameter(request: WireRequest, name: 'id' | 'model'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

/** @throws AppError when the body is not a JSON object. */
export function modelParameters(request: WireRequest): ExactJson {
  if (request.body && isJsonObject(request.body.value)) return request.body;
  const message = "The body must be a JSON object whose members are the model's parameters.";
  throw new AppError('invalid_parameters', message, { problems: [{ pointer: '', message }] });
}

/**
 * `Prefer: wait=N` (RFC 7240), at most `secondsMax`. Undefined when there is none that can be understood: the RFC wants such
 * preferences ignored, and of a repeated one only the first counts.
 */
export function preferredWaitSeconds(request: WireRequest, secondsMax: number): number | undefined {
  for (const preference of request.header('prefer')?.match(PREFERENCE) ?? []) {
    if (!/^\s*wait\s*(?:[=;]|$)/i.test(preference)) continue;
    const seconds = /^\s*wait\s*=\s*"?(\d+)"?\s*(?:;|$)/i.exec(preference)?.[1];
    return seconds === undefined ? undefined : Math.min(Number(seconds), secondsMax);
  }
  return undefined;
}

/** One member of the list in a Prefer header; commas inside quotes do not end it. An unclosed quote runs to the end: no backtracking. */
const PREFERENCE = /(?:[^,"]|"(?:[^"\\]|\\.)*\\?(?:"|$))+/g;

/** `?wait=N` of the status route: undefined when absent. */
export function statusWaitSeconds(request: WireRequest): number | undefined {
  const text = request.query.get('wait');
  if (text === null) return undefined;
  const seconds = wholeNumber(text);
  if (seconds === undefined) {
    refuse([problem('wait', `a whole number of seconds, 0 to ${HOLD_SECONDS_MAX} (more counts as ${HOLD_SECONDS_MAX})`, text)]);
  }
  return Math.min(seconds, HOLD_SECONDS_MAX);
}

/** `?logs=true` of the status route. */
export function wantsLogs({ query }: WireRequest): boolean {
  const text = query.get('logs');
  if (text === null || text === 'false' || text === '0') return false;
  if (text === 'true' || text === '1') return true;
  refuse([problem('logs', 'true or false', text)]);
}

export interface ListQuery {
  readonly limit: number;
  readonly cursor?: string;
  readonly state?: State;
}

/** Every wrong value is reported at once. */
export function listQuery(request: WireRequest): ListQuery {
  return pageQuery(request, 'status', STATES);
}

/** The same for lists of deliveries. */
export function deliveryQuery(request: WireRequest): DeliveryQuery {
  return pageQuery(request, 'state', DELIVERY_STATES);
}

/** The same for lists of uploads, which have no states. */
export function uploadQuery(request: WireRequest): Pick<ListQuery, 'limit' | 'cursor'> {
  const { limit, cursor } = pageQuery(request);
  return { limit, cursor };
}

function pageQuery<Known extends string>({ query }: WireRequest, stateName?: string, states: readonly Known[] = []) {
  const problems: Problem[] = [];

  const limitText = query.get('limit');
  const limit = limitText === null ? LIST_LIMIT_DEFAULT : wholeNumber(limitText);
  if (limit === undefined || limit < 1 || limit > LIST_LIMIT_MAX) {
    problems.push(problem('limit', `a whole number from 1 to ${LIST_LIMIT_MAX}`, limitText));
  }

  const stateText = stateName === undefined ? null : query.get(stateName);
  const state = states.find((known) => known === stateText?.toUpperCase());
  if (stateName !== undefined && stateText !== null && state === undefined)
    problems.push(problem(stateName, `one of ${states.join(', ')}`, stateText));

  if (limit === undefined || problems.length > 0) refuse(problems);
  // Clients that keep the cursor in a variable send it empty for the first page.
  return { limit, cursor: query.get('cursor') || undefined, state };
}

/** The instant that a text in the form of RFC 3339 names. */
export function instantFrom(text: string): Date | undefined {
  const instant = INSTANT.test(text) ? new Date(text) : undefined;
  return instant && Number.isNaN(instant.getTime()) ? undefined : instant;
}

export type Scheduling = Pick<SubmitOperation, 'priority' | 'timeoutSeconds' | 'runAt' | 'delaySeconds'>;

/** When and how urgently a job is to run: `priority` (or the header `x-priority`), `run_at` or `delay_seconds`, `timeout_seconds`. */
export function scheduling(request: WireRequest): Scheduling {
  const { query } = request;
  const problems: Problem[] = [];

  const inQuery = query.get('priority');
  const priorityText = inQuery ?? request.header('x-priority');
  const priority = PRIORITIES.find((known) => known === priorityText?.toLowerCase());
  if (priorityText !== undefined && priority === undefined) {
    const [name, kind] = inQuery === null ? ['x-priority', 'The header'] : ['priority', 'The query parameter'];
    problems.push(problem(name, `one of ${PRIORITIES.join(', ')}`, priorityText, kind));
  }

  const seconds = (name: string, min: number, max: number) => {
    const text = query.get(name);
    if (text === null) return undefined;
    const number = wholeNumber(text);
    if (number !== undefined && number >= min && number <= max) return number;
    problems.push(problem(name, `a whole number of seconds from ${min} to ${max}`, text));
    return undefined;
  };
  const delaySeconds = seconds('delay_seconds', 0, DELAY_SECONDS_MAX);
  const timeoutSeconds = seconds('timeout_seconds', 1, TIMEOUT_SECONDS_MAX);

  const runAtText = query.get('run_at');
  const runAt = runAtText === null ? undefined : instantFrom(runAtText);
  if (runAtText !== null && runAt === undefined) {
    problems.push(problem('run_at', 'an instant such as 2030-01-31T09:00:00Z, with its offset from UTC', runAtText));
  }
  if (runAtText !== null && query.get('delay_seconds') !== null)
    problems.push(problem('run_at', 'absent when delay_seconds is given', runAtText));

  if (problems.length > 0) refuse(problems);
  return { priority, timeoutSeconds, runAt, delaySeconds };
}

/** Under these names a request chooses how its webhook is told, in its address line or in its body. */
export const WEBHOOK_OPTION_NAMES = {
  format: 'webhook_format',
  schedule: 'webhook_schedule',
  events: 'webhook_events',
  headers: 'webhook_headers',
} as const;

/** Without headers, which may be secret: an address line is written down in many places. */
export function optionsInQuery({ query }: WireRequest): WebhookOptions {
  const given = { format: query.get('webhook_format'), schedule: query.get('webhook_schedule'), events: query.get('webhook_events') };
  return readWebhookOptions(given, (option) => `/${WEBHOOK_OPTION_NAMES[option]}`);
}

/** Number of the last event the client has seen, 0 for none. A reconnecting browser repeats the first URL, so its header wins. */
export function lastSequence(request: WireRequest): number {
  const header = request.header('last-event-id');
  if (header) return sequence('Last-Event-ID', 'The header', header);
  const query = request.query.get('after');
  return query === null ? 0 : sequence('after', 'The query parameter', query);
}

function sequence(name: string, kind: string, text: string): number {
  const number = wholeNumber(text);
  if (number === undefined || number > SEQUENCE_MAX) {
    refuse([problem(name, `the number of an event: a whole number from 0 to ${SEQUENCE_MAX}`, text, kind)]);
  }
  return number;
}

function wholeNumber(text: string): number | undefined {
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

function problem(name: string, allowed: string, given: string | null, kind = 'The query parameter'): Problem {
  return { pointer: `/${name}`, message: `${kind} \`${name}\` must be ${allowed}, not ${JSON.stringify(given)}.` };
}

function refuse(problems: readonly Problem[]): never {
  throw new AppError('invalid_parameters', problems.map(({ message }) => message).join(' '), { problems });
}

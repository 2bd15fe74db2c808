/** What fal's requests ask for besides the model's parameters: in the address line (fal.md, section 2) and in headers (section 4). */
import {
  AppError,
  type ExactJson,
  isJsonObject,
  objectFrom,
  parseExactJson,
  type SubmitOperation,
  toJsonText,
  type WireRequest,
} from '@claimcheck/core';

/** Stands for the owner of a model whose name has none: the vendor's clients refuse ids without a slash. */
const NO_OWNER = '_/';
const WEBHOOK = 'fal_webhook';
const QUEUE_LENGTH = 'fal_max_queue_length';
/** What the vendor takes out of the address line; the rest of it are parameters when a client sends them there. */
const OWN_QUERY: readonly string[] = [WEBHOOK, QUEUE_LENGTH];
/** Of a problem with the webhook: it is in the address line, and not in the body. */
export const WEBHOOK_POINTER = `/${WEBHOOK}`;
/** A longer wait would outlast every job. */
const START_TIMEOUT_SECONDS_MAX = 24 * 3600;
/** Those who wait are not counted any further. */
const QUEUE_LENGTH_MAX = 10_000;

export function pathParameter(request: WireRequest, name: 'id' | 'model'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

export function submission(request: WireRequest): Omit<SubmitOperation, 'wait'> {
  const { header, query, method } = request;
  if (method === 'HEAD') throw new AppError('method_not_allowed', 'HEAD would hand in a request whose answer nobody sees; use POST.');
  refuseAccessRules(request);
  const startTimeoutSeconds = startTimeoutOf(request);
  const queueLengthMax = queueLengthMaxOf(request);
  const webhookUrl = query.get(WEBHOOK);
  return {
    kind: 'submit',
    model: modelOf(request),
    ...(method === 'GET' ? { parameters: parametersIn(query), isText: true } : { parameters: parametersOf(request) }),
    ...(webhookUrl !== null && { webhookUrl, webhookPointer: WEBHOOK_POINTER }),
    priority: priorityOf(request),
    ...(startTimeoutSeconds !== undefined && { startTimeoutSeconds }),
    ...(queueLengthMax !== undefined && { queueLengthMax }),
    ...(isYes(header('x-fal-no-retry')) && { attemptsMax: 1 }),
    ...(isYes(header('x-app-fal-disable-fallback')) && { mayFallBack: false }),
    idempotencyKey: header('idempotency-key'),
  };
}

function modelOf(request: WireRequest): string {
  const model = pathParameter(request, 'model');
  return model.startsWith(NO_OWNER) ? model.slice(NO_OWNER.length) : model;
}

/** Clients send no body at all for no parameters (section 10). @throws AppError when it is not an object. */
function parametersOf({ body }: WireRequest): ExactJson {
  if (body === undefined) return parseExactJson('{}');
  if (isJsonObject(body.value)) return body;
  const message = "The body must be a JSON object whose members are the model's parameters.";
  throw new AppError('invalid_parameters', message, { problems: [{ pointer: '', message }] });
}

/** Where the vendor's client puts them when it is told to use GET. All of them are text there. */
function parametersIn(query: URLSearchParams): ExactJson {
  const given = Array.from(query).filter(([name]) => !OWN_QUERY.includes(name));
  return parseExactJson(objectFrom(given.map(([name, value]) => [name, toJsonText(value)] as const)));
}

/** `logs` is a number with one of the vendor's clients and a word with the other (section 2). */
export function isLogged({ query }: WireRequest): boolean {
  return isYes(query.get('logs') ?? undefined);
}

function isYes(text: string | undefined): boolean {
  return ['1', 'true', 'yes'].includes(text?.toLowerCase() ?? '');
}

function priorityOf({ header }: WireRequest): 'normal' | 'low' | undefined {
  const text = header('x-fal-queue-priority');
  if (text === undefined) return undefined;
  const priority = text.toLowerCase();
  if (priority === 'normal' || priority === 'low') return priority;
  throw refusal('X-Fal-Queue-Priority', 'normal or low', text);
}

/** Seconds; the newer name wins (section 4). One of the vendor's clients sends fractions. */
function startTimeoutOf({ header }: WireRequest): number | undefined {
  const newer = header('x-fal-request-start-timeout');
  const [name, text] =
    newer === undefined ? ['X-Fal-Request-Timeout', header('x-fal-request-timeout')] : ['X-Fal-Request-Start-Timeout', newer];
  if (text === undefined) return undefined;
  const seconds = /^\d{1,12}(\.\d{1,12})?$/.test(text) ? Math.ceil(Number(text)) : 0;
  if (seconds < 1) throw refusal(name, 'a number of seconds above 0', text);
  return Math.min(seconds, START_TIMEOUT_SECONDS_MAX);
}

function queueLengthMaxOf({ query }: WireRequest): number | undefined {
  const text = query.get(QUEUE_LENGTH);
  if (text === null) return undefined;
  if (/^\d{1,9}$/.test(text) && Number(text) <= QUEUE_LENGTH_MAX) return Number(text);
  throw refusal(QUEUE_LENGTH, `a whole number from 0 to ${QUEUE_LENGTH_MAX}`, text);
}

/**
 * How long files are kept is a wish, and theirs is the service's own time. Who may read them is not: here that is whoever has the address.
 * @throws AppError for rules about that.
 */
export function refuseAccessRules({ header }: WireRequest): void {
  for (const name of ['X-Fal-Object-Lifecycle-Preference', 'X-Fal-Object-Lifecycle']) {
    if (!/"initial_acl"/.test(header(name.toLowerCase()) ?? '')) continue;
    const message = `The header ${name} must have no initial_acl: files can be read here by whoever has their address, and by nobody else.`;
    throw new AppError('invalid_request', message);
  }
}

function refusal(name: string, allowed: string, given: string): AppError {
  return new AppError('invalid_request', `${name} must be ${allowed}, not ${JSON.stringify(given)}.`);
}

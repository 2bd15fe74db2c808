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
import type { z } from 'zod';
import { lifecycleHeaders, type submissionHeaders, submissionQuery } from './_fal-schemas.ts';

/** Stands for the owner of a model whose name has none: the vendor's clients refuse ids without a slash. */
const NO_OWNER = '_/';

export interface SubmissionValues {
  readonly query: z.output<typeof submissionQuery>;
  readonly headers: z.output<typeof submissionHeaders>;
}

export function pathParameter(request: WireRequest, name: 'id' | 'model'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

export function submission(request: WireRequest, { query, headers }: SubmissionValues): Omit<SubmitOperation, 'wait'> {
  if (request.method === 'HEAD') {
    throw new AppError('method_not_allowed', 'HEAD would hand in a request whose answer nobody sees; use POST.');
  }
  refuseAccessRules(headers);
  const startTimeoutSeconds = headers['X-Fal-Request-Start-Timeout'] ?? headers['X-Fal-Request-Timeout'];
  const { fal_webhook: webhookUrl, fal_max_queue_length: queueLengthMax } = query;
  return {
    kind: 'submit',
    model: modelOf(request),
    ...(request.method === 'GET' ? { parameters: parametersIn(request.query), isText: true } : { parameters: parametersOf(request) }),
    ...(webhookUrl !== undefined && { webhookUrl, webhookPointer: '/fal_webhook' }),
    priority: headers['X-Fal-Queue-Priority'],
    ...(startTimeoutSeconds !== undefined && { startTimeoutSeconds }),
    ...(queueLengthMax !== undefined && { queueLengthMax }),
    ...(headers['X-Fal-No-Retry'] && { attemptsMax: 1 }),
    ...(headers['x-app-fal-disable-fallback'] && { mayFallBack: false }),
    idempotencyKey: headers['Idempotency-Key'],
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

/** Where the vendor's client puts them when it is told to use GET: whatever the vendor does not take out itself. All of them are text there. */
function parametersIn(query: URLSearchParams): ExactJson {
  const given = Array.from(query).filter(([name]) => !(name in submissionQuery.shape));
  return parseExactJson(objectFrom(given.map(([name, value]) => [name, toJsonText(value)] as const)));
}

/**
 * How long files are kept is a wish, and theirs is the service's own time. Who may read them is not: here that is whoever has the address.
 * @throws AppError for rules about that.
 */
export function refuseAccessRules(headers: z.output<typeof lifecycleHeaders>): void {
  for (const name of lifecycleHeaders.keyof().options) {
    if (!/"initial_acl"/.test(headers[name] ?? '')) continue;
    const message = `The header ${name} must have no initial_acl: files can be read here by whoever has their address, and by nobody else.`;
    throw new AppError('invalid_request', message);
  }
}

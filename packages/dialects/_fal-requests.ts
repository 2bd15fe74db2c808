/** What fal's requests ask for besides the model's parameters: in the address line (fal.md, section 2) and in headers (section 4). */
import {
  AppError,
  type ExactJson,
  flagText,
  isJsonObject,
  objectFrom,
  parseExactJson,
  type SubmitOperation,
  toJsonText,
  type WireRequest,
  wholeNumberText,
  wordText,
} from '@claimcheck/core';
import { z } from 'zod';

/** Stands for the owner of a model whose name has none: the vendor's clients refuse ids without a slash. */
const NO_OWNER = '_/';
/** A longer wait would outlast every job. */
const START_TIMEOUT_SECONDS_MAX = 24 * 3600;
/** Those who wait are not counted any further. */
const QUEUE_LENGTH_MAX = 10_000;

const WEBHOOK = 'fal_webhook';

export const submissionQuery = z.object({
  [WEBHOOK]: z.string().optional().meta({ description: 'Where the end of the job is told.' }),
  fal_max_queue_length: wholeNumberText({ min: 0, max: QUEUE_LENGTH_MAX, rule: `a whole number from 0 to ${QUEUE_LENGTH_MAX}` })
    .optional()
    .meta({ description: 'Refused when more jobs than these wait already.' }),
});

const START_TIMEOUT = 'Ends with 504 when the job has not started after so many seconds.';

/** Of two that say the same the newer one stands first, and wins. */
export const submissionHeaders = z.object({
  'X-Fal-Request-Start-Timeout': secondsText().optional().meta({ description: START_TIMEOUT }),
  'X-Fal-Request-Timeout': secondsText()
    .optional()
    .meta({ description: `${START_TIMEOUT} The older name.` }),
  'X-Fal-Queue-Priority': wordText(['normal', 'low']).optional().meta({ description: 'Which jobs of a queue go first.' }),
  'X-Fal-No-Retry': switchText().meta({ description: 'One attempt only.' }),
  'x-app-fal-disable-fallback': switchText().meta({ description: 'At one provider only.' }),
  'Idempotency-Key': z
    .string()
    .optional()
    .meta({ description: 'For a day the same request under the same key gets the first answer again; the vendor has no such header.' }),
});

/** `logs` is a number with one of the vendor's clients and a word with the other (section 2). */
export const statusQuery = z.object({ logs: flagText().default(false).meta({ description: 'Also tells what the run has printed.' }) });

export interface SubmissionValues {
  readonly query: z.output<typeof submissionQuery>;
  readonly headers: z.output<typeof submissionHeaders>;
}

/** Of a problem with a value beside the body: the kind of place where it stands, which its pointer does not say. */
export const PLACES: ReadonlyMap<string, 'query' | 'header'> = new Map([
  ...[...Object.keys(submissionQuery.shape), ...Object.keys(statusQuery.shape)].map((name) => [`/${name}`, 'query'] as const),
  ...Object.keys(submissionHeaders.shape).map((name) => [`/${name}`, 'header'] as const),
]);

export function pathParameter(request: WireRequest, name: 'id' | 'model'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

export function submission(request: WireRequest, { query, headers }: SubmissionValues): Omit<SubmitOperation, 'wait'> {
  if (request.method === 'HEAD') {
    throw new AppError('method_not_allowed', 'HEAD would hand in a request whose answer nobody sees; use POST.');
  }
  refuseAccessRules(request);
  const startTimeoutSeconds = headers['X-Fal-Request-Start-Timeout'] ?? headers['X-Fal-Request-Timeout'];
  const { [WEBHOOK]: webhookUrl, fal_max_queue_length: queueLengthMax } = query;
  return {
    kind: 'submit',
    model: modelOf(request),
    ...(request.method === 'GET' ? { parameters: parametersIn(request.query), isText: true } : { parameters: parametersOf(request) }),
    ...(webhookUrl !== undefined && { webhookUrl, webhookPointer: `/${WEBHOOK}` }),
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

/** Anything else is no, as with the vendor. */
function switchText() {
  return z
    .string()
    .transform((text) => ['1', 'true', 'yes'].includes(text.toLowerCase()))
    .default(false)
    .meta({ type: 'string', examples: ['1'] });
}

/** One of the vendor's clients sends fractions. */
function secondsText() {
  const error = 'must be a number of seconds above 0';
  return z
    .string({ error })
    .regex(/^\d{1,12}(\.\d{1,12})?$/, { error })
    .transform((text) => Math.min(Math.ceil(Number(text)), START_TIMEOUT_SECONDS_MAX))
    .pipe(z.int({ error }).min(1, { error }));
}

/**
 * How long files are kept is a wish, and theirs is the service's own time. Who may read them is not: here that is whoever has the address.
 * @throws AppError for rules about that.
 */
export function refuseAccessRules({ header }: Pick<WireRequest, 'header'>): void {
  for (const name of ['X-Fal-Object-Lifecycle-Preference', 'X-Fal-Object-Lifecycle']) {
    if (!/"initial_acl"/.test(header(name.toLowerCase()) ?? '')) continue;
    const message = `The header ${name} must have no initial_acl: files can be read here by whoever has their address, and by nobody else.`;
    throw new AppError('invalid_request', message);
  }
}

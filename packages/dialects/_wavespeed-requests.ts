/** What WaveSpeed's requests ask for: submissions, lists, deletions and announced files. Sections in comments are of the sheet wavespeed.md. */
import {
  AppError,
  type ExactJson,
  isJsonObject,
  type JobFilter,
  type JsonObject,
  type JsonText,
  type JsonValue,
  jsonPointer,
  membersOf,
  objectFrom,
  type Problem,
  parseExactJson,
  SKIP_MAX,
  STATES,
  type State,
  type SubmitOperation,
  type Upload,
  type WireRequest,
} from '@claimcheck/core';
import { STATUS } from './_wavespeed-prediction.ts';

/** How long a request with `enable_sync_mode` is held: after this long the vendor lets go of it (section 6). */
export const SYNC_WAIT_SECONDS = 120;

/** First parts of paths that are no vendor of a model (section 1). */
const RESERVED: readonly string[] = [
  'predictions',
  'models',
  'model',
  'balance',
  'account',
  'webhook',
  'media',
  'upload',
  'billings',
  'user',
];

const SYNC = 'enable_sync_mode';
const BASE64 = 'enable_base64_output';
/** Where one page of the vendor's puts the webhook; everything else has it in the address line (section 6). */
const WEBHOOK = 'webhook_url';

const PAGE_SIZE_DEFAULT = 20;
const PAGE_SIZE_MAX = 100;
/** Each may have files to remove. */
const DELETED_MAX = 100;

export function pathParameter(request: WireRequest, name: 'id' | 'model'): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`The route of ${request.path} has no path parameter ${name}.`);
  return value;
}

/** @throws AppError `unknown_path` below what can be no model. */
export function submission(request: WireRequest): SubmitOperation {
  const model = pathParameter(request, 'model');
  if (RESERVED.includes(model.split('/')[0] ?? '')) {
    throw new AppError('unknown_path', `There is nothing at ${request.method} ${request.path}; the README lists every endpoint.`);
  }
  const parameters = objectIn(request);
  const webhookUrl = webhookIn(request);
  return {
    kind: 'submit',
    model,
    parameters,
    fit: fitFor({ isInQuery: webhookUrl !== undefined, isInBody: typeof parsedObject(request)[WEBHOOK] === 'string' }),
    ...(webhookUrl !== undefined && { webhookUrl }),
    webhookMember: WEBHOOK,
    ...(wantsSync(request) && { wait: { until: 'end', seconds: SYNC_WAIT_SECONDS } }),
    idempotencyKey: request.header('idempotency-key'),
  };
}

/** What a run would cost: the model is in the body, and its parameters apart from it (section 7). */
export function quotedSubmission(request: WireRequest): SubmitOperation {
  const body = objectIn(request);
  const members = membersOf(body.text);
  const model: JsonValue = JSON.parse(members.get('model_id') ?? 'null');
  const inputs = parseExactJson(members.get('inputs') ?? '{}');
  const problems: Problem[] = [];
  if (typeof model !== 'string' || model === '') problems.push({ pointer: '/model_id', message: 'must name a model' });
  if (!isJsonObject(inputs.value)) problems.push({ pointer: '/inputs', message: "must be an object of the model's parameters" });
  if (typeof model !== 'string' || problems.length > 0) throw refusal(problems);
  return { kind: 'submit', model, parameters: inputs, fit: fitFor({ isInQuery: false, isInBody: false }) };
}

/** @throws AppError unless it is true, false or not there. */
export function wantsSync({ body }: WireRequest): boolean {
  const value = isJsonObject(body?.value) ? body.value[SYNC] : undefined;
  if (value === undefined || value === null || typeof value === 'boolean') return value === true;
  throw refusal([{ pointer: jsonPointer([SYNC]), message: 'must be true or false' }]);
}

/**
 * An older client of the vendor's does not encode it (section 8): then what follows an `&` of its own looks like parameters of ours, of
 * which there are no others.
 */
function webhookIn({ query }: WireRequest): string | undefined {
  const given = [...query];
  const at = given.findIndex(([name]) => name === 'webhook');
  const [, url = ''] = given[at] ?? [];
  const rest = given.slice(at + 1).map(([name, value]) => `&${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  if (url === '') return undefined;
  return url.includes('?') ? url + rest.join('') : url;
}

/**
 * What the vendor calls common to its models (section 6) and is no matter of the model here. `enable_base64_output` stays among the
 * parameters, where every later answer about the job finds it.
 */
function fitFor(webhook: { readonly isInQuery: boolean; readonly isInBody: boolean }): NonNullable<SubmitOperation['fit']> {
  return (parameters, model) => {
    const members = membersOf(parameters.text);
    const declares = (name: string) => isJsonObject(model.parameters.properties) && Object.hasOwn(model.parameters.properties, name);
    const hasWebhook = webhook.isInQuery || (webhook.isInBody && !declares(WEBHOOK));
    members.delete(SYNC);
    const isWanted = members.get(BASE64) === 'true';
    if (hasWebhook && isWanted) throw base64WithWebhook();
    // A model may make base64 unless told not to, which is not what somebody means who wants to be told by webhook.
    if (hasWebhook && declares(BASE64)) members.set(BASE64, 'false' as JsonText);
    // Clients say so to every model.
    else if (!declares(BASE64) && !isWanted) members.delete(BASE64);
    return documentOf(members);
  };
}

/** Section 6. */
function base64WithWebhook(): AppError {
  return refusal([
    { pointer: jsonPointer([BASE64]), message: 'must be false together with a webhook, which tells files by their addresses' },
  ]);
}

export interface ListQuery extends JobFilter {
  readonly limit: number;
  readonly page: number;
}

/** By the word that each state is told by; what no job is told to be finds none. */
const STATES_OF = {
  created: statesToldAs('created'),
  processing: statesToldAs('processing'),
  completed: statesToldAs('completed'),
  failed: statesToldAs('failed'),
  cancelled: [],
  timeout: [],
  deleted: [],
} as const satisfies Record<string, readonly State[]>;

function statesToldAs(status: (typeof STATUS)[State]): readonly State[] {
  return STATES.filter((state) => STATUS[state] === status);
}

/** From the body, or the address line of GET (sections 1 and 7). @throws AppError that lists everything which is wrong. */
export function listQuery(request: WireRequest): ListQuery {
  const given: JsonObject = request.body ? parsedObject(request) : Object.fromEntries(request.query);
  const problems: Problem[] = [];
  const refuse = (name: string, message: string) => {
    problems.push({ pointer: jsonPointer([name]), message });
    return undefined;
  };
  const number = (name: string, usual: number, max: number) => {
    const value = given[name] ?? usual;
    const whole = typeof value === 'number' || /^\d{1,9}$/.test(String(value)) ? Number(value) : Number.NaN;
    return Number.isInteger(whole) && whole >= 1 && whole <= max ? whole : refuse(name, `must be a whole number from 1 to ${max}`);
  };
  const instant = (name: string) => {
    const value = given[name] ?? null;
    if (value === null || value === '') return undefined;
    return instantOf(value) ?? refuse(name, 'must be an instant such as 2030-01-31T09:00:00Z, with its offset from UTC');
  };
  const limit = number('page_size', PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX) ?? PAGE_SIZE_DEFAULT;
  const page = number('page', 1, Math.floor(SKIP_MAX / limit) + 1) ?? 1;
  const state = statesIn(given.status ?? '');
  if (state === undefined) refuse('status', `must be one of ${Object.keys(STATES_OF).join(', ')}`);
  const model = given.model ?? '';
  if (typeof model !== 'string') refuse('model', 'must be the name of a model');
  const createdAfter = instant('created_after');
  const createdBefore = instant('created_before');
  if (problems.length > 0) throw refusal(problems);
  return {
    page,
    limit,
    skip: (page - 1) * limit,
    ...(state && { state }),
    ...(typeof model === 'string' && model !== '' && { model }),
    ...(createdAfter && { createdAfter }),
    ...(createdBefore && { createdBefore }),
  };
}

/** All for an empty text, as clients send it that keep the choice in a field; undefined for what is no status. */
function statesIn(status: JsonValue): readonly State[] | undefined {
  if (status === '') return STATES;
  return Object.entries(STATES_OF).find(([name]) => name === status)?.[1];
}

/** ISO 8601; without an offset an instant would mean another one on every machine, a day alone begins at midnight UTC. */
function instantOf(value: JsonValue): Date | undefined {
  if (typeof value !== 'string' || !/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/i.test(value))
    return undefined;
  const instant = new Date(value);
  return Number.isNaN(instant.getTime()) ? undefined : instant;
}

/** Of a bulk deletion (section 7). */
export function idsIn(request: WireRequest): readonly string[] {
  const { ids } = parsedObject(request);
  if (Array.isArray(ids) && ids.length <= DELETED_MAX && ids.every((id) => typeof id === 'string')) return ids;
  throw refusal([{ pointer: '/ids', message: `must be a list of up to ${DELETED_MAX} ids` }]);
}

export interface AnnouncedFile {
  readonly fileName: string;
  readonly contentType?: string;
  readonly bytes?: number;
}

/** What an upload ticket is asked for with (section 7). */
export function announcedFile(request: WireRequest): AnnouncedFile {
  const { filename, size = null, content_type: contentType = null } = parsedObject(request);
  const problems: Problem[] = [];
  if (typeof filename !== 'string' || filename === '') problems.push({ pointer: '/filename', message: 'must be the name of the file' });
  if (size !== null && !(Number.isSafeInteger(size) && Number(size) > 0)) {
    problems.push({ pointer: '/size', message: 'must be a whole number of bytes, 1 or more' });
  }
  if (contentType !== null && typeof contentType !== 'string') {
    problems.push({ pointer: '/content_type', message: 'must be a media type such as image/png' });
  }
  if (typeof filename !== 'string' || problems.length > 0) throw refusal(problems);
  return {
    fileName: filename,
    ...(typeof contentType === 'string' && contentType !== '' && { contentType }),
    ...(typeof size === 'number' && { bytes: size }),
  };
}

/** The one file of a form; it is stored already. @throws AppError for another body, and for none or several files. */
export function sentFile({ isForm, uploads }: WireRequest): Upload {
  if (!isForm) {
    throw new AppError('unsupported_media_type', 'The file must be the part "file" of a form, with "content-type: multipart/form-data".');
  }
  const [file, ...others] = [...(uploads?.values() ?? [])].flat();
  if (file && others.length === 0) return file;
  throw refusal([{ pointer: '/file', message: 'must be one file' }]);
}

/** @throws AppError when the body is no object. */
function objectIn({ body }: WireRequest): ExactJson {
  if (body && isJsonObject(body.value)) return body;
  throw refusal([{ pointer: '', message: 'must be a JSON object' }]);
}

function parsedObject(request: WireRequest): JsonObject {
  const { value } = objectIn(request);
  return isJsonObject(value) ? value : {};
}

function documentOf(members: Iterable<readonly [string, JsonText]>): ExactJson {
  const text = objectFrom(members);
  return { text, value: JSON.parse(text) };
}

function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer.slice(1)} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}

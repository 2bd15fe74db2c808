/** What WaveSpeed's requests ask for: submissions, lists and files. Sections in comments are of the sheet wavespeed.md. */
import {
  AppError,
  type ExactJson,
  isJsonObject,
  type JobFilter,
  type JsonObject,
  type JsonText,
  jsonPointer,
  membersOf,
  objectFrom,
  parseExactJson,
  readMembers,
  readQuery,
  SKIP_MAX,
  STATES,
  type State,
  type SubmitOperation,
  type Upload,
  type WireRequest,
} from '@claimcheck/core';
import { refusal } from './_refusal.ts';
import { STATUS } from './_wavespeed-prediction.ts';
import { type ListValues, listMembers, listQuery, PAGE_SIZE_DEFAULT, type STATUSES } from './_wavespeed-schemas.ts';

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
export function quotedSubmission(request: WireRequest, model: string): SubmitOperation {
  const inputs = membersOf(objectIn(request).text).get('inputs') ?? 'null';
  const parameters = parseExactJson(inputs === 'null' ? '{}' : inputs);
  return { kind: 'submit', model, parameters, fit: fitFor({ isInQuery: false, isInBody: false }) };
}

/** @throws AppError unless it is true, false or not there. */
export function wantsSync({ body }: WireRequest): boolean {
  const value = isJsonObject(body?.value) ? body.value[SYNC] : undefined;
  // Clients that always send the member send null for none.
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

/** By the word that each state is told by; what no job is told to be finds none. */
const STATES_OF = {
  created: statesToldAs('created'),
  processing: statesToldAs('processing'),
  completed: statesToldAs('completed'),
  failed: statesToldAs('failed'),
  cancelled: [],
  timeout: [],
  deleted: [],
} as const satisfies Record<(typeof STATUSES)[number], readonly State[]>;

function statesToldAs(status: (typeof STATUS)[State]): readonly State[] {
  return STATES.filter((state) => STATUS[state] === status);
}

/** @throws AppError for a page so far behind that nobody should count up to it. */
export function listFilter(values: Partial<ListValues>): JobFilter & { readonly limit: number } {
  const { page, page_size: size, model, status, created_after: createdAfter, created_before: createdBefore } = values;
  const limit = size ?? PAGE_SIZE_DEFAULT;
  const skip = ((page ?? 1) - 1) * limit;
  if (skip > SKIP_MAX) {
    throw refusal([{ pointer: '/page', message: `must not be behind the first ${SKIP_MAX} predictions: narrow the time instead` }]);
  }
  return {
    limit,
    skip,
    ...(status && { state: STATES_OF[status] }),
    ...(model && { model }),
    ...(createdAfter && { createdAfter }),
    ...(createdBefore && { createdBefore }),
  };
}

/** The number of the page that was asked for. */
export function pageOf(request: WireRequest): number {
  const { page } = request.body ? readMembers(request, listMembers) : readQuery(request, listQuery);
  return page ?? 1;
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

/** What OpenAI's routes read out of a request: ids, the body's members, and pages of lists. */
import {
  AppError,
  type ExactJson,
  isId,
  isJsonObject,
  type JsonObject,
  type JsonText,
  membersOf,
  objectFrom,
  type Problem,
  type SubmitOperation,
  type WireRequest,
} from '@claimcheck/core';

/** Kinds of objects, as ids show them. The same job can be asked for as any of them, and by its bare id. */
export const ID_PREFIXES = {
  request: 'req_',
  video: 'video_',
  response: 'resp_',
  message: 'msg_',
  chat: 'chatcmpl-',
  event: 'evt_',
} as const;

/** The job's own id, of the id in the path. */
export function jobIdOf(request: WireRequest): string {
  return withoutPrefix(request.params.id ?? '');
}

function withoutPrefix(id: string): string {
  const prefix = Object.values(ID_PREFIXES).find((known) => id.startsWith(known));
  return prefix === undefined ? id : id.slice(prefix.length);
}

/** @throws AppError when the body is no object. */
export function bodyOf({ body }: WireRequest): JsonObject {
  if (body && isJsonObject(body.value)) return body.value;
  throw refusal([{ pointer: '', message: 'must be an object whose members are the request' }]);
}

/** A member that says yes or no, no unless given; in forms it is text. @throws AppError for anything else. */
export function flagIn(request: WireRequest, name: string): boolean {
  const { [name]: value = null } = bodyOf(request);
  if (value === true || value === 'true') return true;
  if (value === false || value === 'false' || value === null) return false;
  throw refusal([{ pointer: `/${name}`, message: 'must be true or false' }]);
}

/** The same of the address line. @throws AppError */
export function queryFlag({ query }: WireRequest, name: string): boolean {
  const text = query.get(name) ?? 'false';
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw refusal([{ pointer: `/${name}`, message: 'must be true or false' }]);
}

/**
 * Clients ask by this header for a recorded answer, or for one that is made up (protocols/lumenfall.md, section 13): to run the request for money
 * would be the opposite.
 */
const REPLAY = 'x-lumenfall-replay';

type SubmissionOptions = Pick<SubmitOperation, 'fit' | 'wait' | 'webhookMember'>;

/** Every member but `model` is handed to `fit`. @throws AppError when no model is named. */
export function submission(request: WireRequest, options: SubmissionOptions): SubmitOperation {
  const { model } = bodyOf(request);
  if (typeof model !== 'string' || model === '') {
    throw refusal([{ pointer: '/model', message: 'must name a model; GET /openai/v1/models lists them' }]);
  }
  if ((request.header(REPLAY) ?? 'off') !== 'off') {
    throw new AppError(
      'invalid_request',
      `The header ${REPLAY} cannot be honoured, because no answers are recorded here: leave it out, or say off.`,
    );
  }
  const members = request.body ? membersOf(request.body.text) : new Map<string, JsonText>();
  members.delete('model');
  const idempotencyKey = request.header('idempotency-key') ?? idempotencyKeyIn(request);
  return {
    kind: 'submit',
    model,
    parameters: documentOf(members),
    ...(request.isForm && { isText: true }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
    ...options,
  };
}

/** Protocols/lumenfall.md, section 9. Others have no such member, but a client that sends it means it. */
function idempotencyKeyIn(request: WireRequest): string | undefined {
  const { idempotency_key: key } = bodyOf(request);
  if (key === undefined || key === null) return undefined;
  if (typeof key === 'string' && key !== '' && key.length <= IDEMPOTENCY_KEY_CHARACTERS_MAX) return key;
  throw refusal([{ pointer: '/idempotency_key', message: `must be a text of 1 to ${IDEMPOTENCY_KEY_CHARACTERS_MAX} characters` }]);
}

const IDEMPOTENCY_KEY_CHARACTERS_MAX = 256;

export function documentOf(members: Iterable<readonly [string, JsonText]>): ExactJson {
  const text = objectFrom(members);
  return { text, value: JSON.parse(text) };
}

export interface PageQuery {
  readonly limit: number;
  readonly cursor?: string;
}

export interface PageNames {
  /** Holds the id behind which the page starts. */
  readonly after: string;
  /** Parameters that cannot be honoured, unless they have the value that says what is done anyway. */
  readonly refused: Readonly<Record<string, string | undefined>>;
}

const LIMIT_DEFAULT = 20;
const LIMIT_MAX = 100;

/** @throws AppError that lists everything which is wrong. */
export function pageQuery({ query }: WireRequest, { after, refused }: PageNames): PageQuery {
  const problems: Problem[] = [];
  const limitText = query.get('limit');
  const limit = limitText === null ? LIMIT_DEFAULT : Number(/^\d{1,4}$/.exec(limitText)?.[0]);
  if (!(limit >= 1 && limit <= LIMIT_MAX)) problems.push({ pointer: '/limit', message: `must be a whole number from 1 to ${LIMIT_MAX}` });
  for (const [name, usual] of Object.entries(refused)) {
    const given = query.get(name);
    if (given === null || given === usual) continue;
    problems.push({
      pointer: `/${name}`,
      message: usual === undefined ? 'is not supported here: leave it out' : `can only be ${usual} here`,
    });
  }
  const cursor = withoutPrefix(query.get(after) ?? '');
  if (cursor !== '' && !isId(cursor)) problems.push({ pointer: `/${after}`, message: 'must be an id that a list has told' });
  if (problems.length > 0) throw refusal(problems);
  return { limit, ...(cursor !== '' && { cursor }) };
}

export function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer.slice(1)} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}

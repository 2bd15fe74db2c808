/** What OpenAI's routes read out of a request: ids, the body's members, and pages of lists. */
import {
  AppError,
  type ExactJson,
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

/** The id of a job, of whichever of its objects. */
export function withoutPrefix(id: string): string {
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

type SubmissionOptions = Pick<SubmitOperation, 'fit' | 'wait' | 'webhookMember'>;

/** Every member but `model` is handed to `fit`. @throws AppError when no model is named. */
export function submission(request: WireRequest, options: SubmissionOptions): SubmitOperation {
  const { model } = bodyOf(request);
  if (typeof model !== 'string' || model === '') {
    throw refusal([{ pointer: '/model', message: 'must name a model; GET /openai/v1/models lists them' }]);
  }
  const members = request.body ? membersOf(request.body.text) : new Map<string, JsonText>();
  members.delete('model');
  const idempotencyKey = request.header('idempotency-key') ?? idempotencyKeyIn(request);
  return {
    kind: 'submit',
    model,
    modelPointer: '/model',
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

export function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer.slice(1)} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}

/** What OpenAI's routes read out of a submission's body. */
import {
  type ExactJson,
  isJsonObject,
  type JsonObject,
  type JsonText,
  membersOf,
  objectFrom,
  readMembers,
  type SubmitOperation,
  type WireRequest,
} from '@claimcheck/core';
import { submissionMembers } from './_openai-queries.ts';
import { refusal } from './_refusal.ts';

/** @throws AppError when the body is no object. */
export function bodyOf({ body }: WireRequest): JsonObject {
  if (body && isJsonObject(body.value)) return body.value;
  throw refusal([{ pointer: '', message: 'must be an object whose members are the request' }]);
}

type SubmissionOptions = Pick<SubmitOperation, 'fit' | 'wait' | 'webhookMember'>;

/** Every member but `model` is handed to `fit`. @throws AppError for members that mean nothing. */
export function submission(request: WireRequest, options: SubmissionOptions): SubmitOperation {
  const { model, idempotency_key: keyInBody } = readMembers(request, submissionMembers);
  const members = request.body ? membersOf(request.body.text) : new Map<string, JsonText>();
  members.delete('model');
  const idempotencyKey = request.header('idempotency-key') ?? keyInBody ?? undefined;
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

export function documentOf(members: Iterable<readonly [string, JsonText]>): ExactJson {
  const text = objectFrom(members);
  return { text, value: JSON.parse(text) };
}

/** @throws AppError for what the vendor's list can be narrowed by, and this one cannot. */
export function refuseOtherFilters({ query }: WireRequest): void {
  const given = ['ending_before', 'key_id'].filter((name) => query.has(name));
  if (given.length > 0) throw refusal(given.map((name) => ({ pointer: `/${name}`, message: 'is not supported here: leave it out' })));
}

/**
 * What goes wrong, in fal's words (fal.md, section 5): errors of the platform, which have a text and a type, and those of models, which list
 * what is wrong with the input. Both are told by the status, and the type by a header too.
 */
import type { Answer, AppError, ErrorCode, FailureCode, Job, Problem } from '@claimcheck/core';
import { PLACES } from './_fal-schemas.ts';

/** The vendor has one name for all input that nothing more is known of; a type that it does not have counts as final with its clients. */
const TYPES = {
  invalid_json: 'bad_request',
  invalid_parameters: 'value_error',
  invalid_request: 'bad_request',
  unauthorized: 'unauthorized',
  forbidden: 'forbidden',
  unknown_model: 'not_found',
  unknown_path: 'not_found',
  not_found: 'not_found',
  method_not_allowed: 'method_not_allowed',
  conflict: 'conflict',
  idempotency_mismatch: 'bad_request',
  payload_too_large: 'file_too_large',
  unsupported_media_type: 'unsupported_media_type',
  rate_limited: 'concurrent_requests_limit',
  internal: 'internal_server_error',
  not_implemented: 'feature_not_supported',
  unavailable: 'runner_scheduling_failure',
  wait_timeout: 'request_timeout',
} as const satisfies Record<ErrorCode, string>;

/** An error that is raised here instead of by a model. */
export function encodeError(error: AppError): Answer {
  const { code, message, problems, requestId, retryAfterSeconds } = error;
  const type = TYPES[code];
  const headers = {
    'x-fal-error-type': type,
    ...(requestId !== undefined && { 'x-fal-request-id': requestId }),
    ...(retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(retryAfterSeconds)) }),
    ...(code === 'unavailable' && { 'x-fal-needs-retry': '1' }),
    // Handed in again, it would make a second job beside the first.
    ...(code === 'wait_timeout' && CLIENTS_TIMEOUT),
  };
  // A request that nobody knows has a body of its own; the vendor's Python client shows `detail`.
  if (code === 'not_found') return json(error.status, headers, { status: 'NOT_FOUND', detail: message });
  if (code !== 'invalid_parameters') return json(error.status, headers, { detail: message, error_type: type });
  const listed = problems.length === 0 ? [{ pointer: '', message }] : problems;
  // What is wrong with the input makes the vendor's clients throw a ValidationError, for which they look at the status.
  return json(422, headers, { detail: listed.map((problem) => ({ loc: placeOf(problem), msg: problem.message, type })) });
}

/** The vendor's path to a value: where it was sent, then the names and numbers of an RFC 6901 pointer. */
function placeOf({ pointer }: Problem): (string | number)[] {
  const beside = PLACES.get(pointer);
  if (beside) return [beside, pointer.slice(1)];
  const [, ...keys] = pointer.split('/').map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
  return ['body', ...keys.map((key) => (/^\d+$/.test(key) ? Number(key) : key))];
}

interface FailureKind {
  readonly status: number;
  readonly type: string;
  /** Of a model's error: the part of the input that it is about. */
  readonly loc?: readonly string[];
}

const FAILURES = {
  provider_error: { status: 500, type: 'downstream_service_error' },
  content_refused: { status: 422, type: 'content_policy_violation', loc: ['body', 'prompt'] },
  invalid_input: { status: 422, type: 'value_error', loc: ['body'] },
  timeout: { status: 504, type: 'generation_timeout' },
  worker_crashed: { status: 500, type: 'runner_server_error' },
  // Not one of the vendor's, so that nobody tries again: who wanted that would have had it done here.
  outcome_unknown: { status: 500, type: 'outcome_unknown' },
  cancelled: { status: 499, type: 'client_cancelled' },
  internal: { status: 500, type: 'internal_server_error' },
} as const satisfies Record<FailureCode, FailureKind>;

/** What the client itself had set a time for. */
const UNSTARTED = { status: 504, type: 'request_timeout' } as const satisfies FailureKind;
/** A 504 without it is tried again by the vendor's client. */
const CLIENTS_TIMEOUT = { 'x-fal-request-timeout-type': 'user' };

/** All types that an error can have. */
export const ERROR_TYPES = [...new Set([...Object.values(TYPES), ...Object.values(FAILURES).map(({ type }) => type), UNSTARTED.type])];

/** How a job failed: the answer to whoever wants its result, and the words that its status has for it. */
export interface Failed {
  readonly answer: Answer;
  /** The body of the answer, as a webhook has it too. */
  readonly payload: object;
  readonly message: string;
  readonly type: string;
}

/** Of a job that has FAILED or was CANCELLED. */
export function failedAs(job: Job): Failed {
  const { code, message } = job.failure ?? { code: 'internal', message: 'The job ended without a recorded reason.' };
  const isUnstarted = code === 'timeout' && job.startBy !== undefined && job.startedAt === undefined;
  const { status, type, loc }: FailureKind = isUnstarted ? UNSTARTED : FAILURES[code];
  const payload = loc ? { detail: [{ loc, msg: message, type }] } : { detail: message, error_type: type };
  const headers = { 'x-fal-request-id': job.id, 'x-fal-error-type': type, ...(isUnstarted && CLIENTS_TIMEOUT) };
  return { answer: json(status, headers, payload), payload, message, type };
}

function json(status: number, headers: Readonly<Record<string, string>>, value: unknown): Answer {
  return { status, headers, body: { kind: 'json', value } };
}

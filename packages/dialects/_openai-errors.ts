/**
 * Errors as OpenAI's clients understand them: always an object below `error` (protocols/openai.md, section 8). `code` is OpenAI's word and
 * `error_code` Lumenfall's for the same (protocols/lumenfall.md, section 11), which its own clients read too.
 */
import type { Answer, AppError, ErrorCode, Failure, FailureCode, Job } from '@claimcheck/core';
import type { ErrorBody } from './_openai-schemas.ts';

interface VendorError {
  readonly type: string;
  readonly code: string;
  readonly errorCode: string;
}

const REQUEST = 'invalid_request_error';

const ERRORS = {
  invalid_json: { type: REQUEST, code: 'invalid_json', errorCode: 'INVALID_REQUEST' },
  invalid_parameters: { type: REQUEST, code: 'invalid_value', errorCode: 'INVALID_REQUEST' },
  invalid_request: { type: REQUEST, code: 'invalid_request', errorCode: 'INVALID_REQUEST' },
  unauthorized: { type: 'authentication_error', code: 'invalid_api_key', errorCode: 'AUTHENTICATION_FAILED' },
  forbidden: { type: 'permission_error', code: 'forbidden', errorCode: 'FORBIDDEN' },
  unknown_model: { type: REQUEST, code: 'model_not_found', errorCode: 'MODEL_NOT_FOUND' },
  unknown_path: { type: REQUEST, code: 'unknown_url', errorCode: 'NOT_FOUND' },
  not_found: { type: REQUEST, code: 'not_found', errorCode: 'NOT_FOUND' },
  method_not_allowed: { type: REQUEST, code: 'method_not_supported', errorCode: 'INVALID_REQUEST' },
  conflict: { type: REQUEST, code: 'conflict', errorCode: 'CONFLICT' },
  idempotency_mismatch: { type: 'idempotency_error', code: 'idempotency_mismatch', errorCode: 'INVALID_REQUEST' },
  payload_too_large: { type: REQUEST, code: 'payload_too_large', errorCode: 'INVALID_REQUEST' },
  unsupported_media_type: { type: REQUEST, code: 'unsupported_content_type', errorCode: 'INVALID_REQUEST' },
  rate_limited: { type: 'rate_limit_error', code: 'rate_limit_exceeded', errorCode: 'RATE_LIMITED' },
  internal: { type: 'server_error', code: 'server_error', errorCode: 'INTERNAL_ERROR' },
  not_implemented: { type: REQUEST, code: 'not_implemented', errorCode: 'NOT_IMPLEMENTED' },
  unavailable: { type: 'server_error', code: 'service_unavailable', errorCode: 'INTERNAL_ERROR' },
  wait_timeout: { type: 'server_error', code: 'timeout', errorCode: 'TIMEOUT' },
} as const satisfies Record<ErrorCode, VendorError>;

/** Clients send a request up to three times after a 5xx: never where a job was made by it, or where it will be refused again. */
const NOT_AGAIN: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['internal', 'not_implemented', 'wait_timeout']);

/** What is away for a moment says when to come again; a provider that is switched off stays away. */
function isForGood({ code, retryAfterSeconds }: AppError): boolean {
  return NOT_AGAIN.has(code) || (code === 'unavailable' && retryAfterSeconds === undefined);
}

export function encodeError(error: AppError): Answer {
  const { code, requestId, retryAfterSeconds, problems, message, status } = error;
  const [problem] = problems;
  return {
    status,
    headers: {
      ...(retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(retryAfterSeconds)) }),
      ...(requestId !== undefined && { 'x-request-id': requestId }),
      ...(isForGood(error) && { 'x-should-retry': 'false' }),
    },
    body: { kind: 'json', value: { error: errorBody(message, ERRORS[code], problem && parameterAt(problem.pointer)) } },
  };
}

/** The vendor writes paths with full stops. Undefined for the document as a whole. */
function parameterAt(pointer: string): string | undefined {
  const path = pointer.split('/').slice(1);
  return path.length === 0 ? undefined : path.map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~')).join('.');
}

function errorBody(message: string, { type, code, errorCode }: VendorError, param?: string): ErrorBody {
  return { message, type, param: param ?? null, code, error_code: errorCode };
}

const PROVIDER = { status: 502, type: 'server_error', code: 'provider_error', errorCode: 'ALL_PROVIDERS_EXHAUSTED' } as const;
const INTERNAL = { status: 500, type: 'server_error', code: 'server_error', errorCode: 'INTERNAL_ERROR' } as const;

/** How a job that ended without a result is told to whoever waited for it. */
const FAILURES = {
  provider_error: PROVIDER,
  content_refused: { status: 400, type: REQUEST, code: 'content_policy_violation', errorCode: 'CONTENT_POLICY_VIOLATION' },
  invalid_input: { status: 400, type: REQUEST, code: 'invalid_value', errorCode: 'INVALID_REQUEST' },
  timeout: { status: 504, type: 'server_error', code: 'timeout', errorCode: 'TIMEOUT' },
  worker_crashed: INTERNAL,
  outcome_unknown: PROVIDER,
  cancelled: { status: 409, type: REQUEST, code: 'cancelled', errorCode: 'CANCELLED' },
  internal: INTERNAL,
} as const satisfies Record<FailureCode, VendorError & { readonly status: number }>;

const UNRECORDED: Failure = { code: 'internal', message: 'The job ended without a recorded reason.' };

/** For a job that FAILED or was CANCELLED. */
export function failureAnswer(job: Job): Answer {
  const { status } = FAILURES[(job.failure ?? UNRECORDED).code];
  // Whether to try again was decided by the job's own policy, and another try would be another job.
  return { status, headers: { 'x-should-retry': 'false' }, body: { kind: 'json', value: { error: failureBody(job) } } };
}

export function failureBody({ failure = UNRECORDED, isPinned }: Job): ErrorBody {
  const known: VendorError = FAILURES[failure.code];
  // Who insists on a provider gets its error as it is (protocols/lumenfall.md, section 7).
  return errorBody(failure.message, failure.code === 'provider_error' && isPinned ? { ...known, errorCode: 'UPSTREAM_ERROR' } : known);
}

/** Why a stream ends without a result: the job is gone, or the service stops. */
export function brokenStream(message: string): ErrorBody {
  return errorBody(message, ERRORS.unavailable);
}

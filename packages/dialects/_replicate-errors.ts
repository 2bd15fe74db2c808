/** Errors as Replicate tells them (replicate.md, section 6): problem details (RFC 9457), with the fields of the input that are wrong. */
import type { Answer, AppError, ErrorCode, Problem } from '@claimcheck/core';
import { predictionQuery, submissionByVersionMembers, submissionHeaders } from './_replicate-schemas.ts';

interface VendorError {
  readonly title: string;
  /** Ours unless given. */
  readonly status?: number;
}

const ERRORS = {
  invalid_json: { title: 'Invalid JSON' },
  invalid_parameters: { title: 'Input validation failed', status: 422 },
  invalid_request: { title: 'Invalid request' },
  unauthorized: { title: 'Unauthenticated' },
  forbidden: { title: 'Forbidden' },
  unknown_model: { title: 'Model not found' },
  unknown_path: { title: 'Not found' },
  not_found: { title: 'Not found' },
  method_not_allowed: { title: 'Method not allowed' },
  conflict: { title: 'Conflict' },
  idempotency_mismatch: { title: 'Idempotency key reused' },
  payload_too_large: { title: 'Payload too large' },
  unsupported_media_type: { title: 'Unsupported media type' },
  rate_limited: { title: 'Too many requests' },
  internal: { title: 'Internal server error' },
  not_implemented: { title: 'Not implemented' },
  unavailable: { title: 'Service unavailable' },
  wait_timeout: { title: 'Timeout' },
} as const satisfies Record<ErrorCode, VendorError>;

/** Named in the body, apart from the models. */
const UNKNOWN_VERSION: VendorError = { title: 'Invalid version or not permitted', status: 422 };

export function encodeError(error: AppError): Answer {
  const { code, message, problems, requestId, retryAfterSeconds } = error;
  const known: VendorError = code === 'unknown_model' && problems.length > 0 ? UNKNOWN_VERSION : ERRORS[code];
  const status = known.status ?? error.status;
  const seconds = retryAfterSeconds === undefined ? undefined : Math.ceil(retryAfterSeconds);
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      ...(seconds !== undefined && { 'retry-after': String(seconds) }),
      // Section 2. There are no others of these: nothing but a refusal is counted.
      ...(code === 'rate_limited' && { 'ratelimit-remaining': '0', ...(seconds !== undefined && { 'ratelimit-reset': String(seconds) }) }),
      ...(requestId !== undefined && { 'x-request-id': requestId }),
    },
    body: {
      kind: 'json',
      value: {
        title: known.title,
        detail: message,
        status,
        ...(seconds !== undefined && { retry_after: seconds }),
        ...(status === 422 && problems.length > 0 && { invalid_fields: problems.map(invalidField) }),
      },
    },
  };
}

/** Everything else that can be wrong is a parameter of the model. */
const OWN_FIELDS = new Set([
  // Whatever `stream` is, it is not wrong.
  ...Object.keys(submissionByVersionMembers.omit({ stream: true }).shape),
  ...Object.keys(submissionHeaders.shape),
  ...Object.keys(predictionQuery.shape),
  // Parts of the form that brings a file.
  'content',
  'metadata',
]);

function invalidField({ pointer, message }: Problem) {
  const path = pointer.split('/').slice(1);
  const names = path.map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
  const isOwn = OWN_FIELDS.has(names[0] ?? '');
  return { type: 'invalid', field: [...(isOwn ? [] : ['input']), ...names].join('.'), description: message };
}

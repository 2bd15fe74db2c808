/**
 * What every answer of inference.sh is wrapped in. The vendor has had three envelopes; one that has the members of all is read by the clients of
 * each, but for those that ask for the second by a header and get the bare object (protocols/inference-sh.md, section 1).
 */
import { type Answer, type AppError, type ErrorCode, readHeaders, type WireRequest } from '@claimcheck/core';
import { answerHeaders } from './_inference-sh-request-schemas.ts';

type Headers = Pick<WireRequest, 'header'>;

export function answer(data: unknown, request: Headers): Answer {
  const isBare = readHeaders(request, answerHeaders)['X-API-Version'] === '2';
  return { status: 200, body: { kind: 'json', value: isBare ? data : { success: true, status: 200, data, messages: [] } } };
}

const TITLES = {
  invalid_json: 'Invalid JSON',
  invalid_parameters: 'Invalid input',
  invalid_request: 'Bad request',
  unauthorized: 'Unauthorized',
  forbidden: 'Forbidden',
  unknown_model: 'App not found',
  unknown_path: 'Not found',
  not_found: 'Not found',
  method_not_allowed: 'Method not allowed',
  conflict: 'Conflict',
  idempotency_mismatch: 'Idempotency key reused',
  payload_too_large: 'Payload too large',
  unsupported_media_type: 'Unsupported media type',
  rate_limited: 'Too many requests',
  internal: 'Internal error',
  not_implemented: 'Not implemented',
  unavailable: 'Unavailable',
  wait_timeout: 'Timeout',
} as const satisfies Record<ErrorCode, string>;

/** Problem details (RFC 9457), with the members that clients of the first envelope read. */
export function encodeError({ code, status, message, problems, requestId, retryAfterSeconds }: AppError): Answer {
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      ...(retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(retryAfterSeconds)) }),
    },
    body: {
      kind: 'json',
      value: {
        type: 'about:blank',
        title: TITLES[code],
        status,
        detail: message,
        success: false,
        error: { code, message },
        ...(problems.length > 0 && { errors: problems.map(({ pointer, message }) => ({ pointer, message })) }),
        ...(requestId !== undefined && { request_id: requestId }),
      },
    },
  };
}

import { expect, test } from 'vitest';
import { AppError, ERROR_STATUS, type ErrorCode, ProviderError, RetryableError, TerminalError } from './errors.ts';

/** Written out a second time on purpose: clients depend on these numbers, so changing one must be a decision. */
const PROMISED: Record<ErrorCode, number> = {
  invalid_json: 400,
  invalid_parameters: 400,
  invalid_request: 400,
  unauthorized: 401,
  forbidden: 403,
  unknown_model: 404,
  unknown_path: 404,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  idempotency_mismatch: 422,
  payload_too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  internal: 500,
  not_implemented: 501,
  unavailable: 503,
  wait_timeout: 504,
};

test('every code has the HTTP status that clients were promised', () => {
  const codes = Object.keys(ERROR_STATUS) as ErrorCode[];
  expect(Object.fromEntries(codes.map((code) => [code, new AppError(code, 'x').status]))).toEqual(PROMISED);
});

test('an error for clients carries its details, and none when it was given none', () => {
  const details = { problems: [{ pointer: '/a', message: 'is wrong' }], requestId: 'r', retryAfterSeconds: 3, cause: new Error('why') };
  const { problems, requestId, retryAfterSeconds, cause } = new AppError('conflict', 'x', details);
  expect({ problems, requestId, retryAfterSeconds, cause }).toEqual(details);
  expect(new AppError('conflict', 'x')).toMatchObject({ problems: [], requestId: undefined, retryAfterSeconds: undefined });
});

test('a provider error says by its type whether trying again can help', () => {
  const busy = new RetryableError('busy', { retryAfterMs: 500 });
  const refused = new TerminalError('no', { code: 'content_refused' });
  expect([busy, refused].every((error) => error instanceof ProviderError)).toBe(true);
  expect([busy.code, busy.retryAfterMs, refused.code]).toEqual(['provider_error', 500, 'content_refused']);
  expect(refused).not.toBeInstanceOf(RetryableError);
  expect([busy.name, refused.name]).toEqual(['RetryableError', 'TerminalError']);
});

test.each([
  ['retryable', RetryableError],
  ['terminal', TerminalError],
] as const)('a %s error keeps its code and its cause', (_kind, Kind) => {
  const cause = new Error('why');
  const error = new Kind('x', { code: 'timeout', cause });
  expect([error.code, error.cause]).toEqual(['timeout', cause]);
});

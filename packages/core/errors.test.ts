import { expect, test } from 'vitest';
import { AppError, ERROR_STATUS, type ErrorCode, ProviderError, RetryableError, TerminalError } from './errors.ts';

test('every code has the HTTP status of an error', () => {
  for (const code of Object.keys(ERROR_STATUS) as ErrorCode[]) {
    expect(new AppError(code, 'x').status).toBe(ERROR_STATUS[code]);
    expect(ERROR_STATUS[code]).toBeGreaterThanOrEqual(400);
  }
});

test('a provider error says by its type whether trying again can help', () => {
  const busy = new RetryableError('busy', { retryAfterMs: 500 });
  const refused = new TerminalError('no', { code: 'content_refused' });
  expect([busy, refused].every((error) => error instanceof ProviderError)).toBe(true);
  expect([busy.code, busy.retryAfterMs, refused.code]).toEqual(['provider_error', 500, 'content_refused']);
  expect(refused).not.toBeInstanceOf(RetryableError);
});

import { AppError } from '@claimcheck/core';
import { expect, test } from 'vitest';
import { toAppError } from './app-error.ts';

const withCode = (code: string, cause?: unknown) => Object.assign(new Error('select secret from somewhere', { cause }), { code });

test('an error that is meant for clients stays what it is', () => {
  const error = new AppError('conflict', 'Not now.');
  expect(toAppError(error)).toBe(error);
});

test.each([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'CONNECT_TIMEOUT',
  'CONNECTION_CLOSED',
  '08006',
  '53300',
  '57014',
  '57P01',
])('a database that fails with %s is away for a moment, also where the failure was wrapped', (code) => {
  for (const error of [withCode(code), new Error('Failed query', { cause: withCode(code) })]) {
    expect(toAppError(error)).toMatchObject({ code: 'unavailable', status: 503, retryAfterSeconds: 2, cause: error });
  }
});

test.each([withCode('23505'), withCode('ENOENT'), withCode('0800'), new TypeError('x is not a function'), 'a text', undefined])(
  'anything else is internal, and says nothing of itself: %s',
  (error) => {
    expect(toAppError(error)).toMatchObject({ code: 'internal', status: 500, cause: error });
    expect(toAppError(error).message).not.toMatch(/secret|function|text/);
  },
);

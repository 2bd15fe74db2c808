import { describe, expect, test } from 'vitest';
import { judgeSend, retryAfterSeconds, type SendResult } from './webhook-outcome.ts';

const NOW_MS = Date.parse('2030-01-01T00:00:00Z');
const delivery = { schedule: [0, 5, 300], sendCount: 0, trigger: 'auto', fallsBackTo: null } as const;
const judge = (result: SendResult, set: Partial<Parameters<typeof judgeSend>[1]> = {}, random = 0.5) =>
  judgeSend(result, { ...delivery, ...set }, { nowMs: NOW_MS, random: () => random });
const failure = (code: string, isLiteral = false) => ({ failure: { code, message: 'It did not work.', isLiteral } });

describe('an answer', () => {
  test.each([200, 201, 204, 299])('of %i means delivered, and that the endpoint is well', (status) => {
    expect(judge({ status })).toEqual({ next: 'DELIVERED', nextReason: 'delivered', health: 'ok', lane: 'ok' });
  });

  test.each([301, 302, 303, 307, 308])('of %i is not followed and ends it, telling the owner where it pointed', (status) => {
    const outcome = judge({ status, headers: { location: 'http://169.254.169.254/' } });
    expect(outcome).toMatchObject({ next: 'FAILED', error: { code: 'redirect' }, lane: 'failed' });
    expect(outcome.error?.message).toContain('http://169.254.169.254/');
  });

  test('of 410 ends it and disables the endpoint', () => {
    expect(judge({ status: 410 })).toMatchObject({ next: 'FAILED', error: { code: 'endpoint_disabled' }, health: 'gone' });
  });

  test.each([400, 401, 404, 418, 500, 501, 503])('of %i is sent again by schedule', (status) => {
    expect(judge({ status })).toMatchObject({ next: { afterSeconds: 5 }, error: { code: 'http_error' }, health: 'failed', lane: 'failed' });
  });

  test.each([429, 502, 504])('of %i waits for a minute at least, and asks for fewer at a time', (status) => {
    expect(judge({ status })).toMatchObject({ next: { afterSeconds: 60 }, lane: 'slow' });
    expect(judge({ status }, { sendCount: 1 })).toMatchObject({ next: { afterSeconds: 300 } });
  });

  test.each([429, 503])('of %i with Retry-After waits for that, or for the schedule if it is longer', (status) => {
    const headers = { 'retry-after': '120' };
    expect(judge({ status, headers })).toMatchObject({ next: { afterSeconds: 120 } });
    expect(judge({ status, headers }, { sendCount: 1 })).toMatchObject({ next: { afterSeconds: 300 } });
  });

  test('of another status with Retry-After goes by the schedule', () => {
    expect(judge({ status: 500, headers: { 'retry-after': '120' } })).toMatchObject({ next: { afterSeconds: 5 } });
  });

  test('is never sent again before Retry-After, whatever chance says', () => {
    const outcome = judge({ status: 503, headers: { 'retry-after': '5' } }, {}, 0);
    expect(outcome.next).toEqual({ afterSeconds: 5 });
    // Without it chance may make the wait shorter.
    expect(judge({ status: 503 }, {}, 0).next).toEqual({ afterSeconds: 4 });
  });

  test('that says abort-message ends this message only', () => {
    const outcome = judge({ status: 400, headers: { 'webhook-delivery': 'Abort-Message' } });
    expect(outcome).toMatchObject({ next: 'FAILED', error: { code: 'aborted_by_receiver' } });
    expect(outcome.health).toBeUndefined();
  });

  test('that says disable disables the endpoint, also when it took the message', () => {
    const headers = { 'webhook-delivery': 'disable' };
    expect(judge({ status: 500, headers })).toMatchObject({ next: 'FAILED', error: { code: 'endpoint_disabled' }, health: 'asked' });
    expect(judge({ status: 200, headers })).toMatchObject({ next: 'DELIVERED', health: 'asked' });
  });

  test('with an unknown wish is judged by its status', () => {
    expect(judge({ status: 500, headers: { 'webhook-delivery': 'later' } })).toMatchObject({ next: { afterSeconds: 5 } });
  });
});

describe('no answer', () => {
  test.each(['dns_not_found', 'dns_error', 'connect_refused', 'tls_error', 'connection_reset', 'response_invalid'])(
    'for %s is tried again by schedule, also the first time',
    (code) => {
      expect(judge(failure(code))).toMatchObject({ next: { afterSeconds: 5 }, error: { code }, health: 'failed', lane: 'failed' });
    },
  );

  test.each(['connect_timeout', 'headers_timeout', 'total_timeout'])('for %s waits for a minute at least', (code) => {
    expect(judge(failure(code))).toMatchObject({ next: { afterSeconds: 60 }, lane: 'slow' });
  });

  test('for an address that may not be called ends it, unless a name led there that may lead elsewhere later', () => {
    expect(judge(failure('blocked_address', true))).toMatchObject({ next: 'FAILED', error: { code: 'blocked_address' } });
    expect(judge(failure('blocked_address', false))).toMatchObject({ next: { afterSeconds: 5 } });
  });
});

test('the last entry of the schedule is the last send', () => {
  expect(judge({ status: 500 }, { sendCount: 1 })).toMatchObject({ next: { afterSeconds: 300 } });
  expect(judge({ status: 500 }, { sendCount: 2 })).toMatchObject({
    next: 'FAILED',
    nextReason: 'the schedule is used up',
    error: { code: 'http_error' },
  });
});

test('chance makes a wait up to a fifth shorter or longer', () => {
  expect(judge({ status: 500 }, { sendCount: 1 }, 0).next).toEqual({ afterSeconds: 240 });
  expect(judge({ status: 500 }, { sendCount: 1 }, 1).next).toEqual({ afterSeconds: 360 });
});

test('a send that somebody asked for says nothing about the endpoint when it fails, and everything when it succeeds', () => {
  expect(judge({ status: 500 }, { trigger: 'manual' })).not.toHaveProperty('health');
  expect(judge({ status: 200 }, { trigger: 'replay' })).toMatchObject({ health: 'ok' });
});

test('an ended delivery that was sent once more returns to what it was when that fails', () => {
  expect(judge({ status: 500 }, { trigger: 'manual', fallsBackTo: 'DELIVERED' })).toMatchObject({
    next: 'DELIVERED',
    error: { code: 'http_error' },
  });
  expect(judge({ status: 410 }, { trigger: 'replay', fallsBackTo: 'HELD' })).toMatchObject({ next: 'HELD', health: 'gone' });
  expect(judge({ status: 200 }, { trigger: 'replay', fallsBackTo: 'HELD' })).toMatchObject({ next: 'DELIVERED' });
});

test.each([
  ['0', 1],
  ['7', 7],
  [' 30 ', 30],
  ['999999999', 86_400],
  ['Tue, 01 Jan 2030 00:02:00 GMT', 120],
  ['Mon, 31 Dec 2029 23:00:00 GMT', 1],
  ['Sat, 01 Jan 2050 00:00:00 GMT', 86_400],
  ['-5', undefined],
  ['1.5', undefined],
  ['soon', undefined],
  ['', undefined],
  ['2030-01-01T00:02:00Z', undefined],
  ['Tue, 99 Foo 2030', undefined],
  ['9'.repeat(400), undefined],
  [undefined, undefined],
])('Retry-After %j asks for %j seconds', (text, seconds) => {
  expect(retryAfterSeconds(text, NOW_MS)).toBe(seconds);
});

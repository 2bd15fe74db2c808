import { AppError } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import native, { SYNC_WAIT_SECONDS } from './native.ts';
import { aRequest, JOB_ID, type RequestFields, routeOf } from './testing/fixtures.ts';

function decode(line: string, fields: RequestFields): unknown {
  return routeOf(native, line).decode(aRequest({ params: { id: JOB_ID, model: 'wavespeed-ai/hidream-i1-full' }, ...fields }));
}

function refusal(line: string, fields: RequestFields): AppError {
  try {
    decode(line, fields);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error(`${line} accepted the request.`);
}

describe.each(['POST /v2/:model{.+}', 'POST /v1/:model{.+}'])('%s', (line) => {
  test('hands on the model, the exact text of the parameters and where a webhook may stand', () => {
    const body = '{"seed":12345678901234567890,"scale":1.0}';
    expect(decode(line, { body })).toMatchObject({
      kind: 'submit',
      model: 'wavespeed-ai/hidream-i1-full',
      parameters: { text: body },
      webhookMember: 'webhook',
    });
  });

  test('takes a webhook out of the query', () => {
    expect(decode(line, { body: '{}', query: 'webhook=https%3A%2F%2Fme.example%2Fhook' })).toHaveProperty(
      'webhookUrl',
      'https://me.example/hook',
    );
  });

  test('names no webhook when the query has none', () => {
    expect(decode(line, { body: '{}' })).toHaveProperty('webhookUrl', undefined);
  });

  test('does not drop an empty webhook silently', () => {
    expect(decode(line, { body: '{}', query: 'webhook=' })).toHaveProperty('webhookUrl', '');
  });

  test.each(['[]', '"text"', 'null', '1', undefined])('refuses the body %s, which is no object', (body) => {
    expect(refusal(line, { body })).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '' }] });
  });
});

describe('Prefer: wait', () => {
  test.each([
    ['wait=5', 5],
    ['wait=0', 0],
    ['wait=60', 60],
    ['wait=61', 60],
    ['wait=99999999999999999999', 60],
    ['respond-async, wait=10', 10],
    ['WAIT = 7', 7],
    ['wait="8"', 8],
    ['wait=9; strict', 9],
    ['handling="a, wait=3", wait=4', 4],
    ['wait=1, wait=2', 1],
  ])('%s holds a submission back for %i s, at most 60', (prefer, seconds) => {
    expect(decode('POST /v2/:model{.+}', { body: '{}', headers: { prefer } })).toHaveProperty('wait', { until: 'end', seconds });
  });

  test.each([
    '',
    'wait',
    'wait=',
    'wait=-1',
    'wait=1.5',
    'wait=soon',
    'wait=1x',
    'await=5',
    'respond-async',
    'x="wait=5',
    'wait=x, wait=5',
  ])('%j is ignored', (prefer) => {
    expect(decode('POST /v2/:model{.+}', { body: '{}', headers: { prefer } })).toHaveProperty('wait', undefined);
  });

  test('that is hostile is read in linear time', () => {
    const prefer = '"\\'.repeat(8_000);
    const before = process.cpuUsage();
    decode('POST /v2/:model{.+}', { body: '{}', headers: { prefer } });
    expect(process.cpuUsage(before).user).toBeLessThan(50_000);
  });

  test.each([
    [undefined, SYNC_WAIT_SECONDS],
    ['wait=30', 30],
    ['wait=90', 90],
    ['wait=600', SYNC_WAIT_SECONDS],
    ['wait=soon', SYNC_WAIT_SECONDS],
  ])('%s makes a synchronous call wait %i s', (prefer, seconds) => {
    const headers: Record<string, string> = prefer === undefined ? {} : { prefer };
    expect(decode('POST /v1/:model{.+}', { body: '{}', headers })).toHaveProperty('wait', { until: 'end', seconds });
  });
});

describe('GET /v2/requests/:id/status', () => {
  const line = 'GET /v2/requests/:id/status';

  test('reads at once unless told to wait', () => {
    expect(decode(line, {})).toEqual({ kind: 'read', id: JOB_ID, wait: undefined, withLogs: false });
  });

  test.each([
    ['true', true],
    ['1', true],
    ['false', false],
    ['0', false],
  ])('?logs=%s asks for logs: %j', (logs, withLogs) => {
    expect(decode(line, { query: `logs=${logs}` })).toHaveProperty('withLogs', withLogs);
  });

  test.each(['', 'yes', 'TRUE', '2'])('?logs=%j is refused by name', (logs) => {
    const error = refusal(line, { query: new URLSearchParams({ logs }).toString() });
    expect(error).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/logs', message: error.message }] });
    expect(error.message).toContain('`logs` must be true or false');
  });

  test.each([
    ['0', 0],
    ['25', 25],
    ['60', 60],
    ['61', 60],
    ['1'.repeat(400), 60],
  ])('?wait=%s waits for a change for %i s, at most 60', (wait, seconds) => {
    expect(decode(line, { query: `wait=${wait}` })).toHaveProperty('wait', { until: 'change', seconds });
  });

  test.each(['', '-1', '1.5', 'soon', '1e1', ' 1'])('?wait=%j is refused by name', (wait) => {
    const error = refusal(line, { query: new URLSearchParams({ wait }).toString() });
    expect(error).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/wait', message: error.message }] });
    expect(error.message).toContain('`wait` must be a whole number of seconds, 0 to 60');
  });
});

test.each(['GET /v2/requests/:id', 'GET /v1/requests/:id'])('%s reads the job at once', (line) => {
  expect(decode(line, {})).toEqual({ kind: 'read', id: JOB_ID });
});

test.each(['POST', 'PUT'])('%s /v2/requests/:id/cancel cancels the job and reads no body', (method) => {
  const line = `${method} /v2/requests/:id/cancel`;
  expect(decode(line, {})).toEqual({ kind: 'cancel', id: JOB_ID });
  expect(routeOf(native, line).body).toBe('none');
});

test('DELETE /v2/requests/:id purges the job', () => {
  expect(decode('DELETE /v2/requests/:id', {})).toEqual({ kind: 'purge', id: JOB_ID });
});

describe('GET /v2/requests', () => {
  const line = 'GET /v2/requests';

  test.each([
    ['', { limit: 20 }],
    ['limit=1', { limit: 1 }],
    ['limit=100&cursor=abc', { limit: 100, cursor: 'abc' }],
    ['cursor=', { limit: 20 }],
    ['status=FAILED', { limit: 20, state: 'FAILED' }],
    ['status=processing', { limit: 20, state: 'PROCESSING' }],
  ])('?%s asks for %j', (query, wanted) => {
    expect(decode(line, { query })).toEqual({ kind: 'list', ...wanted });
  });

  test.each(['limit=0', 'limit=101', 'limit=-1', 'limit=1.5', 'limit=', 'limit=ten'])('?%s is refused with what is allowed', (query) => {
    const error = refusal(line, { query });
    expect(error).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/limit' }] });
    expect(error.message).toContain('`limit` must be a whole number from 1 to 100');
  });

  test.each(['status=', 'status=done', 'status=FAILED%20'])('?%s is refused with the states there are', (query) => {
    const error = refusal(line, { query });
    expect(error).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/status' }] });
    expect(error.message).toContain('`status` must be one of QUEUED, PROCESSING, COMPLETED, FAILED, CANCELLED');
  });

  test('reports every wrong value at once', () => {
    expect(refusal(line, { query: 'limit=0&status=done' }).problems.map(({ pointer }) => pointer)).toEqual(['/limit', '/status']);
  });
});

describe('GET /v2/requests/:id/events', () => {
  const line = 'GET /v2/requests/:id/events';

  test.each<[string, RequestFields, number]>([
    ['from the first event', {}, 0],
    ['behind ?after', { query: 'after=4' }, 4],
    ['behind Last-Event-ID', { headers: { 'last-event-id': '9' } }, 9],
    ['behind Last-Event-ID when a reconnect repeats ?after', { query: 'after=4', headers: { 'last-event-id': '9' } }, 9],
    ['behind ?after when Last-Event-ID is empty', { query: 'after=4', headers: { 'last-event-id': '' } }, 4],
  ])('follows %s', (_case, fields, after) => {
    expect(decode(line, fields)).toEqual({ kind: 'follow', id: JOB_ID, after });
  });

  test.each(['-1', '1.5', 'abc', '', '2147483648', '9'.repeat(30)])('refuses ?after=%s', (after) => {
    expect(refusal(line, { query: `after=${after}` })).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/after' }] });
  });

  test('refuses a Last-Event-ID it never sent, even when ?after is right', () => {
    const error = refusal(line, { query: 'after=1', headers: { 'last-event-id': 'abc' } });
    expect(error).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/Last-Event-ID' }] });
    expect(error.message).toContain('The header `Last-Event-ID`');
  });
});

import { AppError, type Delivery, type DeliveryDetail, type Replay } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import native from './native.ts';
import {
  aRequest,
  BASE_URL,
  bodyOf,
  CREATED_AT,
  FINISHED_AT,
  JOB_ID,
  type RequestFields,
  routeOf,
  STARTED_AT,
} from './testing/fixtures.ts';

const ID = '019b7602-7c00-7000-8000-00000000d001';

const PENDING: Delivery = {
  id: ID,
  callerId: '019b7602-7c00-7000-8000-00000000c001',
  jobId: JOB_ID,
  event: 'request.completed',
  sequence: 3,
  url: 'https://one.example/hook',
  state: 'PENDING',
  sendCount: 1,
  schedule: [0, 5],
  createdAt: CREATED_AT,
  next: { at: FINISHED_AT, trigger: 'auto' },
  endpoint: { state: 'failing', since: STARTED_AT },
};
const PENDING_BODY = {
  id: ID,
  request_id: JOB_ID,
  event: 'request.completed',
  sequence: 3,
  url: 'https://one.example/hook',
  state: 'PENDING',
  failure_code: null,
  send_count: 1,
  created_at: CREATED_AT.toISOString(),
  finished_at: null,
  next_send_at: FINISHED_AT.toISOString(),
  trigger: 'auto',
  schedule: [0, 5],
  endpoint: { state: 'failing', since: STARTED_AT.toISOString() },
};
const HELD: Delivery = {
  id: ID,
  callerId: PENDING.callerId,
  event: 'webhook.test',
  sequence: 0,
  url: 'https://one.example/hook',
  state: 'HELD',
  failureCode: 'endpoint_disabled',
  sendCount: 0,
  schedule: [0],
  createdAt: CREATED_AT,
  finishedAt: FINISHED_AT,
  endpoint: { state: 'disabled', reason: 'gone', since: STARTED_AT },
};
const DETAIL: DeliveryDetail = {
  delivery: PENDING,
  message: '{"id":1.0}',
  sends: [
    {
      number: 1,
      trigger: 'manual',
      startedAt: STARTED_AT,
      timings: { dnsMs: 1.26, connectMs: 0, firstByteMs: 40.04, totalMs: 41 },
      address: '203.0.113.7',
      requestHeaders: { 'webhook-id': ID },
      status: 503,
      responseHeaders: { 'retry-after': '60' },
      responseBody: 'later',
      error: { code: 'http_error', message: 'The receiver answered 503.' },
      nextSendAt: FINISHED_AT,
      nextReason: 'as Retry-After asks',
    },
    { number: 2, trigger: 'auto', startedAt: STARTED_AT, timings: { totalMs: 3 } },
  ],
};
const REPLAY: Replay = {
  id: ID,
  callerId: PENDING.callerId,
  since: CREATED_AT,
  before: FINISHED_AT,
  states: ['FAILED', 'HELD'],
  perSecond: 50,
  queued: 7,
  createdAt: FINISHED_AT,
};

function decode(line: string, fields: RequestFields = {}): unknown {
  return routeOf(native, line).decode(aRequest({ params: { id: ID }, ...fields }));
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

describe.each([
  ['GET /v2/deliveries', { kind: 'listDeliveries' }],
  ['GET /v2/requests/:id/deliveries', { kind: 'listDeliveriesOfJob', jobId: ID }],
])('%s', (line, operation) => {
  test.each([
    ['', { limit: 20 }],
    ['limit=1&cursor=abc', { limit: 1, cursor: 'abc' }],
    ['limit=100&cursor=&state=held', { limit: 100, state: 'HELD' }],
  ])('with ?%s asks for %j', (query, wanted) => {
    expect(decode(line, { query })).toEqual({ ...operation, ...wanted });
  });

  test('reports every wrong value at once', () => {
    const error = refusal(line, { query: 'limit=101&state=COMPLETED' });
    expect(error.problems.map(({ pointer }) => pointer)).toEqual(['/limit', '/state']);
    expect(error.message).toContain('`state` must be one of PENDING, DELIVERED, FAILED, HELD, not "COMPLETED".');
  });

  test('answers with a page', () => {
    const { encode } = routeOf(native, line);
    const answer = encode({ deliveries: [PENDING], nextCursor: ID }, aRequest());
    expect(answer.status).toBe(200);
    expect(bodyOf(answer)).toEqual({ deliveries: [PENDING_BODY], next_cursor: ID });
    expect(bodyOf(encode({ deliveries: [] }, aRequest()))).toEqual({ deliveries: [], next_cursor: null });
  });
});

describe('a delivery', () => {
  const { encode } = routeOf(native, 'GET /v2/deliveries/:id');

  test('is told with its message as text, and every send with nulls where there is nothing to tell', () => {
    const answer = encode(DETAIL, aRequest());
    expect(answer.status).toBe(200);
    expect(bodyOf(answer)).toEqual({
      ...PENDING_BODY,
      message: '{"id":1.0}',
      sends: [
        {
          number: 1,
          trigger: 'manual',
          started_at: STARTED_AT.toISOString(),
          duration_ms: 41,
          timings: { dns_ms: 1.3, connect_ms: 0, tls_ms: null, first_byte_ms: 40, total_ms: 41 },
          address: '203.0.113.7',
          request_headers: { 'webhook-id': ID },
          status: 503,
          response_headers: { 'retry-after': '60' },
          response_body: 'later',
          error: { code: 'http_error', message: 'The receiver answered 503.' },
          next_send_at: FINISHED_AT.toISOString(),
          next_reason: 'as Retry-After asks',
        },
        {
          number: 2,
          trigger: 'auto',
          started_at: STARTED_AT.toISOString(),
          duration_ms: 3,
          timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: null, total_ms: 3 },
          address: null,
          request_headers: null,
          status: null,
          response_headers: null,
          response_body: null,
          error: null,
          next_send_at: null,
          next_reason: null,
        },
      ],
    });
  });

  test('of no request, whose message is gone, is told with nulls', () => {
    expect(bodyOf(encode({ delivery: HELD, sends: [] }, aRequest()))).toMatchObject({
      request_id: null,
      state: 'HELD',
      failure_code: 'endpoint_disabled',
      finished_at: FINISHED_AT.toISOString(),
      next_send_at: null,
      trigger: null,
      endpoint: { state: 'disabled', reason: 'gone', since: STARTED_AT.toISOString() },
      message: null,
      sends: [],
    });
  });

  test('is read by its id', () => {
    expect(decode('GET /v2/deliveries/:id')).toEqual({ kind: 'readDelivery', id: ID });
  });
});

test('a resend needs no body, and is answered with the delivery as accepted', () => {
  const line = 'POST /v2/deliveries/:id/resend';
  expect(routeOf(native, line).body).toBe('none');
  expect(decode(line)).toEqual({ kind: 'resendDelivery', id: ID });
  const answer = routeOf(native, line).encode({ delivery: PENDING }, aRequest());
  expect(answer.status).toBe(202);
  expect(bodyOf(answer)).toEqual(PENDING_BODY);
});

describe('a replay', () => {
  const line = 'POST /v2/deliveries/replay';
  const since = '2026-01-01T10:00:00Z';

  test.each([
    [{ since }, { since: new Date(since) }],
    [{ since, before: null, states: null, per_second: null }, { since: new Date(since) }],
    [
      { since: '2026-01-01T11:00:00+01:00', before: '2026-01-02T00:00:00.5Z', states: ['DELIVERED', 'FAILED'], per_second: 1_000 },
      { since: new Date(since), before: new Date('2026-01-02T00:00:00.500Z'), states: ['FAILED', 'DELIVERED'], perSecond: 1_000 },
    ],
    [
      { since, per_second: 1 },
      { since: new Date(since), perSecond: 1 },
    ],
  ])('of %j is understood', (body, range) => {
    expect(decode(line, { body: JSON.stringify(body) })).toEqual({ kind: 'startReplay', ...range });
  });

  test.each([
    ['[]', ['']],
    ['null', ['']],
    ['{}', ['/since']],
    ['{"since":null}', ['/since']],
    ['{"since":1}', ['/since']],
    ['{"since":"yesterday"}', ['/since']],
    ['{"since":"2026-01-01"}', ['/since']],
    ['{"since":"2026-01-01T10:00:00"}', ['/since']],
    ['{"since":"2026-13-01T10:00:00Z"}', ['/since']],
    [`{"since":"${since}","before":"${since}"}`, ['/before']],
    [`{"since":"${since}","before":"2025-12-31T10:00:00Z"}`, ['/before']],
    [`{"since":"${since}","before":"soon"}`, ['/before']],
    [`{"since":"${since}","states":[]}`, ['/states']],
    [`{"since":"${since}","states":"FAILED"}`, ['/states']],
    [`{"since":"${since}","states":["PENDING"]}`, ['/states']],
    [`{"since":"${since}","states":["FAILED","failed"]}`, ['/states']],
    [`{"since":"${since}","states":["FAILED","FAILED"]}`, ['/states']],
    [`{"since":"${since}","per_second":0}`, ['/per_second']],
    [`{"since":"${since}","per_second":1001}`, ['/per_second']],
    [`{"since":"${since}","per_second":1.5}`, ['/per_second']],
    [`{"since":"${since}","per_second":"50"}`, ['/per_second']],
    [`{"since":"${since}","until":"${since}"}`, ['/until']],
    [`{"until/x":1,"since":0,"before":0,"states":0,"per_second":-1}`, ['/until~1x', '/since', '/before', '/states', '/per_second']],
  ])('of %s is refused, with everything that is wrong at once', (body, pointers) => {
    const { code, problems, message } = refusal(line, { body });
    expect(code).toBe('invalid_parameters');
    expect(problems.map(({ pointer }) => pointer)).toEqual(pointers);
    for (const problem of problems) expect(message).toContain(problem.message);
  });

  test.each([
    [line, 202],
    ['GET /v2/deliveries/replay/:id', 200],
    ['DELETE /v2/deliveries/replay/:id', 200],
  ])('is answered by %s with %i and how far it is', (each, status) => {
    const answer = routeOf(native, each).encode({ replay: REPLAY }, aRequest());
    expect(answer.status).toBe(status);
    const body = {
      replay_id: ID,
      state: 'running',
      queued: 7,
      since: CREATED_AT.toISOString(),
      before: FINISHED_AT.toISOString(),
      states: ['FAILED', 'HELD'],
      per_second: 50,
      created_at: FINISHED_AT.toISOString(),
      finished_at: null,
      status_url: `${BASE_URL}/v2/deliveries/replay/${ID}`,
    };
    expect(bodyOf(answer)).toEqual(body);
    const done = routeOf(native, each).encode({ replay: { ...REPLAY, finishedAt: FINISHED_AT } }, aRequest());
    expect(bodyOf(done)).toEqual({ ...body, state: 'done', finished_at: FINISHED_AT.toISOString() });
  });

  test('is read and stopped by its id', () => {
    expect(decode('GET /v2/deliveries/replay/:id')).toEqual({ kind: 'readReplay', id: ID });
    expect(decode('DELETE /v2/deliveries/replay/:id')).toEqual({ kind: 'stopReplay', id: ID });
  });
});

describe('a test send', () => {
  const line = 'POST /v2/webhooks/test';

  test.each([
    [{ url: 'https://one.example/' }, {}],
    [{ url: 'https://one.example/', event: null }, {}],
    [{ url: 'https://one.example/', event: 'request.failed' }, { event: 'request.failed' }],
  ])('of %j is understood', (body, rest) => {
    expect(decode(line, { body: JSON.stringify(body) })).toEqual({ kind: 'testWebhook', url: 'https://one.example/', ...rest });
  });

  test.each([
    ['[]', ['']],
    ['{}', ['/url']],
    ['{"url":7}', ['/url']],
    ['{"url":"https://one.example/","event":"webhook.test"}', ['/event']],
    ['{"url":["x"],"event":1,"hook":2}', ['/hook', '/url', '/event']],
  ])('of %s is refused, with everything that is wrong at once', (body, pointers) => {
    const { code, problems } = refusal(line, { body });
    expect(code).toBe('invalid_parameters');
    expect(problems.map(({ pointer }) => pointer)).toEqual(pointers);
  });

  test('is answered 200 once it was made, and 202 while it waits for that', () => {
    const { encode } = routeOf(native, line);
    expect(encode(DETAIL, aRequest()).status).toBe(202);
    const made = encode({ ...DETAIL, delivery: HELD }, aRequest());
    expect(made.status).toBe(200);
    expect(bodyOf(made)).toMatchObject({ id: ID, event: 'webhook.test', sends: [{ number: 1 }, { number: 2 }] });
  });
});

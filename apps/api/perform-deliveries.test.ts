import { newId, systemClock } from '@claimcheck/core';
import { listen } from '@claimcheck/engine/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonBody, jsonOf, MODEL, ORIGIN, startTestService, type TestService } from './testing/service.ts';

/** An id that this service could have made and did not. */
const UNKNOWN_ID = '019b7602-7c00-7000-8000-00000000a001';
const POLL = { timeout: 60_000, interval: 20 };

interface Client {
  call(path: string, init?: RequestInit): Promise<{ readonly status: number; readonly body: Record<string, unknown> }>;
  /** Waits until the delivery has this state. */
  until(id: string, state: string): Promise<void>;
}

/** Each test has a caller of its own. */
async function aClient(service: TestService): Promise<Client> {
  const key = await service.newKey(newId(systemClock));
  const call: Client['call'] = async (path, init = {}) => {
    const response = await service.request(path, { ...init, headers: { ...init.headers, 'x-api-key': key } });
    return { status: response.status, body: await jsonOf(response) };
  };
  const until = (id: string, state: string) => expect.poll(async () => (await call(`/v2/deliveries/${id}`)).body.state, POLL).toBe(state);
  return { call, until };
}

function deliveriesIn(body: Record<string, unknown>): Record<string, unknown>[] {
  return Array.isArray(body.deliveries) ? body.deliveries : [];
}

/** A receiver that fails until it is told otherwise. */
async function aReceiver() {
  let status = 500;
  const received: unknown[] = [];
  const server = await listen((request, response) => {
    received.push(request.headers['webhook-id']);
    request.resume().on('end', () => response.writeHead(status).end('so it is'));
  });
  return {
    ...server,
    received,
    recover() {
      status = 200;
    },
  };
}

describe('with a dispatcher', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service[Symbol.asyncDispose]());

  async function failedDelivery({ call, until }: Client, webhook: string): Promise<{ readonly id: string; readonly requestId: string }> {
    const submitted = await call(`/v2/${MODEL}`, jsonBody({ prompt: '[[slow:0]]', webhook }, { prefer: 'wait=20' }));
    const requestId = String(submitted.body.request_id);
    const [delivery] = deliveriesIn((await call(`/v2/requests/${requestId}/deliveries`)).body);
    const id = String(delivery?.id);
    await until(id, 'FAILED');
    return { id, requestId };
  }

  test('a webhook that failed is found, looked into, sent again, and arrives', async () => {
    await using receiver = await aReceiver();
    const client = await aClient(service);
    const { id, requestId } = await failedDelivery(client, `${receiver.url}/hook`);
    const failed = await client.call('/v2/deliveries?state=FAILED');
    expect(deliveriesIn(failed.body)).toMatchObject([
      { id, request_id: requestId, event: 'request.completed', failure_code: 'http_error', send_count: 2, endpoint: { state: 'failing' } },
    ]);
    const { status, body } = await client.call(`/v2/deliveries/${id}`);
    expect(status).toBe(200);
    expect(JSON.parse(String(body.message))).toMatchObject({ id: requestId, status: 9 });
    expect(body.sends).toMatchObject([
      { number: 1, trigger: 'auto', status: 500, response_body: 'so it is', address: '127.0.0.1', next_send_at: expect.any(String) },
      { number: 2, trigger: 'auto', status: 500, error: { code: 'http_error' }, next_send_at: null },
    ]);
    receiver.recover();
    const resent = await client.call(`/v2/deliveries/${id}/resend`, { method: 'POST' });
    expect(resent).toMatchObject({ status: 202, body: { id } });
    await client.until(id, 'DELIVERED');
    expect(receiver.received).toEqual([id, id, id]);
  });

  test('a replay sends what failed again, and tells how far it is', async () => {
    await using receiver = await aReceiver();
    const client = await aClient(service);
    const { id } = await failedDelivery(client, receiver.url);
    receiver.recover();
    const started = await client.call('/v2/deliveries/replay', jsonBody({ since: '2026-01-01T00:00:00Z' }));
    expect(started.status).toBe(202);
    expect(started.body).toMatchObject({ states: ['FAILED', 'HELD'], per_second: 50, since: '2026-01-01T00:00:00.000Z' });
    const statusUrl = String(started.body.status_url);
    expect(statusUrl).toBe(`${ORIGIN}/v2/deliveries/replay/${started.body.replay_id}`);
    // The dispatcher works it off.
    await client.until(id, 'DELIVERED');
    expect(await client.call(statusUrl)).toMatchObject({
      status: 200,
      body: { state: 'done', queued: 1, finished_at: expect.any(String) },
    });
    const stopped = await client.call(statusUrl, { method: 'DELETE' });
    expect(stopped.body).toEqual((await client.call(statusUrl)).body);
  });

  test('a URL can be tried, and the answer has the send', async () => {
    await using receiver = await aReceiver();
    const client = await aClient(service);
    const bad = await client.call('/v2/webhooks/test', jsonBody({ url: receiver.url }));
    expect(bad).toMatchObject({
      status: 200,
      body: { event: 'webhook.test', request_id: null, state: 'FAILED', sends: [{ status: 500 }] },
    });
    receiver.recover();
    const good = await client.call('/v2/webhooks/test', jsonBody({ url: receiver.url, event: 'request.failed' }));
    expect(good).toMatchObject({ status: 200, body: { state: 'DELIVERED', sends: [{ trigger: 'test', status: 200 }] } });
    const message: unknown = JSON.parse(String(good.body.message));
    expect(Object.keys(message ?? {})).toEqual(['id', 'status', 'output', 'error', 'session_id', 'created_at', 'updated_at']);
    expect(message).toMatchObject({ status: 10, output: null, error: expect.stringContaining('test') });
    expect(receiver.received).toEqual([bad.body.id, good.body.id]);
    expect(deliveriesIn((await client.call('/v2/deliveries')).body)).toHaveLength(2);
  });

  test('a test send looks as the webhooks of its key do', async () => {
    await using receiver = await aReceiver();
    receiver.recover();
    const client = await aClient(service);
    await client.call('/v2/webhooks/settings', { ...jsonBody({ format: 'standard' }), method: 'PUT' });
    const { body } = await client.call('/v2/webhooks/test', jsonBody({ url: receiver.url }));
    expect(JSON.parse(String(body.message))).toMatchObject({ type: 'webhook.test', data: { status: 9, output: { images: [{}] } } });
  });
});

describe('without a dispatcher', () => {
  let service: TestService;
  let client: Client;
  let stranger: Client;
  let id: string;
  let requestId: string;
  let replayId: string;
  beforeAll(async () => {
    service = await startTestService({ worker: false });
    client = await aClient(service);
    stranger = await aClient(service);
    const submitted = await client.call(`/v2/${MODEL}`, jsonBody({ prompt: 'x', webhook: 'http://127.0.0.1:9/hook' }));
    requestId = String(submitted.body.request_id);
    await client.call(`/v2/requests/${requestId}/cancel`, { method: 'POST' });
    id = String(deliveriesIn((await client.call(`/v2/requests/${requestId}/deliveries`)).body)[0]?.id);
    replayId = String((await client.call('/v2/deliveries/replay', jsonBody({ since: '2026-01-01T00:00:00Z' }))).body.replay_id);
  });
  afterAll(() => service[Symbol.asyncDispose]());

  const ROUTES = [
    ['GET', '/v2/deliveries/{id}', 'Delivery'],
    ['POST', '/v2/deliveries/{id}/resend', 'Delivery'],
    ['GET', '/v2/deliveries/replay/{id}', 'Replay'],
    ['DELETE', '/v2/deliveries/replay/{id}', 'Replay'],
  ] as const;

  test.each(ROUTES)("%s %s answers another caller's id exactly as an unknown one, and changes nothing", async (method, path, noun) => {
    const own = noun === 'Replay' ? replayId : id;
    const readPath = noun === 'Replay' ? `/v2/deliveries/replay/${replayId}` : `/v2/deliveries/${id}`;
    const before = await client.call(readPath);
    expect(before.status).toBe(200);
    for (const asked of [own, UNKNOWN_ID, 'x', "';--"]) {
      const { status, body } = await stranger.call(path.replace('{id}', encodeURIComponent(asked)), { method });
      expect({ status, body }).toEqual({ status: 404, body: { error: `${noun} ${asked} not found`, code: 'not_found' } });
    }
    expect(await client.call(readPath)).toEqual(before);
  });

  test('every route with the id of a delivery or a replay is among those', () => {
    const paths = service.app.routes.filter(({ method, path }) => method !== 'ALL' && /\/deliveries\/.*:id/.test(path));
    const known = new Set(ROUTES.map(([method, path]) => `${method} ${path.replace('{id}', ':id')}`));
    expect(new Set(paths.map(({ method, path }) => `${method} ${path}`))).toEqual(known);
  });

  test("another caller's deliveries are in no list", async () => {
    expect((await stranger.call('/v2/deliveries')).body).toEqual({ deliveries: [], next_cursor: null });
    expect(deliveriesIn((await client.call('/v2/deliveries')).body)).toMatchObject([{ id, request_id: requestId }]);
  });

  test("a replay takes nothing of another caller's, nor does a test send show there", async () => {
    const other = await stranger.call('/v2/deliveries/replay', jsonBody({ since: '2026-01-01T00:00:00Z' }));
    expect(other.body).toMatchObject({ queued: 0 });
    expect((await client.call(`/v2/deliveries/${id}`)).body).toMatchObject({ trigger: 'auto' });
  });

  test('what a job owed can be looked at when the job itself is gone', async () => {
    await using alone = await startTestService({ worker: false });
    const submitted = await alone.submit({ prompt: 'x', webhook: 'http://127.0.0.1:9/hook' });
    const silent = await alone.submit({ prompt: 'x' });
    for (const job of [submitted, silent]) await alone.request(`/v2/requests/${job}/cancel`, { method: 'POST' });
    await alone.database.setClockAhead(3_601);
    expect((await alone.request(`/v2/requests/${submitted}`)).status).toBe(404);
    const kept = await alone.request(`/v2/requests/${submitted}/deliveries`);
    expect(deliveriesIn(await jsonOf(kept))).toMatchObject([{ request_id: submitted, event: 'request.cancelled' }]);
    const gone = await alone.request(`/v2/requests/${silent}/deliveries`);
    expect(await jsonOf(gone)).toEqual({ error: `Request ${silent} not found`, code: 'not_found' });
  });

  test('answers about a delivery name no request that is none', async () => {
    const response = await service.request(`/v2/deliveries/${UNKNOWN_ID}`);
    expect(response.headers.has('x-request-id')).toBe(false);
    const key = await service.newKey('with a test send');
    const headers = { 'x-api-key': key };
    const aborted = AbortSignal.abort();
    await service.request('/v2/webhooks/test', { ...jsonBody({ url: 'http://127.0.0.1:9/' }, headers), signal: aborted }).catch(() => {});
    const listed = await service.request('/v2/deliveries', { headers });
    const [delivery] = deliveriesIn(await jsonOf(listed));
    const read = await service.request(`/v2/deliveries/${delivery?.id}`, { headers });
    expect(read.status).toBe(200);
    expect(read.headers.has('x-request-id')).toBe(false);
  });

  test.each(['?cursor=x', `?cursor=${'a'.repeat(5_000)}`, '?limit=0', '?limit=x', '?state=DONE'])(
    'a list is not made with %s',
    async (query) => {
      for (const path of ['/v2/deliveries', `/v2/requests/${requestId}/deliveries`]) {
        const { status, body } = await client.call(`${path}${query}`);
        expect(status).toBe(400);
        expect(body).toMatchObject({ errors: [{ pointer: `/${query.slice(1).split('=')[0]}` }] });
      }
    },
  );

  test('a replay of the future is refused by the field', async () => {
    const { status, body } = await client.call('/v2/deliveries/replay', jsonBody({ since: '2999-01-01T00:00:00Z' }));
    expect(status).toBe(400);
    expect(body).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer: '/since' }] });
  });

  test.each([
    ['ftp://127.0.0.1/', '/url'],
    ['http://10.0.0.1/', '/url'],
    ['http://user:secret@127.0.0.1/', '/url'],
    ['', '/url'],
  ])('the URL %j is not tried', async (url, pointer) => {
    const other = await aClient(service);
    const { status, body } = await other.call('/v2/webhooks/test', jsonBody({ url }));
    expect(status).toBe(400);
    expect(body).toMatchObject({ code: 'invalid_parameters', errors: [{ pointer }] });
    expect(JSON.stringify(body)).not.toContain('secret');
    expect((await other.call('/v2/deliveries')).body).toMatchObject({ deliveries: [] });
  });

  test('a test send that nobody makes is answered as accepted when the process drains', async () => {
    await using draining = await startTestService({ worker: false });
    const answer = draining.request('/v2/webhooks/test', jsonBody({ url: 'http://127.0.0.1:9/' }));
    const listed = async () => deliveriesIn(await jsonOf(await draining.request('/v2/deliveries')));
    await expect.poll(listed, POLL).toHaveLength(1);
    draining.startClosing();
    const response = await answer;
    expect(response.status).toBe(202);
    expect(await jsonOf(response)).toMatchObject({ state: 'PENDING', trigger: 'test', sends: [] });
  });

  test.each([
    ['GET', '/v2/deliveries/replay', 'POST'],
    ['DELETE', `/v2/deliveries/${UNKNOWN_ID}`, 'GET, HEAD'],
    ['POST', '/v2/deliveries', 'GET, HEAD'],
  ])('%s %s is told what is possible there', async (method, path, allowed) => {
    const response = await service.request(path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allowed);
  });

  test('nothing of it is to be had without a key', async () => {
    for (const path of [
      '/v2/deliveries',
      `/v2/deliveries/${id}`,
      `/v2/deliveries/replay/${replayId}`,
      `/v2/requests/${requestId}/deliveries`,
    ]) {
      expect((await service.app.request(path)).status).toBe(401);
    }
  });
});

import { createServer } from 'node:http';
import { connect, createServer as createTcpServer, type Socket } from 'node:net';
import { listen, redisUrl } from '@claimcheck/engine/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonBody, jsonOf, MODEL, ORIGIN, startTestService, type TestService } from './testing/service.ts';
import { sizeOfWebp } from './testing/webp.ts';

/** The request of the vendor's own page for this model. */
const VENDORS_REQUEST = {
  seed: -1,
  prompt: 'a cute panda holding a sign that says "Keep Calm and Keep Building"',
  model_type: 'fast',
  resolution: '1024 × 1024 (Square)',
  speed_mode: 'Lightly Juiced 🍊 (more consistent)',
  output_format: 'webp',
  output_quality: 100,
};

interface Received {
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

/** A webhook receiver that hands over the first message. */
async function startReceiver() {
  const first = Promise.withResolvers<Received>();
  const server = await listen(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    response.end();
    first.resolve({ headers: request.headers, body: Buffer.concat(chunks).toString() });
  });
  return { url: `${server.url}/hook`, first: first.promise, [Symbol.asyncDispose]: () => server.close() };
}

/** Follows a claim check as the vendor's client does: status until it ends, then the result, once. */
async function collect(service: TestService, claim: Record<string, unknown>) {
  for (;;) {
    const status = await jsonOf(await service.request(`${claim.status_url}?wait=10`));
    if (status.status === 'COMPLETED') break;
    if (status.status === 'FAILED') throw new Error(String(status.error));
  }
  return jsonOf(await service.request(String(claim.response_url)));
}

async function journey(service: TestService): Promise<void> {
  await using receiver = await startReceiver();
  const submitted = await service.request(`/v2/${MODEL}`, jsonBody({ ...VENDORS_REQUEST, webhook: receiver.url }));
  expect(submitted.status).toBe(200);
  const claim = await jsonOf(submitted);
  const id = String(claim.request_id);
  expect(claim).toEqual({
    request_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    status: 'QUEUED',
    status_url: `${ORIGIN}/v2/requests/${id}/status`,
    response_url: `${ORIGIN}/v2/requests/${id}`,
    cancel_url: `${ORIGIN}/v2/requests/${id}/cancel`,
    poll_url: `${ORIGIN}/v1/requests/${id}`,
    queue_position: 0,
  });

  const result = await collect(service, claim);
  expect(result).toMatchObject({
    status: 'COMPLETED',
    request_id: id,
    prompt: VENDORS_REQUEST.prompt,
    error: null,
    images: [{ url: result.output, content_type: 'image/webp', width: 1024, height: 1024 }],
    metrics: { inference_time: expect.any(Number), queue_time: expect.any(Number), total_time: expect.any(Number) },
  });
  expect(await jsonOf(await service.request(`/v1/requests/${id}`))).toEqual(result);

  const file = await service.app.request(String(result.output));
  expect(file.headers.get('content-type')).toBe('image/webp');
  expect(sizeOfWebp(new Uint8Array(await file.arrayBuffer()))).toEqual({ width: 1024, height: 1024 });

  const { headers, body } = await receiver.first;
  expect(headers).toMatchObject({ 'content-type': 'application/json', 'webhook-id': expect.any(String) });
  const message = JSON.parse(body);
  expect(Object.keys(message)).toEqual(['id', 'status', 'output', 'error', 'session_id', 'created_at', 'updated_at']);
  expect(message).toMatchObject({ id, status: 9, error: '', session_id: null, output: { output: result.output } });
}

describe('a job from submission to webhook', () => {
  test('on Postgres alone', async () => {
    await using service = await startTestService();
    await journey(service);
  });

  test('with Redis as the queue', async () => {
    await using service = await startTestService({ redisUrl: redisUrl() });
    await journey(service);
  });
});

describe('an application', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ worker: false });
  });
  afterAll(() => service[Symbol.asyncDispose]());

  test('says that it lives, and that it is ready, without a key', async () => {
    expect(await jsonOf(await service.app.request('/healthz'))).toEqual({ status: 'ok' });
    const ready = await service.app.request('/readyz');
    expect(ready.status).toBe(200);
    expect(await jsonOf(ready)).toEqual({ status: 'ok', database: 'ok', migrations: 'ok', queue: 'ok' });
  });

  test.each([
    ['DELETE', '/healthz', 'GET, HEAD'],
    ['POST', '/readyz', 'GET, HEAD'],
    ['PUT', `/files/${'a'.repeat(43)}/image.webp`, 'GET, HEAD'],
    ['POST', '/v2/requests', 'GET, HEAD'],
    ['GET', `/v2/${MODEL}`, 'POST'],
    ['HEAD', `/v2/${MODEL}`, 'POST'],
    ['PATCH', `/v1/${MODEL}`, 'POST'],
    ['POST', '/v2/requests/x/status', 'GET, HEAD'],
    ['POST', '/v2/requests/x/events', 'GET, HEAD'],
    ['GET', '/v2/requests/x/cancel', 'POST, PUT'],
    ['PATCH', '/v2/requests/x', 'GET, HEAD, DELETE'],
    ['OPTIONS', '/v2/requests/x', 'GET, HEAD, DELETE'],
  ])('%s %s is refused and told to use %s', async (method, path, allow) => {
    const response = await service.app.request(path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allow);
    if (method !== 'HEAD') expect(await jsonOf(response)).toMatchObject({ code: 'method_not_allowed', error: expect.any(String) });
  });

  test.each(['/', '/v2', '/v2/', '/v3/x', '/uploads', '/uploads/x/y', '/healthz/x', '//', '/favicon.ico', '/.env', '/v2/requests/x/y/z'])(
    'GET %s names nothing',
    async (path) => {
      const response = await service.request(path);
      const expected = path === '/v2/requests/x/y/z' ? 405 : 404;
      expect(response.status).toBe(expected);
      expect(await jsonOf(response)).toMatchObject({ code: expected === 405 ? 'method_not_allowed' : 'unknown_path' });
    },
  );

  test('marks every answer as private and as what it says it is', async () => {
    for (const path of ['/healthz', '/nothing', '/v2/requests']) {
      const { headers } = await service.request(path);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
  });

  test('names the request in a header of every answer about one', async () => {
    const submitted = await service.request(`/v2/${MODEL}`, jsonBody({ prompt: 'x' }));
    const id = String((await jsonOf(submitted)).request_id);
    expect(submitted.headers.get('x-request-id')).toBe(id);
    for (const [method, path] of [
      ['GET', `/v2/requests/${id}/status`],
      ['GET', `/v2/requests/${id}`],
      ['POST', `/v2/requests/${id}/cancel`],
      ['GET', `/v2/requests/${id}/events`],
      ['DELETE', `/v2/requests/${id}`],
    ] as const) {
      expect((await service.request(path, { method })).headers.get('x-request-id')).toBe(id);
    }
    expect((await service.request('/v2/requests')).headers.has('x-request-id')).toBe(false);
    expect((await service.request(`/v2/requests/${id}`)).headers.has('x-request-id')).toBe(false);
  });

  test('is degraded but ready without its queue, and takes submissions', async () => {
    const gone = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => gone.once('listening', resolve));
    const address = gone.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    await new Promise((resolve) => gone.close(resolve));
    await using alone = await startTestService({ worker: false, redisUrl: `redis://127.0.0.1:${port}` });
    const ready = await alone.app.request('/readyz');
    expect(ready.status).toBe(200);
    expect(await jsonOf(ready)).toMatchObject({ status: 'degraded', database: 'ok', queue: 'unreachable' });
    const id = await alone.submit({ prompt: 'x' });
    expect(await jsonOf(await alone.request(`/v2/requests/${id}`))).toMatchObject({ status: 'QUEUED' });
  });

  test('uses the public URL it was told, whatever the request names', async () => {
    await using known = await startTestService({ worker: false, publicUrl: 'https://queue.example/base' });
    const claim = await jsonOf(await known.request(`http://other.example/v2/${MODEL}`, jsonBody({ prompt: 'x' })));
    expect(claim.status_url).toBe(`https://queue.example/base/v2/requests/${claim.request_id}/status`);
  });

  test('does not believe what a proxy is said to have seen', async () => {
    const headers = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', forwarded: 'host=evil.example' };
    const claim = await jsonOf(await service.request(`/v2/${MODEL}`, jsonBody({ prompt: 'x' }, headers)));
    expect(claim.status_url).toBe(`${ORIGIN}/v2/requests/${claim.request_id}/status`);
  });
});

test('while the database is away nothing is accepted, and clients are told to try again', async () => {
  const proxy = await startProxy();
  await using service = await startTestService({ worker: false, connectTo: proxy.connectTo });
  const id = await service.submit({ prompt: 'x' });
  await proxy.close();
  for (const request of [
    () => service.request(`/v2/${MODEL}`, jsonBody({ prompt: 'x' })),
    () => service.request(`/v2/requests/${id}/status`),
    () => service.request(`/v2/requests/${id}`, { method: 'DELETE' }),
    () => service.request('/v2/requests'),
    () => service.app.request(`/files/${'a'.repeat(43)}/image.webp`),
  ]) {
    const response = await request();
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('2');
    expect(await jsonOf(response)).toEqual({ code: 'unavailable', error: expect.stringContaining('try again') });
  }
  const ready = await service.app.request('/readyz');
  expect(ready.status).toBe(503);
  expect(await jsonOf(ready)).toMatchObject({ status: 'unavailable', database: 'unreachable' });
  expect((await service.app.request('/healthz')).status).toBe(200);
});

/** A way to the database that can be cut. */
async function startProxy() {
  const sockets = new Set<Socket>();
  let target = new URL('postgres://localhost');
  const server = createTcpServer((inbound) => {
    const outbound = connect(Number(target.port), target.hostname);
    for (const socket of [inbound, outbound]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    inbound.pipe(outbound).pipe(inbound);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    async connectTo(databaseUrl: string): Promise<string> {
      target = new URL(databaseUrl);
      const url = new URL(databaseUrl);
      url.host = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
      return url.href;
    },
    async close(): Promise<void> {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

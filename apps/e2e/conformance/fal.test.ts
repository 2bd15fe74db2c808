/** fal's own client for JavaScript; what its client for Python does otherwise, by plain fetch. */
import { createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import { ApiError, createFalClient, type FalClient, type QueueStatus, ValidationError } from '@fal-ai/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Received, type Receiver, startReceiver } from '../testing/receiver.ts';
import { nowSeconds } from '../testing/signed-webhook.ts';

/** A string, because the client's types know the vendor's models only. */
const IMAGE: string = 'fal-ai/hidream-i1-fast';
const TEXT: string = 'meta/meta-llama-3.1-405b-instruct';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const POLL = { timeout: 30_000, interval: 50 };
/** For `subscribe`. */
const POLLING = { pollInterval: 50 };
const UNKNOWN = '019b7602-7c00-7000-8000-00000000a001';

let service: TestService;
let url: string;
let receiver: Receiver;
let fal: FalClient;
const started = new AsyncDisposableStack();

beforeAll(async () => {
  service = started.use(await startTestService());
  ({ url } = await service.listen());
  receiver = started.use(await startReceiver());
  fal = clientOf(service.key);
});
afterAll(() => started.disposeAsync());

/** As the README says. */
function clientOf(credentials: string, baseUrl = url): FalClient {
  return createFalClient({ credentials, proxyUrl: { url: `${baseUrl}/fal/proxy`, when: 'always' } });
}

async function thrownBy(call: () => Promise<unknown>): Promise<ApiError<{ detail?: unknown }>> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ApiError)) throw new Error(`The call threw ${error}.`);
  return error;
}

/** The job as the service's own format tells of it. */
async function jobOf(id: string) {
  return jsonOf(await service.request(`/v2/requests/${id}`));
}

async function statusOf(requestId: string) {
  return (await fal.queue.status(IMAGE, { requestId })).status;
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** Hands in a job that never ends by itself, and waits until it runs. */
async function runEndlessly(client = fal): Promise<string> {
  const { request_id: requestId } = await client.queue.submit(IMAGE, { input: { prompt: '[[hang]]' } });
  await expect.poll(() => statusOf(requestId), POLL).toBe('IN_PROGRESS');
  return requestId;
}

describe('run', () => {
  test('answers what the model made', async () => {
    const input = { prompt: 'a panda [[slow:0]]', num_images: 2, image_size: 'square', output_format: 'png', seed: 7 };
    const { data, requestId } = await fal.run(IMAGE, { input });
    expect(requestId).toMatch(UUID);
    expect(data).toMatchObject({
      images: [{ content_type: 'image/png', width: 512, height: 512 }, { content_type: 'image/png' }],
      has_nsfw_concepts: [false, false],
      seed: 7,
      prompt: input.prompt,
      timings: {},
    });
    const file = await fetch(data.images[0].url);
    expect(file.headers.get('content-type')).toBe('image/png');
    expect((await file.arrayBuffer()).byteLength).toBe(data.images[0].file_size);
  });

  test('answers with the bytes where sync_mode wants them', async () => {
    const { data } = await fal.run(IMAGE, { input: { prompt: 'a panda [[slow:0]]', sync_mode: true } });
    const [head, base64] = data.images[0].url.split(',');
    expect(head).toBe('data:image/jpeg;base64');
    expect(Buffer.from(base64, 'base64').subarray(0, 3).toString('hex')).toBe('ffd8ff');
  });

  test('takes any model, by names that the client would refuse, and at one provider', async () => {
    expect((await fal.run('_/hidream-l1-fast', { input: { prompt: 'a panda [[slow:0]]' } })).data).toHaveProperty('images');
    expect((await fal.run(`sandbox/${TEXT}`, { input: { prompt: 'Say panda. [[slow:0]]' } })).data).toMatchObject({
      output: expect.stringContaining('Say panda.'),
    });
  });

  test('takes parameters in the address line, when the client is told to use GET', async () => {
    const { data } = await fal.run(IMAGE, { method: 'get', input: { prompt: 'a panda [[slow:0]]', seed: 7, num_images: 2 } });
    expect(data).toMatchObject({ seed: 7, images: [{}, {}] });
  });
});

describe('the queue', () => {
  test('takes a request, tells where it stands, and has its result', async () => {
    const options = { priority: 'low', hint: 'h1', startTimeout: 60, storageSettings: { expiresIn: '1h' } } as const;
    const claim = await fal.queue.submit(IMAGE, { input: { prompt: 'a panda [[slow:200]]' }, ...options });
    expect(claim).toEqual({
      status: 'IN_QUEUE',
      request_id: expect.stringMatching(UUID),
      queue_position: 0,
      response_url: `${url}/fal/queue/${IMAGE}/requests/${claim.request_id}`,
      status_url: `${url}/fal/queue/${IMAGE}/requests/${claim.request_id}/status`,
      cancel_url: `${url}/fal/queue/${IMAGE}/requests/${claim.request_id}/cancel`,
    });
    const { request_id: requestId } = claim;
    const early = await thrownBy(() => fal.queue.result(IMAGE, { requestId }));
    expect(early).toMatchObject({ status: 400, requestId, body: { detail: expect.stringContaining('in progress') } });
    await expect.poll(() => statusOf(requestId), POLL).toBe('COMPLETED');
    const status = await fal.queue.status(IMAGE, { requestId, logs: true });
    expect(status).toMatchObject({ metrics: { inference_time: expect.any(Number) }, logs: expect.any(Array) });
    expect(status).not.toHaveProperty('error');
    const result = await fal.queue.result(IMAGE, { requestId });
    expect(result).toMatchObject({ requestId, data: { images: [{ url: expect.stringContaining(`${url}/files/`) }] } });
    expect(await jobOf(requestId)).toMatchObject({
      status: 'COMPLETED',
      output: expect.stringContaining(new URL(result.data.images[0].url).pathname),
    });
  });

  test('is told of by streams, each line of what was printed once', async () => {
    const { request_id: requestId } = await fal.queue.submit(IMAGE, { input: { prompt: 'a panda [[slow:400]]' } });
    const stream = await fal.queue.streamStatus(IMAGE, { requestId, logs: true });
    const statuses: QueueStatus[] = [];
    stream.on('data', (status) => statuses.push(status));
    expect(await stream.done()).toMatchObject({ status: 'COMPLETED', request_id: requestId });
    expect(stream.requestId).toBe(requestId);
    const words = statuses.map(({ status }) => status);
    expect([...new Set(words)].slice(-2)).toEqual(['IN_PROGRESS', 'COMPLETED']);
    const told = statuses.flatMap((status) => ('logs' in status && status.logs ? status.logs : []));
    const { logs } = Object(await fal.queue.status(IMAGE, { requestId, logs: true }));
    expect(told.length).toBeGreaterThan(1);
    expect(told.map(({ message }) => message)).toEqual(logs.map(({ message }: { message: string }) => message));
  });

  test('cancels what runs; what has ended stays as it is', async () => {
    const requestId = await runEndlessly();
    await fal.queue.cancel(IMAGE, { requestId });
    await expect.poll(() => statusOf(requestId), POLL).toBe('COMPLETED');
    expect(await fal.queue.status(IMAGE, { requestId })).toMatchObject({ error_type: 'client_cancelled' });
    const error = await thrownBy(() => fal.queue.result(IMAGE, { requestId }));
    expect(error).toMatchObject({ status: 499, body: { error_type: 'client_cancelled' } });
    expect(await jobOf(requestId)).toMatchObject({ status: 'CANCELLED' });
    const { requestId: done } = await fal.run(IMAGE, { input: { prompt: '[[slow:0]]' } });
    expect(await thrownBy(() => fal.queue.cancel(IMAGE, { requestId: done }))).toMatchObject({
      status: 400,
      body: { status: 'ALREADY_COMPLETED' },
    });
  });

  test('has the requests of every other format, and they have its own', async () => {
    const foreign = await jsonOf(await service.request('/v2/hidream-l1-fast', jsonBody({ prompt: '[[hang]]' })));
    const requestId = String(foreign.request_id);
    await expect.poll(() => statusOf(requestId), POLL).toBe('IN_PROGRESS');
    await fal.queue.cancel('_/hidream-l1-fast', { requestId });
    expect(await jobOf(requestId)).toMatchObject({ status: 'CANCELLED' });
    const own = await runEndlessly();
    expect((await service.request(`/v2/requests/${own}/cancel`, { method: 'POST' })).status).toBe(200);
    await expect.poll(() => statusOf(own), POLL).toBe('COMPLETED');
  });
});

describe('subscribe', () => {
  test('polls until the end, with what the run prints', async () => {
    const updates: QueueStatus[] = [];
    let enqueued = '';
    const { data, requestId } = await fal.subscribe(IMAGE, {
      input: { prompt: 'a panda [[slow:400]]' },
      logs: true,
      ...POLLING,
      onEnqueue: (id) => {
        enqueued = id;
      },
      onQueueUpdate: (update) => updates.push(update),
    });
    expect([enqueued, data.images.length]).toEqual([requestId, 1]);
    const last = updates.at(-1);
    if (last?.status !== 'COMPLETED') throw new Error(`The last update is ${last?.status}.`);
    expect(updates.map(({ status }) => status)).toContain('IN_PROGRESS');
    expect(last.logs.length).toBeGreaterThan(1);
    expect(last.logs[0]).toEqual({ message: expect.any(String), timestamp: expect.any(String), level: 'INFO', source: 'USER' });
  });

  test('follows a stream until the end', async () => {
    const updates: QueueStatus[] = [];
    const { data } = await fal.subscribe(IMAGE, {
      input: { prompt: 'a panda [[slow:300]]' },
      mode: 'streaming',
      logs: true,
      onQueueUpdate: (update) => updates.push(update),
    });
    expect(data.images).toHaveLength(1);
    expect(updates.at(-1)).toMatchObject({ status: 'COMPLETED' });
  });

  test('that has waited for long enough cancels the request', async () => {
    let requestId = '';
    const options = { input: { prompt: '[[hang]]' }, timeout: 300, ...POLLING };
    const call = fal.subscribe(IMAGE, {
      ...options,
      onEnqueue: (id) => {
        requestId = id;
      },
    });
    await expect(call).rejects.toThrow('Client timed out waiting for the request to complete after 300ms');
    await expect.poll(async () => (await jobOf(requestId)).status, POLL).toBe('CANCELLED');
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', ApiError, { status: 500, body: { detail: 'Too dark.', error_type: 'downstream_service_error' } }],
    ['is refused', '[[nsfw]]', ValidationError, { status: 422 }],
  ] as const)('throws what a run that %s has for a result', async (_what, prompt, type, members) => {
    const error = await thrownBy(() => fal.subscribe(IMAGE, { input: { prompt }, ...POLLING }));
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject({ ...members, requestId: expect.stringMatching(UUID) });
  });
});

describe('stream', () => {
  test('brings a text as it is written, and the result', async () => {
    const prompt = 'Say all of these many words slowly. [[slow:600]]';
    const stream = await fal.stream(TEXT, { input: { prompt } });
    const events = await collect(stream);
    const outputs = events.map((event) => String(event.output));
    expect(outputs.length).toBeGreaterThan(2);
    for (const [index, output] of outputs.slice(1).entries()) expect(output.startsWith(outputs[index] ?? '')).toBe(true);
    expect(events[0]).toMatchObject({ partial: true });
    expect(await stream.done()).toEqual(events.at(-1));
    expect(events.at(-1)).not.toHaveProperty('partial');
    expect(outputs.at(-1)).toContain('many words slowly.');
    expect(await jobOf(String(stream.requestId))).toMatchObject({ status: 'COMPLETED' });
  });

  test('of a picture is its result alone', async () => {
    const events = await collect(await fal.stream(IMAGE, { input: { prompt: 'a panda [[slow:0]]' } }));
    expect(events).toMatchObject([{ images: [{ content_type: 'image/jpeg' }] }]);
  });

  test('of a run that fails ends with the error', async () => {
    const stream = await fal.stream(IMAGE, { input: { prompt: '[[fail:Too dark.]]' } });
    expect(await stream.done()).toEqual({ detail: 'Too dark.', error_type: 'downstream_service_error' });
  });

  test('that cannot begin throws', async () => {
    const stream = await fal.stream(IMAGE, { input: {} });
    expect(await thrownBy(() => stream.done())).toBeInstanceOf(ValidationError);
  });
});

describe('errors', () => {
  test('of input name the field', async () => {
    const input = { prompt: 'x', num_images: 0, image_size: { width: 'wide' } };
    const error = await thrownBy(() => fal.queue.submit(IMAGE, { input }));
    if (!(error instanceof ValidationError)) throw error;
    expect(error.status).toBe(422);
    expect(error.getFieldErrors('num_images')).toEqual([{ loc: ['body', 'num_images'], msg: expect.any(String), type: 'value_error' }]);
    const missing = await thrownBy(() => fal.run(IMAGE, {}));
    expect(missing).toMatchObject({ fieldErrors: [{ loc: ['body', 'prompt'], msg: expect.stringContaining('missing') }] });
  });

  test('of refused content are about the prompt', async () => {
    const error = await thrownBy(() => fal.run(IMAGE, { input: { prompt: '[[nsfw]]' } }));
    if (!(error instanceof ValidationError)) throw error;
    expect(error.getFieldErrors('prompt')).toMatchObject([{ type: 'content_policy_violation' }]);
    expect(error.requestId).toMatch(UUID);
  });

  test('of a run come once: the client does not pay for it again', async () => {
    const before = await jsonOf(await service.request('/v2/requests?limit=100'));
    const error = await thrownBy(() => fal.run(IMAGE, { input: { prompt: '[[fail:Too dark.]]' } }));
    const after = await jsonOf(await service.request('/v2/requests?limit=100'));
    expect(error).toMatchObject({ status: 500, body: { detail: 'Too dark.' } });
    expect([after.requests].flat()).toHaveLength([before.requests].flat().length + 1);
  });

  test.each([
    ['a model that there is not', 404, { error_type: 'not_found' }, () => fal.run('acme/none', { input: {} })],
    ['a request that there is not', 404, { status: 'NOT_FOUND' }, () => fal.queue.result(IMAGE, { requestId: UNKNOWN })],
    ['an id that is none', 404, { status: 'NOT_FOUND' }, () => fal.queue.cancel(IMAGE, { requestId: 'x' })],
    ['the wrong key', 401, { error_type: 'unauthorized' }, () => clientOf('id:secret').run(IMAGE, { input: { prompt: 'x' } })],
    [
      'a header that means nothing',
      422,
      { detail: [{ loc: ['header', 'X-Fal-Request-Start-Timeout'] }] },
      () => fal.queue.submit(IMAGE, { input: { prompt: 'x' }, headers: { 'X-Fal-Request-Start-Timeout': 'soon' } }),
    ],
  ] as const)('of %s are its own, with status %i', async (_what, status, body, call) => {
    expect(await thrownBy(call)).toMatchObject({ status, body });
  });

  test("of another caller's requests are those of unknown ones", async () => {
    const { requestId } = await fal.run(IMAGE, { input: { prompt: '[[slow:0]]' } });
    const stranger = clientOf(await service.newKey('second caller'));
    const error = await thrownBy(() => stranger.queue.result(IMAGE, { requestId }));
    expect(error).toMatchObject({ status: 404, body: { status: 'NOT_FOUND' } });
  });

  test('of a start that came too late say that the client had set the time', async () => {
    await using idle = await startTestService({ worker: false });
    const client = clientOf(idle.key, (await idle.listen()).url);
    const { request_id: requestId } = await client.queue.submit(IMAGE, { input: { prompt: 'x' }, startTimeout: 5 });
    await idle.database.setClockAhead(10);
    await idle.engine.sweep.once();
    const error = await thrownBy(() => client.queue.result(IMAGE, { requestId }));
    expect(error).toMatchObject({ status: 504, isUserTimeout: true, body: { error_type: 'request_timeout' } });
  });
});

describe('files', () => {
  test('are uploaded, and stand at their addresses', async () => {
    const address = await fal.storage.upload(new File(['a picture'], 'a b.txt', { type: 'text/plain' }));
    const file = await fetch(address);
    expect([file.status, await file.text()]).toEqual([200, 'a picture']);
  });

  test('of more than 90 MiB are sent in parts', async () => {
    const noise = randomBytes(1024 ** 2);
    const whole = new File(Array<Buffer<ArrayBuffer>>(91).fill(noise), 'a film.bin', { type: 'video/mp4' });
    const address = await fal.storage.upload(whole);
    const file = await fetch(address);
    expect([file.headers.get('content-type'), file.headers.get('content-length')]).toEqual(['video/mp4', String(whole.size)]);
    expect(Buffer.compare(await file.bytes(), await whole.bytes())).toBe(0);
  });

  test('of the input are uploaded by themselves', async () => {
    const { data } = await fal.run(IMAGE, { input: { prompt: new Blob(['a picture'], { type: 'text/plain' }) } });
    const file = await fetch(data.prompt);
    expect(await file.text()).toBe('a picture');
  });
});

describe('a webhook', () => {
  const sentFor = (requestId: string) => receiver.received.find(({ body }) => body.request_id === requestId);

  async function arrived(prompt: string): Promise<Received> {
    const { request_id: requestId } = await fal.queue.submit(IMAGE, { input: { prompt }, webhookUrl: `${receiver.url}/hook?x=1` });
    await expect.poll(() => sentFor(requestId), POLL).toBeDefined();
    const sent = sentFor(requestId);
    if (!sent) throw new Error('It is gone.');
    return sent;
  }

  /** As the vendor tells receivers to: any of the published keys, over four lines, and no older than five minutes. */
  async function isGenuine({ headers, text }: Pick<Received, 'headers' | 'text'>): Promise<boolean> {
    const { keys } = await jsonOf(await fetch(`${url}/fal/rest/.well-known/jwks.json`));
    const said = ['request-id', 'user-id', 'timestamp'].map((name) => String(headers[`x-fal-webhook-${name}`]));
    if (Math.abs(nowSeconds() - Number(said[2])) > 300) return false;
    const message = [...said, createHash('sha256').update(text).digest('hex')].join('\n');
    const signature = Buffer.from(String(headers['x-fal-webhook-signature']), 'hex');
    return [keys].flat().some((key) => {
      const raw = Buffer.from(Object(key).x, 'base64url');
      // The header of a key of this kind, and the key.
      const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]);
      return verify(null, Buffer.from(message), createPublicKey({ key: der, format: 'der', type: 'spki' }), signature);
    });
  }

  test('brings the result, signed', async () => {
    const sent = await arrived('a panda [[slow:0]]');
    const requestId = String(sent.body.request_id);
    expect(sent.body).toEqual({
      request_id: requestId,
      gateway_request_id: requestId,
      status: 'OK',
      payload: (await fal.queue.result(IMAGE, { requestId })).data,
    });
    expect(sent.headers['x-fal-webhook-request-id']).toBe(requestId);
    expect(await isGenuine(sent)).toBe(true);
    expect(await isGenuine({ ...sent, text: sent.text.replace('"OK"', '"ERROR"') })).toBe(false);
    expect(await isGenuine({ ...sent, headers: { ...sent.headers, 'x-fal-webhook-user-id': 'somebody else' } })).toBe(false);
  });

  test.each([
    ['fails', '[[fail:Too dark.]]', 'Invalid status code: 500', { detail: 'Too dark.' }],
    ['is refused', '[[nsfw]]', 'Invalid status code: 422', { detail: [{ type: 'content_policy_violation' }] }],
  ])('tells why a run %s', async (_what, prompt, error, payload) => {
    const sent = await arrived(prompt);
    expect(sent.body).toMatchObject({ status: 'ERROR', error, payload });
    expect(await isGenuine(sent)).toBe(true);
  });

  test('at an address that may not be called is an error of that', async () => {
    const webhookUrl = 'http://10.0.0.1/hook';
    const error = await thrownBy(() => fal.queue.submit(IMAGE, { input: { prompt: 'x' }, webhookUrl }));
    expect(error).toMatchObject({ status: 422, fieldErrors: [{ loc: ['query', 'fal_webhook'] }] });
  });
});

test('a client is pointed here by its middleware as well', async () => {
  const client = createFalClient({
    credentials: service.key,
    requestMiddleware: async (request) => ({
      ...request,
      url: request.url.replace(/^https:\/\/(queue\.|rest\.)?fal\.(run|ai)/, (_origin, host) => `${url}/fal/${host?.slice(0, -1) ?? 'run'}`),
    }),
  });
  const { data } = await client.subscribe(IMAGE, { input: { prompt: 'a panda [[slow:0]]' }, ...POLLING });
  expect(data.images).toHaveLength(1);
  expect(await client.storage.upload(new Blob(['x']))).toContain(`${url}/files/`);
});

describe('the client for Python', () => {
  const python = (path: string, init: RequestInit = {}) =>
    fetch(path.startsWith('http') ? path : `${url}/fal/queue/${path}`, {
      ...init,
      headers: { authorization: `Bearer ${service.key}`, 'user-agent': 'fal-client/1.0.1 (python)', ...init.headers },
    });

  test('follows the addresses that it was told, to the end', async () => {
    const headers = { 'x-fal-request-timeout': '30.0', 'x-fal-queue-priority': 'normal' };
    const claim = await jsonOf(await python(IMAGE, jsonBody({ prompt: 'a panda [[slow:100]]' }, headers)));
    const first = await python(`${claim.status_url}?logs=false`);
    expect([200, 202]).toContain(first.status);
    await expect
      .poll(async () => {
        const response = await python(`${claim.status_url}?logs=true`);
        const status = await jsonOf(response);
        expect(response.status).toBe(status.status === 'COMPLETED' ? 200 : 202);
        // It fails without these.
        expect(status).toHaveProperty(status.status === 'IN_QUEUE' ? 'queue_position' : 'logs');
        return status.status;
      }, POLL)
      .toBe('COMPLETED');
    const result = await python(String(claim.response_url));
    expect(result.headers.get('x-fal-request-id')).toBe(claim.request_id);
    expect(result.headers.get('content-type')).toBe('application/json');
    expect(await jsonOf(result)).toHaveProperty('images');
  });

  test.each(['/', '/response', '/response/'])('of older versions puts %s behind an address', async (end) => {
    const { requestId } = await fal.run(IMAGE, { input: { prompt: '[[slow:0]]' } });
    expect((await python(`${IMAGE}/some/path/requests/${requestId}${end}`)).status).toBe(200);
  });

  test('asks for a token, and sends files with it', async () => {
    const token = await jsonOf(await python(`${url}/fal/rest/storage/auth/token?storage_type=fal-cdn-v3`, jsonBody({})));
    expect(Date.parse(String(token.expires_at))).toBeGreaterThan(nowSeconds() * 1000);
    const send = (body: string, authorization = `${token.token_type} ${token.token}`) => {
      const headers = { authorization, 'content-type': 'text/plain', 'x-fal-file-name': 'a b.txt' };
      return fetch(`${token.base_url}/files/upload`, { method: 'POST', headers, body });
    };
    const { access_url: address } = await jsonOf(await send('a picture'));
    expect(String(address)).toMatch(/\/a%20b\.txt$/);
    const file = await fetch(String(address));
    expect([file.headers.get('content-type'), await file.text()]).toEqual(['text/plain', 'a picture']);
    const empty = await send('');
    expect([empty.status, Object.keys(await jsonOf(empty))]).toEqual([400, ['detail', 'error_type']]);
    expect((await send('a picture', 'Key x')).status).toBe(401);
  });

  test('sends large files in parts', async () => {
    const headers = { 'x-fal-file-name': 'a b.txt', 'content-type': 'text/plain' };
    const { access_url: address, uploadId } = await jsonOf(
      await python(`${url}/fal/rest/files/upload/multipart`, { method: 'POST', headers }),
    );
    const at = `${address}/multipart/${uploadId}`;
    const tags = await Promise.all(
      ['a pic', 'ture'].map(async (body, index) => {
        const sent = await python(`${at}/${index + 1}`, { method: 'PUT', body, headers });
        return { partNumber: index + 1, etag: sent.headers.get('etag') };
      }),
    );
    expect((await python(`${at}/complete`, jsonBody({ parts: tags.reverse() }))).status).toBe(200);
    const file = await fetch(String(address));
    expect([file.headers.get('content-type'), await file.text()]).toEqual(['text/plain', 'a picture']);
  });

  test('sends files in the older way with its key', async () => {
    const announced = jsonBody({ content_type: 'text/plain', file_name: 'a.txt' });
    const { upload_url: to, file_url: address } = await jsonOf(
      await python(`${url}/fal/rest/storage/upload/initiate?storage_type=gcs`, announced),
    );
    expect((await python(String(to), { method: 'PUT', body: 'a picture' })).status).toBe(200);
    expect(await (await fetch(String(address))).text()).toBe('a picture');
  });

  test('is refused when more wait than it allows', async () => {
    await using idle = await startTestService({ worker: false });
    const headers = { authorization: `Key ${idle.key}` };
    const submit = () => idle.request(`/fal/queue/${IMAGE}?fal_max_queue_length=1`, jsonBody({ prompt: 'x' }, headers));
    expect([(await submit()).status, (await submit()).status]).toEqual([200, 200]);
    const refused = await submit();
    expect(refused.status).toBe(429);
    expect(await jsonOf(refused)).toMatchObject({ error_type: 'concurrent_requests_limit' });
  });
});

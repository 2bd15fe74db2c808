/** WaveSpeed's own client for JavaScript; what its pages and other clients ask for beyond it, by plain fetch. */
import { createHmac } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  Client,
  WavespeedPredictionException,
  WavespeedSubmissionException,
  WavespeedSyncTimeoutException,
  WavespeedTimeoutException,
} from 'wavespeed';
import { type Folder, temporaryFolder } from '../testing/processes.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';
import { nowSeconds } from '../testing/signed-webhook.ts';

const MODEL = 'wavespeed-ai/hidream-i1-full';
const DEV = 'wavespeed-ai/hidream-i1-dev';
const POLL = { timeout: 30_000, interval: 50 };
/** For the client, which looks every second otherwise. */
const OFTEN = { pollInterval: 0.05 };
const SYNC = { enableSyncMode: true };
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const UNKNOWN = '019b7602-7c00-7000-8000-00000000a001';
const PNG = Buffer.from('89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de', 'hex');

let service: TestService;
let url: string;
let client: Client;
let receiver: Receiver;
let folder: Folder;
const started = new AsyncDisposableStack();

beforeAll(async () => {
  folder = started.use(await temporaryFolder());
  service = started.use(await startTestService());
  ({ url } = await service.listen());
  receiver = started.use(await startReceiver());
  client = new Client(service.key, { baseUrl: url });
});
afterAll(() => started.disposeAsync());

interface Envelope {
  readonly status: number;
  readonly code: unknown;
  readonly message: unknown;
  readonly data: Record<string, unknown>;
}

async function ask(path: string, init?: RequestInit): Promise<Envelope> {
  const response = await fetch(`${url}${path}`, { ...init, headers: { authorization: `Bearer ${service.key}`, ...init?.headers } });
  const { code, message, data } = await jsonOf(response);
  return { status: response.status, code, message, data: data as Record<string, unknown> };
}

/** What is in the envelope of a success. */
async function dataOf(path: string, init?: RequestInit): Promise<Record<string, unknown>> {
  const { data, ...envelope } = await ask(path, init);
  expect(envelope).toEqual({ status: 200, code: 200, message: 'success' });
  return data;
}

/** Hands in a job without waiting for it. */
async function submit(input: object, path = `/api/v3/${MODEL}`): Promise<string> {
  const { id } = await dataOf(path, jsonBody(input));
  return String(id);
}

async function ended(id: string): Promise<Record<string, unknown>> {
  const look = () => dataOf(`/api/v3/predictions/${id}/result`);
  await expect.poll(async () => (await look()).status, POLL).toMatch(/^(completed|failed)$/);
  return look();
}

/** The members of a list. */
function itemsOf(list: unknown): readonly Record<string, unknown>[] {
  return Array.isArray(list) ? list : [];
}

async function countJobs(): Promise<number> {
  const { requests } = await jsonOf(await service.request('/v2/requests?limit=100'));
  return itemsOf(requests).length;
}

async function thrownBy(call: () => Promise<unknown>): Promise<Error> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error(`The call threw ${error}.`);
  return error;
}

describe('run', () => {
  test('polls until there are outputs', async () => {
    const { outputs } = await client.run(MODEL, { prompt: 'a cat', seed: -1 }, OFTEN);
    expect(outputs).toEqual([expect.stringContaining(`${url}/files/`)]);
    const file = await fetch(outputs[0]);
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/jpeg']);
  });

  test('waits in one request', async () => {
    const before = await countJobs();
    const { outputs } = await client.run(MODEL, { prompt: 'a cat', output_format: 'png' }, SYNC);
    expect((await fetch(outputs[0])).headers.get('content-type')).toBe('image/png');
    expect(await countJobs()).toBe(before + 1);
  });

  test.each([
    ['polling', OFTEN],
    ['in one request', SYNC],
  ])('throws what failed, %s', async (_how, options) => {
    const error = await thrownBy(() => client.run(MODEL, { prompt: '[[fail:Out of paint.]]' }, options));
    expect(error.message).toMatch(/^Prediction failed \(task_id: [-0-9a-f]{36}\): Out of paint\.$/);
  });

  test.each([
    ['polling', OFTEN],
    ['in one request', SYNC],
  ])('without throwing tells as much, %s', async (_how, options) => {
    const good = await client.runNoThrow(MODEL, { prompt: 'a cat [[slow:0]]' }, options);
    expect(good).toMatchObject({ outputs: [expect.any(String)], detail: { status: 'completed', taskId: expect.stringMatching(UUID) } });
    const bad = await client.runNoThrow(MODEL, { prompt: '[[nsfw]]' }, options);
    expect(bad).toMatchObject({ outputs: null, detail: { status: 'failed', taskId: expect.stringMatching(UUID) } });
    expect(bad.detail.error).toBeInstanceOf(WavespeedPredictionException);
    expect(await dataOf(`/api/v3/predictions/${bad.detail.taskId}`)).toMatchObject({ status: 'failed', code: 1200 });
  });

  test('gives up after its own time, and the job goes on until it is cancelled', async () => {
    const input = { prompt: '[[hang]]' };
    const { detail } = await client.runNoThrow(MODEL, input, { ...OFTEN, timeout: 1 });
    expect(detail.error).toBeInstanceOf(WavespeedTimeoutException);
    const path = `/api/v3/predictions/${detail.taskId}`;
    await expect.poll(() => dataOf(path), POLL).toMatchObject({ status: 'processing', outputs: [], error: '', code: 0 });
    expect(await dataOf(path, { method: 'DELETE' })).toEqual({ id: detail.taskId, status: 'deleted' });
    expect(await dataOf(path)).toMatchObject({ status: 'failed', error: 'The request was cancelled by its caller.' });
  });

  test('ends when its job is cancelled meanwhile', async () => {
    const failed = thrownBy(() => client.run(MODEL, { prompt: '[[hang]] until cancelled' }, OFTEN));
    const newest = async () => {
      const { items } = await dataOf('/api/v3/predictions', jsonBody({ page_size: 1, status: 'processing' }));
      return itemsOf(items).find((item) => JSON.stringify(item).includes('until cancelled'));
    };
    await expect.poll(newest, POLL).toBeDefined();
    await dataOf(`/api/v3/predictions/${(await newest())?.id}`, { method: 'DELETE' });
    expect((await failed).message).toContain('The request was cancelled by its caller.');
  });

  test('tries a task again that failed for a reason which may pass, and only then', async () => {
    const options = { ...OFTEN, maxRetries: 1 };
    const quick = new Client(service.key, { baseUrl: `${url}//`, retryInterval: 0.01 });
    // It says so.
    using _silence = vi.spyOn(console, 'log').mockImplementation(() => {});
    const before = await countJobs();
    await thrownBy(() => quick.run(MODEL, { prompt: '[[fail:HTTP 429 at the upstream]]' }, options));
    expect(await countJobs()).toBe(before + 2);
    await thrownBy(() => quick.run(MODEL, { prompt: '[[fail:Too dark.]]' }, options));
    expect(await countJobs()).toBe(before + 3);
  });

  test.each([
    ['an unknown model', 'acme/nothing', { prompt: 'x' }, 404],
    ['no prompt', MODEL, {}, 400],
    ['a size that is none', MODEL, { prompt: 'x', size: '9*9' }, 400],
    ['a place that is no model', 'media/nothing', { prompt: 'x' }, 404],
    ['base64 and a webhook', `${MODEL}?webhook=https%3A%2F%2Fexample.com`, { prompt: 'x', enable_base64_output: true }, 400],
    ['a webhook that may not be called', `${MODEL}?webhook=http%3A%2F%2F10.0.0.1`, { prompt: 'x' }, 400],
  ])('of %s is refused, and not sent again', async (_what, model, input, status) => {
    const error = await thrownBy(() => client.run(model, input, { maxRetries: 3 }));
    expect(error).toBeInstanceOf(WavespeedSubmissionException);
    const [, body = ''] = /HTTP \d+: (\{.*\})\. The task may/.exec(error.message) ?? [];
    expect(JSON.parse(body)).toMatchObject({ code: status, message: expect.any(String), error: expect.any(String) });
  });

  test('with a wrong key is refused', async () => {
    const stranger = new Client('wrong', { baseUrl: url });
    expect((await thrownBy(() => stranger.run(MODEL, { prompt: 'x' }))).message).toContain('HTTP 401: {"code":401,');
  });
});

test('a wait that is too long is told as one, and the task goes on', async () => {
  await using draining = await startTestService({ worker: false });
  const listening = await draining.listen();
  const waiting = new Client(draining.key, { baseUrl: listening.url }).runNoThrow(MODEL, { prompt: 'x' }, SYNC);
  const jobs = async () => itemsOf((await jsonOf(await draining.request('/v2/requests'))).requests).length;
  await expect.poll(jobs, POLL).toBe(1);
  // A process that drains lets go of who waits, as the time does that nobody wants to wait for here.
  draining.startClosing();
  const { outputs, detail } = await waiting;
  expect(outputs).toBeNull();
  expect(detail).toMatchObject({ status: 'processing', resultUrl: `${listening.url}/api/v3/predictions/${detail.taskId}/result` });
  expect(detail.error).toBeInstanceOf(WavespeedSyncTimeoutException);
});

describe("the samples of the vendor's pages", () => {
  test('run below v3', async () => {
    const body = {
      prompt: 'photograph of a female with an orange bandana. She holds a sign saying "HiDream on wavespeed.ai"',
      size: '1024*1024',
      seed: -1,
      output_format: 'jpeg',
      enable_base64_output: false,
      enable_safety_checker: true,
    };
    const created = await dataOf(`/api/v3/${MODEL}`, jsonBody(body));
    expect(created).toMatchObject({ model: MODEL, status: 'created', outputs: [], error: '', has_nsfw_contents: [], input: body });
    expect(created.urls).toEqual({ get: `${url}/api/v3/predictions/${created.id}/result` });
    expect(await ended(String(created.id))).toMatchObject({
      id: created.id,
      status: 'completed',
      outputs: [expect.stringContaining('/files/')],
      has_nsfw_contents: [false],
      created_at: created.created_at,
      executionTime: expect.any(Number),
      timings: { inference: expect.any(Number) },
    });
  });

  test('run below v2, and hold the file itself, as that model does unless told not to', async () => {
    const body = { prompt: 'a friendly creature', size: '1024*1024', seed: -1, enable_safety_checker: true };
    for (const input of [body, { ...body, enable_base64_output: true }]) {
      const id = await submit(input, `/api/v2/${DEV}`);
      await ended(id);
      const { outputs } = await dataOf(`/api/v2/predictions/${id}/result`);
      const [file] = [outputs].flat();
      expect(file).toMatch(/^[A-Za-z0-9+/]+={0,2}$/);
      expect(Buffer.from(String(file), 'base64').subarray(8, 12).toString()).toBe('WEBP');
    }
    const { outputs } = await client.run(DEV, { ...body, enable_base64_output: false }, OFTEN);
    expect(outputs).toEqual([expect.stringContaining('/files/')]);
  });
});

describe('a webhook', () => {
  /** As the vendor's page says: written without this service's own code. */
  function isGenuine({ headers, text }: Receiver['received'][number], secret: string): boolean {
    const [version, given] = String(headers['webhook-signature']).split(',');
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${text}`;
    const wanted = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'utf8'))
      .update(signed, 'utf8')
      .digest('hex');
    return version === 'v3' && given === wanted && Math.abs(nowSeconds() - Number(headers['webhook-timestamp'])) < 300;
  }

  async function receivedOf(prompt: string): Promise<Receiver['received'][number]> {
    const find = () => receiver.received.find(({ text }) => text.includes(prompt));
    await expect.poll(find, POLL).toBeDefined();
    const found = find();
    if (!found) throw new Error('the webhook is gone');
    return found;
  }

  test('that is named in the address line is told the prediction, with a signature that the secret proves', async () => {
    await client.run(`${MODEL}?webhook=${encodeURIComponent(receiver.url)}`, { prompt: 'a bell [[slow:0]]' }, OFTEN);
    const received = await receivedOf('a bell');
    expect(received.body).toMatchObject({ model: MODEL, status: 'completed', outputs: [expect.stringContaining(url)], error: '', code: 0 });
    expect(received.body).not.toHaveProperty('data');
    const { secret } = await dataOf('/api/v3/webhook/secret');
    expect(secret).toMatch(/^whsec_/);
    expect(isGenuine(received, String(secret))).toBe(true);
    expect(isGenuine({ ...received, text: `${received.text} ` }, String(secret))).toBe(false);
    expect(isGenuine(received, 'whsec_MDEyMw==')).toBe(false);
  });

  test('that is named in the body is told of a failure; files are addresses though the model would send them', async () => {
    await submit({ prompt: '[[fail:Out of bells.]]', webhook_url: receiver.url });
    expect((await receivedOf('Out of bells.')).body).toMatchObject({ status: 'failed', error: 'Out of bells.', code: 1403, outputs: [] });
    await submit({ prompt: 'another bell [[slow:0]]', webhook_url: receiver.url }, `/api/v2/${DEV}`);
    expect((await receivedOf('another bell')).body).toMatchObject({ outputs: [expect.stringContaining('/files/')] });
  });

  test('whose address an old client did not encode is found whole', async () => {
    const id = await submit({ prompt: 'a gong [[slow:0]]' }, `/api/v3/${MODEL}?webhook=${receiver.url}/hook?a=1&b=2`);
    await ended(id);
    const { deliveries } = await jsonOf(await service.request(`/v2/requests/${id}/deliveries`));
    expect(deliveries).toMatchObject([{ url: `${receiver.url}/hook?a=1&b=2` }]);
  });
});

describe('uploads', () => {
  async function fetched(address: unknown) {
    const file = await fetch(String(address));
    return [file.status, file.headers.get('content-type'), Buffer.from(await file.arrayBuffer())];
  }

  test('of the client go to an address of their own, and can be read', async () => {
    const path = join(folder.path, 'a picture.png');
    await writeFile(path, PNG);
    const address = await client.upload(path);
    expect(address).toMatch(/\/files\/[^/]+\/a%20picture\.png$/);
    expect(await fetched(address)).toEqual([200, 'image/png', PNG]);
  });

  test.each([
    ['/api/v3/media/upload/binary', 'download_url'],
    ['/api/v2/media/upload/binary', 'download_url'],
    ['/api/v3/upload', 'url'],
  ])('in one step to %s are told at once', async (path, member) => {
    const body = new FormData();
    body.set('file', new Blob([PNG], { type: 'image/png' }), 'b.png');
    const data = await dataOf(path, { method: 'POST', body });
    expect(await fetched(data[member])).toEqual([200, 'image/png', PNG]);
    if (member === 'download_url') expect(data).toMatchObject({ type: 'image', filename: 'b.png', size: PNG.length });
  });

  test('of nothing are refused', async () => {
    expect(await ask('/api/v3/media/upload/binary', { method: 'POST', body: new FormData() })).toMatchObject({ status: 400, code: 400 });
    expect(await ask('/api/v3/media/upload/binary', jsonBody({}))).toMatchObject({ status: 415, code: 415 });
    const error = await thrownBy(() => new Client('wrong', { baseUrl: url }).upload(join(folder.path, 'a picture.png')));
    expect(error.message).toContain('HTTP 401');
  });
});

describe('predictions', () => {
  test('are listed by page, state, model and time', async () => {
    const key = await service.newKey('somebody who lists');
    const list = async (body: object) => {
      const { items } = await dataOf('/api/v3/predictions', jsonBody(body, { authorization: `Bearer ${key}` }));
      return itemsOf(items);
    };
    const lister = new Client(key, { baseUrl: url });
    await lister.run(MODEL, { prompt: 'one [[slow:0]]' }, OFTEN);
    await lister.runNoThrow(DEV, { prompt: '[[fail:two]]' }, OFTEN);
    expect(await list({})).toMatchObject([
      { model: DEV, status: 'failed', input: { prompt: '[[fail:two]]' } },
      { model: MODEL, status: 'completed', input: { prompt: 'one [[slow:0]]' }, outputs: [expect.any(String)] },
    ]);
    const models = async (body: object) => (await list(body)).map(({ model }) => model);
    expect(await models({ page: 2, page_size: 1 })).toEqual([MODEL]);
    expect(await models({ page: 3, page_size: 1 })).toEqual([]);
    expect(await models({ status: 'failed' })).toEqual([DEV]);
    expect(await models({ status: 'deleted' })).toEqual([]);
    expect(await models({ model: MODEL })).toEqual([MODEL]);
    const now = nowSeconds() * 1000;
    const [hourAgo, inAnHour] = [-3600_000, 3600_000].map((ms) => new Date(now + ms).toISOString());
    expect(await models({ created_after: hourAgo, created_before: inAnHour })).toHaveLength(2);
    expect(await models({ created_after: inAnHour })).toEqual([]);
    expect(await ask('/api/v3/predictions', jsonBody({ status: 'done' }))).toMatchObject({ status: 400, code: 400 });
  });

  test('are deleted one by one and together', async () => {
    const ids = [];
    for (const prompt of ['one', 'two', 'three']) ids.push(await submit({ prompt: `${prompt} [[slow:0]]` }));
    for (const id of ids) await ended(id);
    const [first, ...others] = ids;
    expect(await dataOf(`/api/v3/predictions/${first}`, { method: 'DELETE' })).toMatchObject({ status: 'deleted' });
    const body = jsonBody({ ids: [...others, others[0], first, UNKNOWN, 'no id'] });
    // Those of others are as good as unknown.
    const authorization = `Bearer ${await service.newKey('a stranger')}`;
    const foreign = jsonBody({ ids: others }, { authorization });
    expect(await dataOf('/api/v3/predictions/delete', foreign)).toEqual({ deleted_count: 0 });
    expect(await dataOf('/api/v3/predictions/delete', body)).toEqual({ deleted_count: 2 });
    for (const id of ids) expect(await ask(`/api/v3/predictions/${id}/result`)).toMatchObject({ status: 404, code: 404 });
    expect(await ask(`/api/v3/predictions/${first}`, { method: 'DELETE' })).toMatchObject({ status: 404, code: 404 });
  });

  test('can be followed by whoever made the job in another way, and the other way round', async () => {
    const { request_id: id } = await jsonOf(await service.request('/v2/hidream-l1-fast', jsonBody({ prompt: 'a panda [[slow:0]]' })));
    expect(await ended(String(id))).toMatchObject({ id, model: 'hidream-l1-fast', status: 'completed' });
    const own = await submit({ prompt: '[[hang]]' });
    await service.request(`/v2/requests/${own}/cancel`, { method: 'POST' });
    expect(await ended(own)).toMatchObject({ status: 'failed', code: 1405 });
  });

  test('are of models that have other names, and of one provider where it is named', async () => {
    const { outputs } = await client.run('sandbox/hidream-l1-fast', { prompt: 'a panda [[slow:0]]', enable_base64_output: true }, OFTEN);
    expect(Buffer.from(outputs[0], 'base64').subarray(8, 12).toString()).toBe('WEBP');
  });

  test('are handed in once for the same key of idempotency', async () => {
    const init = jsonBody({ prompt: 'once [[slow:0]]' }, { 'idempotency-key': 'wavespeed-1' });
    const { id } = await dataOf(`/api/v3/${MODEL}`, init);
    expect(await dataOf(`/api/v3/${MODEL}`, init)).toMatchObject({ id });
  });
});

describe('the catalogue', () => {
  test('has every model with its schema, and what a run costs', async () => {
    const models: unknown[] = Object.values(await dataOf('/api/v3/models'));
    const schema = {
      properties: { size: { default: '1024*1024' } },
      required: ['prompt'],
      'x-order-properties': expect.arrayContaining(['size']),
    };
    const api = { type: 'model_run', method: 'POST', server: url, api_path: `/api/v3/${MODEL}`, request_schema: schema };
    const found = itemsOf(models).find(({ model_id: id }) => id === MODEL);
    expect(found).toMatchObject({ type: 'text-to-image', api_schema: { api_schemas: [api] } });
    // It is the sandbox that runs it here.
    const body = jsonBody({ model_id: MODEL, inputs: { prompt: 'x' } });
    expect(await dataOf('/api/v3/model/price', body)).toMatchObject({ model_id: MODEL, price: 0, discounted_price: 0, currency: 'USD' });
    expect(await dataOf('/api/v3/model/pricing', body)).toEqual({ model_id: MODEL, unit_price: 0, currency: 'USD' });
    expect(await ask('/api/v3/model/price', jsonBody({ model_id: 'acme/none', inputs: {} }))).toMatchObject({ status: 404, code: 404 });
  });

  test.each([
    ['GET', '/api/v3/balance', 501],
    ['GET', '/api/v3/account/balance', 501],
    ['POST', '/api/v3/billings/search', 501],
    ['POST', '/api/v3/user/usage_stats', 501],
    ['GET', '/api/v3/nothing', 405],
    ['GET', '/api/v2', 404],
    ['PUT', '/api/v3/predictions', 405],
  ])('and nothing of the kind of %s %s, which is told in the envelope', async (method, path, status) => {
    expect(await ask(path, { method })).toMatchObject({ status, code: status, message: expect.any(String) });
  });

  test('is found behind a slash too many', async () => {
    const id = await submit({ prompt: 'x [[slow:0]]' }, `//api//v3/${MODEL}/`);
    expect(await dataOf(`/api/v3//predictions/${id}/result/`)).toMatchObject({ id });
  });
});

/** Replicate's own client for JavaScript; what its client for Python does otherwise, by plain fetch. */
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import Replicate, { type FileObject, type Prediction, validateWebhook } from 'replicate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Receiver, startReceiver } from '../testing/receiver.ts';

const IMAGE = 'prunaai/hidream-l1-fast';
const TEXT = 'meta/meta-llama-3.1-405b-instruct';
/** A name without an owner, as the client wants to hear it. */
const OWNERLESS = '_/hidream-l1-fast';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const POLL = { timeout: 30_000, interval: 50 };
const UNKNOWN = '019b7602-7c00-7000-8000-00000000a001';
/** Where a proxy with TLS stands in front of a service: the client makes files of https addresses only. */
const PUBLIC_URL = 'https://queue.example';

let service: TestService;
let url: string;
let receiver: Receiver;
let replicate: Replicate;
const started = new AsyncDisposableStack();

beforeAll(async () => {
  service = started.use(await startTestService());
  ({ url } = await service.listen());
  receiver = started.use(await startReceiver());
  replicate = new Replicate({ auth: service.key, baseUrl: `${url}/replicate/v1` });
});
afterAll(() => started.disposeAsync());

interface ApiError extends Error {
  readonly response: Response;
}

/** The client does not export the class of its errors. */
function isApiError(error: unknown): error is ApiError {
  return error instanceof Error && error.constructor.name === 'ApiError' && 'response' in error;
}

/** What the client throws for an answer that is an error, with the body that it quotes. */
async function refusalOf(call: () => Promise<unknown>): Promise<{ status: number; contentType: string | null; body: unknown }> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isApiError(error)) throw new Error(`The call threw ${error}.`);
  const body: unknown = JSON.parse(error.message.slice(error.message.indexOf('{'), error.message.lastIndexOf('}') + 1));
  return { status: error.response.status, contentType: error.response.headers.get('content-type'), body };
}

function post(path: string, body: object, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
  return service.request(`/replicate/v1${path}`, jsonBody(body, headers));
}

/** The job as the service's own format tells of it. */
async function jobOf(id: string): Promise<Record<string, unknown>> {
  return jsonOf(await service.request(`/v2/requests/${id}`));
}

function create(prompt: string, more: object = {}): Promise<Prediction> {
  return replicate.predictions.create({ model: IMAGE, input: { prompt }, ...more });
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

describe('run', () => {
  test('waits for the output, and tells of the prediction before and after', async () => {
    const seen: Prediction[] = [];
    const output = await replicate.run(IMAGE, { input: { prompt: 'a fox' } }, (prediction) => seen.push(prediction));
    expect(output).toMatch(new RegExp(`^${url}/files/`));
    const file = await fetch(String(output));
    expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/webp']);
    expect(seen.map(({ status }) => status)).toEqual(['succeeded', 'succeeded']);
    expect(seen[0]?.logs).toContain('Using seed');
  });

  test('polls where the client says so, and tells of every look', async () => {
    const seen: Prediction[] = [];
    const wait = { mode: 'poll', interval: 50 } as const;
    const output = await replicate.run(IMAGE, { input: { prompt: 'a fox [[slow:400]]' }, wait }, (prediction) => seen.push(prediction));
    expect(output).toMatch(/^http/);
    const statuses = new Set(seen.map(({ status }) => status));
    expect(Array.from(statuses)).toEqual(['starting', 'processing', 'succeeded']);
  });

  test('goes on by polling when the wait is over, because the prediction is then said to be starting', async () => {
    const seen: Prediction[] = [];
    const wait = { mode: 'block', timeout: 1 } as const;
    const output = await replicate.run(IMAGE, { input: { prompt: 'a fox [[slow:1400]]' }, wait }, (prediction) => seen.push(prediction));
    expect(seen[0]).toMatchObject({ status: 'starting', output: null });
    expect(output).toMatch(/^http/);
  });

  test('by version: the one that the model has', async () => {
    const { latest_version: version } = await replicate.models.get('_', 'hidream-l1-fast');
    expect(
      await replicate.run(`${OWNERLESS}:${version?.id}` as `${string}/${string}:${string}`, { input: { prompt: 'a fox [[slow:0]]' } }),
    ).toMatch(/^http/);
  });

  test('of a language model brings pieces to be joined', async () => {
    expect(await replicate.run(TEXT, { input: { prompt: '[[slow:0]]once upon' } })).toEqual(['once upon']);
  });

  test('throws what a prediction failed of', async () => {
    const failed = replicate.run(IMAGE, { input: { prompt: '[[fail:Too dark.]]' } });
    await expect(failed).rejects.toThrow(/^Prediction failed: Too dark\.$/);
    await expect(replicate.run(IMAGE, { input: { prompt: '[[nsfw]]' } })).rejects.toThrow('(E005)');
  });

  test('cancels when the client gives up', async () => {
    const giveUp = new AbortController();
    let id = '';
    const wait = { mode: 'poll', interval: 50 } as const;
    const options = { input: { prompt: '[[hang]]' }, wait, signal: giveUp.signal };
    const output = await replicate.run(IMAGE, options, (prediction) => {
      id = prediction.id;
      giveUp.abort();
    });
    expect(output).toBeNull();
    expect(await jobOf(id)).toMatchObject({ status: 'CANCELLED' });
  });
});

describe('FileOutput', () => {
  test('is what an output becomes where the service has a public address', async () => {
    await using public_ = await startTestService({ publicUrl: PUBLIC_URL });
    const { url: inside } = await public_.listen();
    const throughProxy: typeof fetch = (input, init) => fetch(String(input).replace(PUBLIC_URL, inside), init);
    const client = new Replicate({ auth: public_.key, baseUrl: `${PUBLIC_URL}/replicate/v1`, fetch: throughProxy });
    const output: unknown = await client.run(IMAGE, { input: { prompt: 'a fox [[slow:0]]', output_format: 'png' } });
    if (!(output instanceof ReadableStream) || !('url' in output)) throw new Error(`The output is ${output}.`);
    expect(String(output)).toMatch(new RegExp(`^${PUBLIC_URL}/files/`));
    const bytes = Buffer.from(await new Response(output).arrayBuffer());
    expect(bytes.subarray(1, 4).toString()).toBe('PNG');
  });
});

describe('predictions', () => {
  test('are created, read until they end, and told in full', async () => {
    const created = await create('a fox', { webhook: 'https://hooks.example/x', webhook_events_filter: ['completed'] });
    expect(created).toMatchObject({
      id: expect.stringMatching(UUID),
      status: 'starting',
      model: IMAGE,
      version: IMAGE,
      source: 'api',
      input: { prompt: 'a fox', output_format: 'webp' },
      output: null,
      error: null,
      logs: '',
      webhook: 'https://hooks.example/x',
      webhook_events_filter: ['completed'],
      urls: { get: `${url}/replicate/v1/predictions/${created.id}` },
    });
    const ended = await replicate.wait(created, { interval: 50 });
    expect(ended).toMatchObject({
      id: created.id,
      status: 'succeeded',
      metrics: { total_time: expect.any(Number), predict_time: expect.any(Number) },
    });
    expect(ended.logs).toMatch(/Done\n$/);
    const { urls, ...plain } = await replicate.predictions.get(created.id);
    expect({ ...ended, urls: undefined }).toEqual({ ...plain, urls: undefined });
    expect(urls.stream).toMatch(/\/streams\//);
  });

  test.each([
    ['a time that is enough', { wait: 10 }, 'succeeded'],
    ['a time that is not', { wait: 0.5, prompt: '[[hang]]' }, 'starting'],
  ])('held for %s', async (_what, { wait, prompt = 'a fox [[slow:0]]' }: { wait: number; prompt?: string }, status) => {
    const prediction = await create(prompt, { wait });
    expect(prediction.status).toBe(status);
    expect(prediction.output === null).toBe(status === 'starting');
    if (status === 'starting') await replicate.predictions.cancel(prediction.id);
  });

  test('tell how long they were held', async () => {
    const response = await post(`/models/${IMAGE}/predictions`, { input: { prompt: 'a fox [[slow:0]]' } }, { prefer: 'wait=90' });
    expect([response.status, response.headers.get('preference-applied')]).toEqual([201, 'wait=60']);
  });

  test('are created for a deployment by its name', async () => {
    const [owner = '', name = ''] = IMAGE.split('/');
    const { status } = await replicate.deployments.predictions.create(owner, name, { input: { prompt: 'a fox [[slow:0]]' }, wait: true });
    expect(status).toBe('succeeded');
  });

  test('run at the provider that the name begins with', async () => {
    const { id } = await replicate.predictions.create({ model: `sandbox/${IMAGE}`, input: { prompt: 'a fox [[slow:0]]' }, wait: true });
    expect(await jobOf(id)).toMatchObject({ metrics: { provider: 'sandbox' } });
  });

  test('are cancelled, and stay so', async () => {
    const { id } = await create('[[hang]]');
    await expect.poll(async () => (await replicate.predictions.get(id)).status, POLL).toBe('processing');
    expect(await replicate.predictions.cancel(id)).toMatchObject({ id, status: 'canceled', error: null });
    expect(await replicate.predictions.cancel(id)).toMatchObject({ id, status: 'canceled' });
    expect((await replicate.wait({ ...(await replicate.predictions.get(id)) }, {})).status).toBe('canceled');
  });

  test('are listed, newest first, page by page', async () => {
    const pages = await collect(replicate.paginate(replicate.predictions.list));
    const ids = pages.flat().map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(3);
    expect(ids).toEqual(ids.toSorted().toReversed());
    const since = pages[0]?.[1]?.created_at ?? '';
    const newest = await jsonOf(await service.request(`/replicate/v1/predictions?created_after=${since}`));
    expect(newest).toMatchObject({ next: null, previous: null, results: [{ id: ids[0] }, { id: ids[1] }] });
  });

  test('of another format are told in these words', async () => {
    const id = await service.submit({ prompt: 'a native fox [[slow:0]]' });
    await expect.poll(async () => (await replicate.predictions.get(id)).status, POLL).toBe('succeeded');
    expect(await replicate.predictions.get(id)).toMatchObject({ id, model: OWNERLESS, input: { prompt: 'a native fox [[slow:0]]' } });
  });

  test('are made once for one idempotency key', async () => {
    const again = () => post('/predictions', { version: IMAGE, input: { prompt: 'a fox [[slow:0]]' } }, { 'idempotency-key': 'once' });
    const [first, second] = [await jsonOf(await again()), await jsonOf(await again())];
    expect(second.id).toBe(first.id);
  });
});

describe('streams', () => {
  test('bring the words of a language model, and how it ended, without a key', async () => {
    const events = await collect(replicate.stream(TEXT, { input: { prompt: '[[slow:1200]]one two three four five six' } }));
    const output = events.filter(({ event }) => event === 'output');
    expect(output.length).toBeGreaterThan(1);
    expect(output.join('')).toBe('one two three four five six');
    expect(events.filter(({ event }) => event === 'logs').join('')).toBe('');
    expect(events.at(-1)).toMatchObject({ event: 'done', data: '{}' });
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
    expect(events[0]?.id).toMatch(/^\d+:0$/);
  });

  test('bring the addresses of files, and what was printed', async () => {
    const events = await collect(replicate.stream(IMAGE, { input: { prompt: 'a fox' } }));
    expect(events.filter(({ event }) => event === 'output').map(String)).toEqual([expect.stringMatching(/^http.*\/files\//)]);
    expect(events.find(({ event }) => event === 'logs')?.data).toContain('The sandbox runs');
  });

  test('throw what a prediction failed of', async () => {
    const failed = collect(replicate.stream(TEXT, { input: { prompt: '[[fail:Too long.]]' } }));
    await expect(failed).rejects.toThrow('{"detail":"Too long."}');
  });

  test('end when the prediction is cancelled', async () => {
    const { id, urls } = await create('[[hang]]');
    const response = await fetch(urls.stream ?? '');
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    await replicate.predictions.cancel(id);
    expect(await response.text()).toMatch(/event: done\ndata: \{"reason":"canceled"\}\n\n$/);
  });

  test('are at no address but the one that was handed out', async () => {
    const { id, urls } = await create('a fox [[slow:0]]');
    const broken = `${urls.stream?.slice(0, -3)}AAA`;
    for (const address of [broken, `${url}/replicate/v1/streams/${id}`]) {
      const response = await fetch(address);
      expect(response.status).toBe(404);
      expect(await jsonOf(response)).toMatchObject({ title: 'Not found', status: 404 });
    }
  });
});

describe('files', () => {
  let file: FileObject;
  beforeAll(async () => {
    file = await replicate.files.create(Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'));
  });

  test('are stored, and readable by whoever has the address', async () => {
    expect(file).toMatchObject({ id: expect.stringMatching(UUID), size: 16, content_type: 'image/png', metadata: {} });
    const stored = await fetch(file.urls.get);
    expect([stored.status, (await stored.arrayBuffer()).byteLength]).toEqual([200, 16]);
    expect(Date.parse(file.expires_at ?? '')).toBeGreaterThan(Date.parse(file.created_at));
  });

  test('are read, listed, downloaded and deleted', async () => {
    expect(await replicate.files.get(file.id)).toEqual(file);
    const { results } = (await replicate.files.list()) as unknown as { results: FileObject[] };
    expect(results.map(({ id }) => id)).toContain(file.id);
    const download = await service.request(`/replicate/v1/files/${file.id}/download?owner=o&expiry=1&signature=s`);
    expect([download.status, download.headers.get('content-type')]).toEqual([200, 'image/png']);
    const other = await replicate.files.create(new Blob(['hello'], { type: 'text/plain' }));
    expect(await replicate.files.delete(other.id)).toBe(true);
    expect((await refusalOf(() => replicate.files.get(other.id))).status).toBe(404);
  });

  test('with metadata are refused, and not kept', async () => {
    const before = await replicate.files.list();
    const { status, body } = await refusalOf(() => replicate.files.create(Buffer.from('x'), { about: 'x' }));
    expect(status).toBe(422);
    expect(body).toMatchObject({ invalid_fields: [{ field: 'metadata' }] });
    expect(await replicate.files.list()).toEqual(before);
  });

  test('in an input are uploaded by the client, and named in it', async () => {
    const prediction = await create('a fox [[slow:0]]', { input: { prompt: 'a fox', negative_prompt: Buffer.from('a file') } });
    expect(prediction.input).toMatchObject({ negative_prompt: expect.stringContaining(`${url}/files/`) });
  });
});

describe('models', () => {
  const [owner = '', name = ''] = IMAGE.split('/');

  test('are listed with what they take', async () => {
    const { results } = await replicate.models.list();
    expect(results.map((model) => `${model.owner}/${model.name}`)).toEqual(expect.arrayContaining([IMAGE, TEXT, OWNERLESS]));
    expect(await replicate.models.get(owner, name)).toEqual(results.find((model) => model.owner === owner));
  });

  test('are found by words', async () => {
    const { results } = await replicate.models.search('llama instruct');
    expect(results.map((model) => model.name)).toEqual([TEXT.split('/')[1]]);
  });

  test('have one version, with its schema', async () => {
    const { results } = (await replicate.models.versions.list(owner, name)) as unknown as { results: { id: string }[] };
    expect(results).toHaveLength(1);
    const version = await replicate.models.versions.get(owner, name, results[0]?.id ?? '');
    expect(version).toMatchObject({
      id: IMAGE,
      cog_version: expect.any(String),
      openapi_schema: { components: { schemas: { Input: { required: ['prompt'], properties: { seed: { type: 'integer' } } } } } },
    });
    expect((await refusalOf(() => replicate.models.versions.get(owner, name, 'another'))).status).toBe(404);
  });
});

describe('webhooks', () => {
  test('have the prediction, and a signature that the client accepts', async () => {
    const { id } = await create('a fox [[slow:300]]', { webhook: `${receiver.url}/hook`, webhook_events_filter: ['start', 'completed'] });
    const mine = () => receiver.received.filter(({ body }) => body.id === id);
    await expect
      .poll(
        () =>
          mine()
            .map(({ body }) => body.status)
            .toSorted(),
        POLL,
      )
      .toEqual(['processing', 'succeeded']);
    const end = mine().find(({ body }) => body.status === 'succeeded');
    const { urls: _urls, ...read } = await replicate.predictions.get(id);
    expect(read.logs).toContain('Using seed');
    expect(end?.body).toMatchObject(read);
    const { key } = await replicate.webhooks.default.secret.get();
    const headers = Object.fromEntries(
      ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((header) => [header, String(end?.headers[header])]),
    );
    const received = {
      id: headers['webhook-id'] ?? '',
      timestamp: headers['webhook-timestamp'] ?? '',
      signature: headers['webhook-signature'] ?? '',
    };
    expect(await validateWebhook({ ...received, body: end?.text ?? '', secret: key })).toBe(true);
    expect(await validateWebhook({ ...received, body: `${end?.text} `, secret: key })).toBe(false);
  });
});

describe('what bad input gets', () => {
  test.each([
    [
      'an input that lacks something',
      { model: IMAGE, input: {} },
      422,
      { title: 'Input validation failed', invalid_fields: [{ field: expect.stringMatching(/^input/) }] },
    ],
    [
      'a value that is not allowed',
      { model: IMAGE, input: { prompt: 'x', output_quality: 0 } },
      422,
      { invalid_fields: [{ field: 'input.output_quality' }] },
    ],
    ['a model that there is not', { model: 'no/model', input: { prompt: 'x' } }, 404, { title: 'Model not found' }],
    ['a version that there is not', { version: 'f'.repeat(64), input: { prompt: 'x' } }, 422, { invalid_fields: [{ field: 'version' }] }],
    [
      'a filter without the end',
      { model: IMAGE, input: { prompt: 'x' }, webhook_events_filter: ['start'] },
      422,
      { invalid_fields: [{ field: 'webhook_events_filter' }] },
    ],
    [
      'a webhook at an address that may not be called',
      { model: IMAGE, input: { prompt: 'x' }, webhook: 'http://10.0.0.1/' },
      422,
      { invalid_fields: [{ field: 'webhook' }] },
    ],
  ])('%s is told by problem details', async (_what, options, status, body) => {
    const refusal = await refusalOf(() => replicate.predictions.create(options as Parameters<Replicate['predictions']['create']>[0]));
    expect(refusal).toMatchObject({
      status,
      contentType: 'application/problem+json',
      body: { ...body, status, detail: expect.any(String) },
    });
  });

  test('a key that is none, a prediction of nobody, and a path of nothing', async () => {
    const stranger = new Replicate({ auth: 'r8_wrong', baseUrl: `${url}/replicate/v1` });
    expect(await refusalOf(() => stranger.predictions.get(UNKNOWN))).toMatchObject({ status: 401, body: { title: 'Unauthenticated' } });
    expect(await refusalOf(() => replicate.predictions.get(UNKNOWN))).toMatchObject({
      status: 404,
      body: { detail: expect.stringContaining(UNKNOWN) },
    });
    const nothing = await service.request('/replicate/v1/nothing');
    expect([nothing.status, await jsonOf(nothing)]).toEqual([404, expect.objectContaining({ title: 'Not found' })]);
  });

  test('a Cancel-After that is no time', async () => {
    const response = await post('/predictions', { version: IMAGE, input: { prompt: 'x' } }, { 'cancel-after': '4s' });
    expect(await jsonOf(response)).toMatchObject({ status: 422, invalid_fields: [{ field: 'Cancel-After' }] });
  });

  test('what belongs to accounts and machines is not implemented', async () => {
    expect(await refusalOf(() => replicate.trainings.cancel('x'))).toMatchObject({ status: 501, body: { title: 'Not implemented' } });
    for (const path of ['/account', '/hardware', '/collections', '/trainings', '/deployments'])
      expect((await service.request(`/replicate/v1${path}`)).status, path).toBe(501);
  });

  test('another caller sees nothing of it', async () => {
    const { id } = await create('a fox [[slow:0]]');
    const other = new Replicate({ auth: await service.newKey('another caller'), baseUrl: `${url}/replicate/v1` });
    expect((await refusalOf(() => other.predictions.get(id))).status).toBe(404);
    expect((await other.predictions.list()).results).toEqual([]);
  });
});

describe('a time limit', () => {
  // Nothing comes after it: the clock stays ahead.
  test('cancels by itself, and the prediction is never said to be aborted', async () => {
    const response = await post(`/models/${IMAGE}/predictions`, { input: { prompt: '[[hang]]' } }, { 'cancel-after': '5s' });
    const { id, deadline, created_at: createdAt } = await jsonOf(response);
    expect(Date.parse(String(deadline)) - Date.parse(String(createdAt))).toBe(5_000);
    await service.database.setClockAhead(6);
    await expect.poll(async () => (await replicate.predictions.get(String(id))).status, POLL).toBe('canceled');
    expect(await jobOf(String(id))).toMatchObject({ status: 'FAILED', code: 'timeout' });
  });
});

/** OpenAI's own library, in its newest and its previous major version, and Lumenfall's shapes, for which there is no library, by plain fetch. */
import { createReadStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jsonBody, jsonOf, startTestService, type TestService } from '@claimcheck/api/testing';
import OpenAI, { toFile } from 'openai';
import OpenAI6 from 'openai-6';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Folder, temporaryFolder } from '../testing/processes.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';
import { writeModels } from '../testing/vendors.ts';

const IMAGE = 'hidream-i1-fast';
const VIDEO = 'p-video';
const CHAT = 'meta/meta-llama-3.1-405b-instruct';
const EDIT = 'test/edit';
const FILM = 'test/film';
const POLL = { timeout: 30_000, interval: 50 };
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

/** The same methods by the same names: what both versions are called with here has not changed between them. */
const LIBRARIES = [
  ['openai 7', OpenAI],
  ['openai 6', OpenAI6 as unknown as typeof OpenAI],
] as const;

let service: TestService;
let url: string;
let receiver: Receiver;
let folder: Folder;
const started = new AsyncDisposableStack();

beforeAll(async () => {
  folder = started.use(await temporaryFolder());
  const parameters = {
    type: 'object',
    required: ['image'],
    properties: {
      prompt: { type: 'string' },
      image: { type: 'array', items: { type: 'string' } },
      mask_url: { type: 'string' },
      num_images: { type: 'integer', maximum: 4 },
      image_size: { type: 'object' },
    },
  };
  const ofFilms = {
    type: 'object',
    properties: { prompt: { type: 'string' }, start_image: { type: 'string' }, duration: { type: 'integer' } },
    additionalProperties: false,
  };
  const modelsDir = await writeModels(folder.path, [
    { name: EDIT, routes: [{ provider: 'fal', model: 'fal-ai/edit' }], more: { parameters } },
    { name: FILM, routes: [{ provider: 'fal', model: 'fal-ai/film' }], more: { produces: 'video', parameters: ofFilms } },
  ]);
  service = started.use(await startTestService({ modelsDir }));
  ({ url } = await service.listen());
  receiver = started.use(await startReceiver());
});
afterAll(() => started.disposeAsync());

/** What the first bytes of a picture are is all that anybody looks at here. */
const PICTURE = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex');
const aPicture = () => toFile(PICTURE, 'i.png', { type: 'image/png' });

function post(path: string, body: object): Promise<Response> {
  return service.request(path, jsonBody(body));
}

async function callerId(key = service.key): Promise<string> {
  const answer = await jsonOf(await service.request('/v2/webhooks/secret', { headers: { authorization: `Bearer ${key}` } }));
  return String(answer.jwks_url).split('/').at(-1) ?? '';
}

/** The job as the service itself tells of it, whatever the prefix of its id. */
async function jobOf(id: string) {
  const response = await service.request(`/v2/requests/${UUID.exec(id)?.[0]}`);
  return { httpStatus: response.status, ...(await jsonOf(response)) };
}

/** Asks until the status is this; `expect.poll` is not for tests that run at the same time. */
async function becomes(status: string, read: () => PromiseLike<{ readonly status?: string }>): Promise<void> {
  await vi.waitFor(async () => expect(await read()).toMatchObject({ status }), POLL);
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

// Most of the time they wait. Those that count jobs do it as a caller of their own.
describe.concurrent.each(LIBRARIES)('%s', (_name, Library) => {
  let client: OpenAI;
  beforeAll(() => {
    client = new Library({ apiKey: service.key, baseURL: `${url}/openai/v1`, maxRetries: 2 });
  });

  /** Of a caller that has no jobs yet. */
  async function ownClient(): Promise<OpenAI> {
    return client.withOptions({ apiKey: await service.newKey(crypto.randomUUID()) });
  }

  /** What the call throws, which it must. */
  async function thrownBy(call: () => PromiseLike<unknown>) {
    const error = await Promise.resolve(call()).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof Library.APIError)) throw new Error(`The call threw ${error}.`);
    return error;
  }

  describe('pictures', () => {
    test('are made while the client waits, and told by their addresses', async () => {
      const made = await client.images.generate({ model: IMAGE, prompt: 'a panda [[slow:0]]', size: '1024x1024', n: 2, user: 'u1' });
      expect(made).toMatchObject({
        created: expect.any(Number),
        size: '1024x1024',
        metadata: { model: IMAGE, provider: 'sandbox', executed_model: `sandbox/${IMAGE}` },
      });
      expect(made.data).toHaveLength(2);
      const file = await fetch(made.data?.[0]?.url ?? '');
      expect([file.status, file.headers.get('content-type')]).toEqual([200, 'image/webp']);
    });

    test('stand in the answer where the client wants them there', async () => {
      const body = { model: IMAGE, prompt: 'a panda [[slow:0]]', response_format: 'b64_json', output_format: 'png' } as const;
      const made = await client.images.generate(body);
      expect(
        Buffer.from(made.data?.[0]?.b64_json ?? '', 'base64')
          .subarray(1, 4)
          .toString(),
      ).toBe('PNG');
      expect(made.output_format).toBe('png');
    });

    test('come as events', async () => {
      const stream = await client.images.generate({ model: IMAGE, prompt: 'a panda', stream: true, partial_images: 2 });
      const events = await collect(stream);
      expect(events.map(({ type }) => type)).toEqual(['image_generation.completed']);
      expect(events[0]).toMatchObject({ size: '1024x1024', output_format: 'webp', created_at: expect.any(Number) });
      expect(
        Buffer.from(events[0]?.b64_json ?? '', 'base64')
          .subarray(8, 12)
          .toString(),
      ).toBe('WEBP');
    });

    test('that fail in a stream end it with an error', async () => {
      const stream = await client.images.generate({ model: IMAGE, prompt: '[[fail:Too dark.]]', stream: true });
      const error = await thrownBy(() => collect(stream));
      expect(error.message).toContain('Too dark.');
    });

    test('are edited: the files of a form are handed on as addresses, with numbers as numbers', async () => {
      const made = await client.images.edit({
        model: EDIT,
        prompt: 'with a hat [[slow:0]]',
        image: [await aPicture(), await aPicture()],
        mask: await aPicture(),
        n: 2,
        size: '512x512',
      });
      expect(made.data).toHaveLength(2);
      const job = await service.engine.read({ id: UUID.exec(made._request_id ?? '')?.[0] ?? '', callerId: await callerId() });
      const file = expect.stringContaining(`${url}/files/`);
      expect(JSON.parse(job?.input ?? '')).toEqual({
        prompt: 'with a hat [[slow:0]]',
        image: [file, file],
        mask_url: file,
        num_images: 2,
        image_size: { width: 512, height: 512 },
      });
    });

    test('are varied, and the form of one file is a list where the model wants one', async () => {
      const image = await aPicture();
      const made = await client.images.createVariation({ model: EDIT, image, n: 1 } as Parameters<typeof client.images.createVariation>[0]);
      expect(made.data).toHaveLength(1);
    });
  });

  test('files are read from a stream of unknown length and type', async () => {
    const path = join(folder.path, `${crypto.randomUUID()}.png`);
    await writeFile(path, PICTURE);
    const made = await client.images.edit({ model: EDIT, prompt: 'x [[slow:0]]', image: createReadStream(path) });
    const job = await service.engine.read({ id: UUID.exec(made._request_id ?? '')?.[0] ?? '', callerId: await callerId() });
    const [address] = JSON.parse(job?.input ?? '{}').image;
    const file = await fetch(address);
    expect([file.headers.get('content-type'), Buffer.from(await file.arrayBuffer())]).toEqual(['image/png', PICTURE]);
  });

  describe('errors', () => {
    test('of content are refusals, and nothing is tried again', async () => {
      const error = await thrownBy(() => client.images.generate({ model: IMAGE, prompt: '[[nsfw]]' }));
      expect(error).toBeInstanceOf(Library.BadRequestError);
      expect(error).toMatchObject({ status: 400, code: 'content_policy_violation', type: 'invalid_request_error' });
      expect(error.requestID).toMatch(UUID);
    });

    test('of a provider are told once: the client does not pay three times', async () => {
      const own = await ownClient();
      const error = await thrownBy(() => own.images.generate({ model: IMAGE, prompt: '[[fail:Too dark.]]' }));
      expect(error).toBeInstanceOf(Library.InternalServerError);
      expect(error.message).toBe('502 Too dark.');
      expect((await own.videos.list()).data).toHaveLength(1);
    });

    test('of input name the parameter', async () => {
      const error = await thrownBy(() => client.images.generate({ model: IMAGE, prompt: 'x', n: 11 }));
      expect(error).toBeInstanceOf(Library.BadRequestError);
      expect(error).toMatchObject({ param: 'n', code: 'invalid_value', message: expect.stringContaining('from 1 to 10') });
    });

    test('of what cannot be honoured name it too', async () => {
      const error = await thrownBy(() => client.images.generate({ model: 'infsh/hidream-i1-fast', prompt: 'x', n: 2 }));
      expect(error).toMatchObject({ status: 400, param: 'n', message: expect.stringContaining('makes one at a time') });
    });

    test.each([
      ['a model that there is not', 'NotFoundError', { status: 404, code: 'model_not_found' }, () => client.models.retrieve('none')],
      ['a path that there is not', 'NotFoundError', { status: 404, code: 'unknown_url' }, () => client.get('/nothing')],
      ['a job that there is not', 'NotFoundError', { status: 404, code: 'not_found' }, () => client.videos.retrieve('video_1')],
      [
        'a feature that there is not',
        'InternalServerError',
        { status: 501, code: 'not_implemented' },
        () => client.videos.remix('video_1', { prompt: 'x' }),
      ],
      ['the wrong body', 'BadRequestError', { status: 400 }, () => client.post('/images/generations', { body: [] })],
    ] as const)('of %s are its own %s', async (_what, name, members, call) => {
      const error = await thrownBy(call);
      expect(error).toBeInstanceOf(Library[name]);
      expect(error).toMatchObject(members);
    });

    test('of the wrong key are its own', async () => {
      const stranger = new Library({ apiKey: 'ck_wrong', baseURL: `${url}/openai/v1` });
      const error = await thrownBy(() => stranger.models.list());
      expect(error).toBeInstanceOf(Library.AuthenticationError);
      expect(error).toMatchObject({ code: 'invalid_api_key' });
    });

    test('of time are its own, and the job goes on', async () => {
      const own = await ownClient();
      const impatient = own.withOptions({ maxRetries: 0, timeout: 1_000 });
      const error = await thrownBy(() => impatient.images.generate({ model: IMAGE, prompt: 'out of time [[hang]]' }));
      expect(error).toBeInstanceOf(Library.APIConnectionTimeoutError);
      const [job] = (await own.videos.list()).data;
      await becomes('in_progress', () => own.videos.retrieve(job?.id ?? ''));
      expect(await own.responses.cancel(job?.id ?? '')).toMatchObject({ status: 'cancelled' });
    });

    test('of a provider that is switched off are told at once', async () => {
      const error = await thrownBy(() => client.images.generate({ model: `fal/${IMAGE}`, prompt: 'x' }));
      expect(error).toBeInstanceOf(Library.InternalServerError);
      expect(error).toMatchObject({ status: 503, message: expect.stringContaining('FAL_KEY') });
      expect(error.headers?.get('x-should-retry')).toBe('false');
    });

    test('of too much at once are its own', async () => {
      const busy = (await ownClient()).withOptions({ maxRetries: 0 });
      await service.engine.uploads.announce(
        await callerId(String(busy.apiKey)),
        Array.from({ length: 1_000 }, (_, index) => ({ fileName: `${index}.png` })),
      );
      const error = await thrownBy(async () => busy.images.edit({ model: EDIT, prompt: 'x', image: await aPicture() }));
      expect(error).toBeInstanceOf(Library.RateLimitError);
      expect(error).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' });
      expect(error.headers?.get('retry-after')).toBe('60');
    });
  });

  test('models are listed, and found by a name with a slash and behind a provider', async () => {
    const ids = (await collect(client.models.list())).map(({ id }) => id);
    expect(ids).toContain(CHAT);
    expect(await client.models.retrieve(CHAT)).toMatchObject({ id: CHAT, object: 'model', owned_by: 'meta', modality: 'text' });
    expect(await client.models.retrieve(`sandbox/${IMAGE}`)).toMatchObject({ id: IMAGE, providers: ['sandbox'] });
    const { parameters } = await client.get<{ parameters: object }>(`/models/${IMAGE}`, { query: { schema: 'true' } });
    expect(parameters).toMatchObject({ type: 'object', required: ['prompt'] });
  });

  describe('videos', () => {
    const make = (prompt: string, more = {}) => client.videos.create({ model: VIDEO as 'sora-2', prompt, ...more });

    test('are made, polled and downloaded', async () => {
      const video = await make('a dog [[slow:300]]', { seconds: '4' });
      expect(video).toMatchObject({ object: 'video', status: 'queued', progress: 0, model: VIDEO, seconds: '4', error: null });
      expect(video.id).toMatch(/^video_/);
      await becomes('completed', () => client.videos.retrieve(video.id));
      const done = await client.videos.retrieve(video.id);
      expect(done).toMatchObject({ progress: 100, completed_at: expect.any(Number), output: { content_type: 'video/webm' } });
      const content = await client.videos.downloadContent(video.id);
      expect(content.headers.get('content-type')).toBe('video/webm');
      expect((await content.arrayBuffer()).byteLength).toBeGreaterThan(100);
      const error = await thrownBy(() => client.videos.downloadContent(video.id, { variant: 'thumbnail' }));
      expect(error).toMatchObject({ status: 400, param: 'variant' });
    });

    test('that fail say why', async () => {
      const video = await make('[[fail:Too dark.]]');
      await becomes('failed', () => client.videos.retrieve(video.id));
      expect((await client.videos.retrieve(video.id)).error).toMatchObject({ code: 'provider_error', message: 'Too dark.' });
      expect(await thrownBy(() => client.videos.downloadContent(video.id))).toBeInstanceOf(Library.NotFoundError);
    });

    test('are listed page by page, whatever made them', async () => {
      const own = await ownClient();
      const made: string[] = [];
      for (const prompt of ['one [[slow:0]]', 'two [[slow:0]]'])
        made.push((await own.videos.create({ model: VIDEO as 'sora-2', prompt })).id);
      made.push((await own.responses.create({ model: IMAGE, input: 'three [[slow:0]]', background: true })).id.replace('resp_', 'video_'));
      const listed: string[] = [];
      for await (const { id } of own.videos.list({ limit: 2 })) listed.push(id);
      expect(listed).toEqual(made.toReversed());
      expect(await thrownBy(() => client.videos.list({ order: 'asc' }))).toMatchObject({ status: 400, param: 'order' });
    });

    test('are cancelled while they run, and removed when they have ended', async () => {
      const running = await make('[[hang]]');
      expect(await client.videos.delete(running.id)).toEqual({ id: running.id, object: 'video.deleted', deleted: true });
      expect(await client.videos.retrieve(running.id)).toMatchObject({ status: 'failed', error: { code: 'cancelled' } });
      expect(await jobOf(running.id)).toMatchObject({ httpStatus: 422, status: 'CANCELLED' });
      await client.videos.delete(running.id);
      expect(await thrownBy(() => client.videos.retrieve(running.id))).toBeInstanceOf(Library.NotFoundError);
    });

    test.each([
      ['completed', 'a dog [[slow:0]]', { status: 'completed', output: { url: expect.stringContaining('/files/') }, error: null }],
      ['failed', '[[fail:Too dark.]]', { status: 'failed', output: null, error: { code: 'provider_error', message: 'Too dark.' } }],
    ])('tell a webhook that they have %s, which the library verifies', async (event, prompt, data) => {
      const video = await make(prompt, { webhook_url: receiver.url });
      const sent = () => receiver.received.find(({ body }) => Object(body.data).id === video.id);
      await vi.waitFor(() => expect(sent()).toBeDefined(), POLL);
      const { headers = {}, body = {} } = sent() ?? {};
      const { key } = await jsonOf(await service.request('/v1/webhooks/secret'));
      const heads = new Headers(Object.entries(headers).map(([name, value]) => [name, String(value)]));
      // Written by JSON.stringify, so this is the text that came.
      const unwrapped = await client.webhooks.unwrap(JSON.stringify(body), heads, String(key));
      expect(unwrapped).toMatchObject({
        object: 'event',
        type: `video.${event}`,
        data: { object: 'video.generation', model: VIDEO, ...data },
      });
      await expect(client.webhooks.unwrap(JSON.stringify({ ...body, type: 'x' }), heads, String(key))).rejects.toThrow();
    });

    test.each([
      ['an address', () => ({ image_url: 'https://example.com/dog.png' }), 'https://example.com/dog.png'],
      ['a file', aPicture, expect.stringContaining('/files/')],
    ] as const)('begin with a picture: %s', async (_what, reference, address) => {
      const prompt = 'a dog [[slow:0]]';
      const video = await client.videos.create({ model: FILM as 'sora-2', prompt, input_reference: await reference(), seconds: '8' });
      const job = await service.engine.read({ id: UUID.exec(video.id)?.[0] ?? '', callerId: await callerId() });
      expect(JSON.parse(job?.input ?? '')).toEqual({ prompt, start_image: address, duration: 8 });
    });
  });

  describe('responses', () => {
    const begin = (input: string, model = IMAGE) =>
      client.responses.create({ model, input, background: true, tools: [{ type: 'image_generation', size: '1024x1024' }] });

    test('are made in the background, and hold the picture', async () => {
      const begun = await begin('a panda [[slow:200]]');
      expect(begun).toMatchObject({ object: 'response', status: 'queued', background: true, output: [], error: null, output_text: '' });
      await becomes('completed', () => client.responses.retrieve(begun.id));
      const [item] = (await client.responses.retrieve(begun.id)).output;
      expect(item).toMatchObject({ type: 'image_generation_call', status: 'completed' });
      const result = item?.type === 'image_generation_call' ? (item.result ?? '') : '';
      expect(Buffer.from(result, 'base64').subarray(8, 12).toString()).toBe('WEBP');
    });

    test('of text are read as text, while the client waits', async () => {
      const response = await client.responses.create({ model: CHAT, input: 'Say panda. [[slow:0]]', instructions: 'Be brief.' });
      expect(response).toMatchObject({ status: 'completed', background: false });
      expect(response.output_text).toContain('Say panda.');
    });

    test('are cancelled, and cancelling again changes nothing', async () => {
      const { id } = await begin('[[hang]]');
      expect(await client.responses.cancel(id)).toMatchObject({ id, status: 'cancelled', error: { code: 'cancelled' } });
      expect(await client.responses.cancel(id)).toMatchObject({ id, status: 'cancelled' });
      expect(await jobOf(id)).toMatchObject({ status: 'CANCELLED' });
    });

    test('are deleted', async () => {
      const { id } = await begin('[[hang]]');
      await client.responses.delete(id);
      expect(await thrownBy(() => client.responses.retrieve(id))).toBeInstanceOf(Library.NotFoundError);
    });

    test('fail with the reason in the background, and with an error for who waits', async () => {
      const { id } = await begin('[[fail:Too dark.]]');
      await becomes('failed', () => client.responses.retrieve(id));
      expect((await client.responses.retrieve(id)).error).toEqual({ code: 'provider_error', message: 'Too dark.' });
      const error = await thrownBy(() => client.responses.create({ model: CHAT, input: '[[nsfw]]' }));
      expect(error).toBeInstanceOf(Library.BadRequestError);
    });

    test('come word by word, and a stream goes on behind any of its events', async () => {
      const prompt = 'Say all of these many words slowly. [[slow:600]]';
      const events = await collect(await client.responses.create({ model: CHAT, input: prompt, background: true, stream: true }));
      const last = events.at(-1);
      if (last?.type !== 'response.completed') throw new Error(`The last event is ${last?.type}.`);
      const text = events.flatMap((event) => (event.type === 'response.output_text.delta' ? [event.delta] : [])).join('');
      const done = events.find((event) => event.type === 'response.output_text.done');
      expect(text).toContain('many words');
      expect(done).toMatchObject({ text });
      const numbers = events.map((event) => ('sequence_number' in event ? event.sequence_number : -1));
      expect(numbers).toEqual(numbers.map((_, index) => index));
      const resumed = await client.responses.retrieve(last.response.id, { stream: true, starting_after: 2 });
      expect(await collect(resumed)).toEqual(events.slice(3));
    });

    test('are put together by the library out of the events', async () => {
      const stream = client.responses.stream({ model: CHAT, input: 'Say panda. [[slow:200]]' });
      const response = await stream.finalResponse();
      expect(response.output_text).toContain('Say panda.');
    });

    test('of a picture come as the events of the tool', async () => {
      const events = await collect(await client.responses.create({ model: IMAGE, input: 'a panda [[slow:0]]', stream: true }));
      expect(events.map(({ type }) => type)).toEqual([
        'response.created',
        'response.queued',
        'response.in_progress',
        'response.output_item.added',
        'response.image_generation_call.in_progress',
        'response.image_generation_call.generating',
        'response.image_generation_call.completed',
        'response.output_item.done',
        'response.completed',
      ]);
    });

    test.each([
      ['a tool that there is not', { tools: [{ type: 'web_search' }] }, 'tools.0'],
      ['a conversation that is kept elsewhere', { previous_response_id: 'resp_1' }, 'previous_response_id'],
    ])('refuse %s by name', async (_what, more, param) => {
      const error = await thrownBy(() => client.post('/responses', { body: { model: CHAT, input: 'x', ...more } }));
      expect(error).toMatchObject({ status: 400, param });
    });
  });

  describe('chat', () => {
    const messages = [
      { role: 'system' as const, content: 'Be brief.' },
      { role: 'user' as const, content: [{ type: 'text' as const, text: 'Say panda, and some more words. [[slow:300]]' }] },
    ];

    test('answers', async () => {
      const completion = await client.chat.completions.create({ model: CHAT, messages, max_completion_tokens: 20, temperature: 0 });
      expect(completion).toMatchObject({ object: 'chat.completion', model: CHAT, choices: [{ index: 0, finish_reason: 'stop' }] });
      expect(completion.choices[0]?.message).toMatchObject({ role: 'assistant', content: expect.stringContaining('Say panda') });
      expect(completion.id).toMatch(/^chatcmpl-/);
    });

    test('answers word by word', async () => {
      // Long enough that a busy worker still tells of it in several pieces.
      const slow = [{ role: 'user' as const, content: 'Say panda, and some more words. [[slow:3000]]' }];
      const asked = { model: CHAT, messages: slow, stream_options: { include_usage: true } };
      const stream = await client.chat.completions.create({ ...asked, stream: true });
      const chunks = await collect(stream);
      expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' });
      const words = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '');
      expect(words.join('')).toContain('Say panda, and some more words.');
      expect(words.filter((text) => text !== '').length).toBeGreaterThan(1);
      expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('stop');
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: expect.any(Number) } });
    });

    test('tells of a failure in the stream', async () => {
      const failing = [{ role: 'user' as const, content: '[[fail:Too dark.]]' }];
      const error = await thrownBy(async () =>
        collect(await client.chat.completions.create({ model: CHAT, messages: failing, stream: true })),
      );
      expect(error.message).toContain('Too dark.');
    });

    test('is put together by the library out of the pieces', async () => {
      expect(await client.chat.completions.stream({ model: CHAT, messages }).finalContent()).toContain('Say panda');
    });

    test('refuses tools that the model does not have', async () => {
      const tools = [{ type: 'function' as const, function: { name: 'f' } }];
      const error = await thrownBy(() => client.chat.completions.create({ model: CHAT, messages, tools }));
      expect(error).toMatchObject({ status: 400, param: 'tools' });
    });
  });
});

describe('Lumenfall', () => {
  test.each(['/openai/v1', '/v1'])('serves pictures below %s, with who made them and for how much', async (base) => {
    const response = await post(`${base}/images/generations`, {
      model: `sandbox/${IMAGE}`,
      prompt: 'cat [[slow:0]]',
      n: 1,
      size: '1024x1024',
    });
    expect(response.status).toBe(200);
    const body = await jsonOf(response);
    expect(body).toMatchObject({
      id: expect.stringMatching(/^req_/),
      metadata: { provider: 'sandbox', attempts: [{ outcome: 'succeeded' }] },
    });
    expect(response.headers.get('x-lumenfall-request-id')).toBe(body.id);
    expect(response.headers.get('x-lumenfall-provider')).toBe('sandbox');
  });

  test('is served to a client that says no more than /v1', async () => {
    const client = new OpenAI({ apiKey: service.key, baseURL: `${url}/v1` });
    expect((await collect(client.models.list())).map(({ id }) => id)).toContain(CHAT);
    const { id } = await client.responses.create({ model: IMAGE, input: '[[hang]]', background: true });
    expect(await client.videos.retrieve(id)).toMatchObject({ object: 'video', error: null });
    expect(await client.responses.cancel(id)).toMatchObject({ status: 'cancelled' });
  });

  test.each([
    ['no JSON', { 'content-type': 'application/json' }, '{', 400, 'invalid_json'],
    ['another type', { 'content-type': 'text/plain' }, 'x', 415, 'unsupported_content_type'],
    ['no key', { 'content-type': 'application/json', authorization: 'Bearer none' }, '{}', 401, 'invalid_api_key'],
  ])('says what is wrong with a body or its headers in the same words: %s', async (_what, headers, body, status, code) => {
    const response = await service.request('/v1/images/generations', { method: 'POST', headers, body });
    expect([response.status, await jsonOf(response)]).toMatchObject([status, { error: { code, param: null } }]);
  });

  test('quotes a price and makes nothing', async () => {
    const before = await jsonOf(await service.request('/v1/requests?limit=1'));
    const response = await post('/openai/v1/images/generations?dryRun=true', { model: IMAGE, prompt: 'cat', n: 2 });
    expect(response.status).toBe(200);
    // The sandbox takes no money; where it would run for money is chosen where there are keys.
    expect(await jsonOf(response)).toMatchObject({ model: IMAGE, provider: 'sandbox', currency: 'USD' });
    expect(await jsonOf(await service.request('/v1/requests?limit=1'))).toEqual(before);
  });

  test('makes a video once for one idempotency_key', async () => {
    const body = { model: VIDEO, prompt: 'dog [[slow:0]]', idempotency_key: crypto.randomUUID() };
    const first = await post('/v1/videos', body);
    expect(first.status).toBe(202);
    const { id } = await jsonOf(first);
    expect(await jsonOf(await post('/v1/videos', body))).toMatchObject({ id });
    const other = await post('/v1/videos', { ...body, prompt: 'cat' });
    expect(other.status).toBe(422);
  });

  test('refuses a webhook that may not be called', async () => {
    const response = await post('/v1/videos', { model: VIDEO, prompt: 'dog', webhook_url: 'ftp://example.com' });
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ error: { param: 'webhook_url', error_code: 'INVALID_REQUEST' } });
  });

  test('has a log of requests, each of which is also a job of the native format', async () => {
    const made = await jsonOf(await post('/v1/images/generations', { model: IMAGE, prompt: 'cat [[slow:0]]' }));
    const failed = await post('/v1/images/generations', { model: IMAGE, prompt: '[[nsfw]]' });
    expect(failed.status).toBe(400);
    expect(await jsonOf(failed)).toMatchObject({ error: { error_code: 'CONTENT_POLICY_VIOLATION' } });
    const page = await jsonOf(await service.request('/v1/requests?limit=2'));
    expect(page).toMatchObject({
      object: 'list',
      data: [
        { status: 'rejected', error_code: 'CONTENT_POLICY_VIOLATION' },
        { id: made.id, object: 'request', status: 'completed', modality: 'image' },
      ],
      next_page_url: expect.stringContaining('starting_after=req_'),
      previous_page_url: null,
    });
    const next = await service.request(String(page.next_page_url));
    expect(next.status).toBe(200);
    expect(await jsonOf(await service.request('/v1/requests?status=rejected&limit=1'))).toMatchObject({ data: [{ status: 'rejected' }] });
    expect(await jsonOf(await service.request(`/v1/requests/${made.id}`))).toMatchObject({ id: made.id, object: 'request' });
    const bare = UUID.exec(String(made.id))?.[0] ?? '';
    expect(await jsonOf(await service.request(`/v1/requests/${bare}`))).toMatchObject({ request_id: bare, status: 'COMPLETED' });
    expect((await service.request(`/v1/requests/${made.id}/payloads`, { method: 'DELETE' })).status).toBe(200);
    expect((await service.request(`/v1/requests/${made.id}`)).status).toBe(404);
  });

  test('has a balance without money in it, and refuses what it cannot filter by', async () => {
    expect(await jsonOf(await service.request('/v1/balance'))).toEqual({
      object: 'balance',
      billing_type: 'postpaid',
      available: { amount: null, currency: 'usd' },
    });
    const response = await service.request('/v1/requests?summary=true&limit=0');
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ error: { message: expect.stringMatching(/`limit` .* `summary` /) } });
  });

  test('tells of paths that there are not in its own words below its own paths only', async () => {
    expect(await jsonOf(await service.request('/v1/images/nothing'))).toMatchObject({ error: { code: 'method_not_supported' } });
    expect(await jsonOf(await post('/v1/images/nothing', {}))).toMatchObject({ error: { code: 'model_not_found' } });
    expect(await jsonOf(await service.request('/v1/models/none'))).toMatchObject({ code: 'unknown_model' });
  });

  test('reads a job of the native format as its own', async () => {
    const id = await service.submit({ prompt: 'a native panda [[slow:0]]' });
    await expect.poll(async () => (await jsonOf(await service.request(`/v1/videos/${id}`))).status, POLL).toBe('completed');
    expect(await jsonOf(await service.request(`/openai/v1/responses/resp_${id}`))).toMatchObject({
      status: 'completed',
      output: [{ type: 'image_generation_call' }],
    });
  });
});

import type { JsonObject, Run } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import openai from './openai.ts';
import simulator from './simulators/openai.ts';
import { type Bench, benchOf, errorOf, FOREVER_MS } from './testing/bench.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';

const HANDLE = { id: 'video_1', startedAt: 0 };
const FOX = { prompt: 'a fox' };
const MESSAGES = { messages: [{ role: 'user', content: 'hello there fox' }] };

const STREAMED = { stream: true, stream_options: { include_usage: true } };

const vendor = {
  provider: openai,
  simulator,
  needs: 'OPENAI_API_KEY',
  keyVariable: 'OPENAI_API_KEY',
  refused: (words: string) => ({
    status: 400,
    body: { error: { message: words, type: 'invalid_request_error', param: null, code: null } },
  }),
};

const sent =
  (path: string, body: JsonObject): Subject['sent'] =>
  (key) => ({
    method: 'POST',
    path: `/v1${path}`,
    headers: { authorization: `Bearer ${key}`, accept: 'application/json' },
    body,
  });

const pictures: Subject = {
  ...vendor,
  title: 'openai, pictures',
  model: 'dall-e-3',
  parameters: FOX,
  sent: sent('/images/generations', { model: 'dall-e-3', ...FOX }),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(`^${url}/files/`) },
        contentType: 'image/png',
        fileName: expect.stringMatching(/\.png$/),
      },
    ],
  }),
  words: { fail: 'The model failed.', refuse: 'Your request was rejected by the safety system.' },
  unknownModel: 'unknown-1',
};

const texts: Subject = {
  ...vendor,
  title: 'openai, words',
  model: 'chat:gpt-5-mini',
  parameters: MESSAGES,
  sent: sent('/chat/completions', { model: 'gpt-5-mini', ...MESSAGES, ...STREAMED }),
  made: () => ({ media: [], text: 'You said: hello there fox', usage: { inputTokens: 3, outputTokens: 5 } }),
  words: { fail: 'The model failed.', refuse: 'I cannot help with that.' },
  unknownModel: 'chat:unknown-1',
};

const videos: Subject = {
  ...vendor,
  title: 'openai, videos',
  model: 'video:sora-2',
  parameters: { ...FOX, seconds: '4' },
  // JSON is what some of the vendor's own clients send.
  sent: sent('/videos', { model: 'sora-2', ...FOX, seconds: '4' }),
  made: () => ({
    media: [{ location: { asset: expect.stringMatching(/^file-\d$/) }, contentType: 'video/mp4', fileName: 'video.mp4', bytes: 24 }],
    usage: { seconds: 4 },
  }),
  words: { fail: 'The video could not be made.', refuse: 'Your request was rejected by the safety system.' },
  unknownModel: 'video:unknown-1',
  polled: {
    accepted: (id, elsewhere) => ({ ...(id !== undefined && { id }), object: 'video', status: 'queued', url: elsewhere }),
    ended: (elsewhere) => [
      { body: { id: 'abc', status: 'completed', url: `${elsewhere}/content` } },
      { headers: { 'content-type': 'video/mp4' }, body: Buffer.from('a video') },
    ],
    told: (status) => ({ id: 'video_1', status }),
    handle: HANDLE,
    // The Python client looks every second.
    pace: { firstMs: 1000, mostMs: 5000 },
    cancellation: /^DELETE \/v1\/videos\/video_\w+$/,
  },
};

const LINK = 'at the simulator makes a real picture, whose link expires';
describeConformance(pictures);
describeConformance(texts, { [LINK]: 'words are no file' });
describeConformance(videos, { [LINK]: 'the bytes need the key, so they are fetched and kept' });

const bench = benchOf(pictures);
const answering = async (...answers: Parameters<Bench['against']>) => (await bench.against(...answers)).upstream;
const picture = (parameters: JsonObject = FOX, given: Partial<Run> = {}) => bench.testRun({ parameters, model: 'gpt-image-1', ...given });
const video = (given: Partial<Run> = {}) => benchOf(videos).run(given);

describe('pictures', () => {
  test('of GPT models come in base64, with tokens, and go no further than the asset store', async () => {
    const { upstream } = await bench.simulate();
    const { run, files } = picture({ prompt: 'a fox', size: '1024x1536', quality: 'low' });
    const output = await finish(upstream, run);
    expect(output).toMatchObject({
      media: [{ location: { asset: 'file-1' }, contentType: 'image/png' }],
      usage: { inputTokens: 9, outputTokens: 272 },
    });
    expect(files[0]?.bytes.length).toBe(70);
    expect(JSON.stringify(output)).not.toContain('iVBOR');
  });

  test('that are links stay links, one for each that was wanted', async () => {
    const { upstream, vendor } = await bench.simulate();
    const { run, files } = picture({ prompt: 'a fox', n: 3 }, { model: 'dall-e-3' });
    const { media } = await finish(upstream, run);
    expect(media.map(({ contentType }) => contentType)).toEqual(['image/png', 'image/png', 'image/png']);
    for (const { location } of media) expect('url' in location && location.url).toMatch(`${vendor.url}/files/`);
    expect(files).toEqual([]);
  });

  test('are never asked for as a stream, which could not be read', async () => {
    const { upstream, vendor } = await bench.simulate();
    await finish(upstream, picture({ prompt: 'a fox', stream: true, partial_images: 2 }).run);
    expect(vendor.requests[0]?.body).toEqual({ model: 'gpt-image-1', prompt: 'a fox' });
  });

  test('of other servers are told by their bytes, and by the format and size they tell of links', async () => {
    const jpeg = Buffer.from('ffd8ffe000104a464946000101', 'hex').toString('base64');
    const upstream = await answering({
      body: {
        output_format: 'webp',
        size: '640x480',
        data: [{ b64_json: jpeg }, { url: 'https://cdn.example/1' }, { url: `data:image/jpeg;base64,${jpeg}` }, { url: 'file:///a.png' }],
      },
    });
    const { media } = await finish(upstream, picture().run);
    expect(media).toMatchObject([
      { location: { asset: 'file-1' }, contentType: 'image/jpeg' },
      { location: { url: 'https://cdn.example/1' }, contentType: 'image/webp', width: 640, height: 480 },
      { location: { asset: 'file-2' }, contentType: 'image/jpeg' },
    ]);
  });

  test.each([[{ data: [] }], [{}], [{ data: [{ url: 7 }] }]])(
    'that are missing in %j end the run, as another try would only pay again',
    async (body) => {
      const upstream = await answering({ body });
      expect(await errorOf(upstream.start(picture().run))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    },
  );

  test.each(['gpt-image-1', 'dall-e-3'])('of %s that are refused for their content end the run', async (model) => {
    const { upstream, vendor } = await bench.simulate();
    vendor.inject('refuse');
    expect(await errorOf(upstream.start(picture({ prompt: 'a fox' }, { model }).run))).toMatchObject({
      name: 'TerminalError',
      code: 'content_refused',
      message: 'Your request was rejected by the safety system.',
    });
  });
});

describe('words', () => {
  const chat = (parameters: JsonObject = MESSAGES, model = 'chat:gpt-5-mini') => bench.run({ parameters, model });
  const answered = async (body: JsonObject) => (await answering({ body })).start(chat());

  test('are told of as they are written, and are the same in the end', async () => {
    const { upstream, vendor: simulated } = await bench.simulate({ runMs: 1_000 });
    const { run, told } = bench.testRun({ parameters: { ...MESSAGES, temperature: 0, stream: false }, model: 'chat:gpt-5-mini' });
    expect(await upstream.start(run)).toEqual({
      kind: 'finished',
      output: { media: [], text: 'You said: hello there fox', usage: { inputTokens: 3, outputTokens: 5 } },
    });
    const texts = told.map(({ partialText }) => partialText ?? '');
    expect(texts.length).toBeGreaterThan(0);
    expect(texts.every((text, index) => text.startsWith(texts[index - 1] ?? 'You ') && 'You said: hello there fox'.startsWith(text))).toBe(
      true,
    );
    expect(simulated.requests[0]?.body).toEqual({ model: 'gpt-5-mini', ...MESSAGES, temperature: 0, ...STREAMED });
  });

  test.each<JsonObject>([{ tools: [{ type: 'function' }] }, { functions: [{}] }, { n: 2 }])(
    'with %j are asked for in one piece',
    async (more) => {
      const { upstream, vendor: simulated } = await bench.simulate();
      await upstream.start(chat({ ...MESSAGES, ...more, stream: true, stream_options: {} }));
      expect(simulated.requests.map(({ body }) => body)).toEqual([{ model: 'gpt-5-mini', ...MESSAGES, ...more }]);
    },
  );

  test.each(['stream', 'stream_options'])(
    'that the vendor does not give in pieces, for the sake of %s, are asked for in one',
    async (param) => {
      const refused = { error: { message: 'Your organization must be verified to stream this model.', param, code: 'unsupported_value' } };
      const { upstream, requests } = await bench.against(
        { status: 400, body: refused },
        { body: { choices: [{ message: { content: 'Hi' } }] } },
      );
      expect(await upstream.start(chat())).toMatchObject({ output: { text: 'Hi' } });
      expect(requests.map(({ body }) => body)).toEqual([
        { model: 'gpt-5-mini', ...MESSAGES, ...STREAMED },
        { model: 'gpt-5-mini', ...MESSAGES },
      ]);
    },
  );

  test('that break off between two pieces may have been paid for', async () => {
    const body = Buffer.from('data: {"choices":[{"delta":{"content":"Once"}}]}\n\n');
    const { upstream } = await bench.against({ headers: { 'content-type': 'text/event-stream' }, body });
    expect(await errorOf(upstream.start(chat()))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('in pieces, or of several choices, are one text', async () => {
    const content = [
      { type: 'text', text: 'a ' },
      { type: 'text', text: 'fox' },
      { type: 'image', text: null },
    ];
    expect(await answered({ choices: [{ message: { content } }, { message: { content: 'or two' } }] })).toMatchObject({
      output: { text: 'a fox\nor two' },
    });
  });

  test('that are refused end the run: with the words of the model, by a filter, or by an error', async () => {
    const { upstream, vendor } = await bench.simulate();
    vendor.inject('refuse');
    const refused = { name: 'TerminalError', code: 'content_refused' };
    expect(await errorOf(upstream.start(chat()))).toMatchObject({ ...refused, message: 'I cannot help with that.' });
    const filtered = { choices: [{ message: { content: '' }, finish_reason: 'content_filter' }] };
    expect(await errorOf(answered(filtered))).toMatchObject({ ...refused, message: 'The provider refused the content.' });
    const error = { message: 'not this', code: 'content_policy_violation' };
    expect(await errorOf((await answering({ status: 400, body: { error } })).start(chat()))).toMatchObject(refused);
  });

  test('that are calls of tools instead are JSON', async () => {
    const message = { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function' }] };
    expect(await answered({ choices: [{ message }] })).toEqual({ kind: 'finished', output: { media: [], json: message } });
  });

  test.each([[{ choices: [] }], [{}], [{ choices: [{ message: { content: null } }] }], [{ choices: [7] }]])(
    'that are missing in %j end the run, as another try would only pay again',
    async (body) => {
      expect(await errorOf(answered(body))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    },
  );

  test('without messages, or of an unknown model, are refused before anything is paid for', async () => {
    const { upstream, vendor } = await bench.simulate();
    expect(await errorOf(upstream.start(chat({})))).toMatchObject({ name: 'TerminalError', code: 'invalid_input' });
    const unknown = upstream.start(chat(MESSAGES, 'chat:unknown-1'));
    expect(await errorOf(unknown)).toMatchObject({ name: 'TerminalError', isProvidersOnly: true });
    expect(vendor.submitted).toBe(0);
  });
});

describe('videos', () => {
  test('are followed to their end and fetched with the key', async () => {
    const { upstream, vendor, environment } = await bench.simulate();
    const { run, files } = benchOf(videos).testRun();
    const { media, usage } = await finish(upstream, run);
    expect(media).toMatchObject([{ location: { asset: 'file-1' }, contentType: 'video/mp4', fileName: 'video.mp4' }]);
    expect(usage).toEqual({ seconds: 4 });
    expect(Buffer.from(files[0]?.bytes ?? []).toString('latin1', 4, 8)).toBe('ftyp');
    expect(vendor.requests.at(-1)).toMatchObject({
      method: 'GET',
      path: expect.stringMatching(/^\/v1\/videos\/video_\w+\/content$/),
      headers: { authorization: `Bearer ${environment.OPENAI_API_KEY}`, accept: 'application/binary' },
    });
    expect(vendor.submitted).toBe(1);
  });

  test('tell percents, and how soon to look again', async () => {
    const body = { id: 'video_1', object: 'video', status: 'in_progress', progress: 42 };
    const upstream = await answering({ body, headers: { 'openai-poll-after-ms': '2500' } });
    expect(await upstream.check(video(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, progress: 0.42, checkAfterMs: 2500 });
  });

  test('are polled at the usual pace where a callback address is offered, because the vendor calls none', async () => {
    const { upstream, vendor } = await bench.simulate({ runMs: FOREVER_MS });
    expect(await upstream.start(video({ callbackUrl: 'https://here.example/cb' }))).toMatchObject({ checkAfterMs: 1000 });
    expect(JSON.stringify(vendor.requests[0]?.body)).not.toContain('here.example');
    expect(upstream.receive).toBeUndefined();
  });

  test('that the vendor no longer has end the run', async () => {
    const { upstream, vendor } = await bench.simulate({ runMs: 0 });
    vendor.inject('expired');
    expect(await errorOf(finish(upstream, video()))).toMatchObject({
      name: 'TerminalError',
      message: 'The video is no longer at the provider.',
    });
  });

  test('that are kept elsewhere are linked, and the key is not taken there', async () => {
    const location = 'https://store.example/a.mp4?sig=1';
    const upstream = await answering({ body: { status: 'completed' } }, { status: 302, headers: { location }, body: null });
    expect(await upstream.check(video(), HANDLE)).toMatchObject({
      kind: 'finished',
      output: { media: [{ location: { url: location }, contentType: 'video/mp4', fileName: 'a.mp4' }] },
    });
  });

  test('whose bytes are a document instead are looked at again', async () => {
    const upstream = await answering({ body: { status: 'completed' } }, { body: { note: 'nearly there' } });
    expect(await upstream.check(video(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });
});

describe('errors', () => {
  const error = (message: string, code: string | null = null) => ({ error: { message, type: 'x', param: null, code } });

  test.each([
    [400, error('size is odd'), 'TerminalError', 'invalid_input', 'size is odd'],
    [401, error('who are you'), 'TerminalError', 'provider_error', 'The provider refused the key that this service has for it.'],
    [402, error('no credit'), 'TerminalError', 'provider_error', 'The account at the provider has no credit left.'],
    [429, error('top up', 'insufficient_quota'), 'TerminalError', 'provider_error', 'The account at the provider has no credit left.'],
    [400, error('no', 'billing_hard_limit_reached'), 'TerminalError', 'provider_error', 'The account at the provider has no credit left.'],
    [403, error('not for you'), 'TerminalError', 'provider_error', 'The provider refused the key that this service has for it.'],
    [404, error('no such model'), 'TerminalError', 'provider_error', 'no such model'],
    [408, error('too slow'), 'RetryableError', 'provider_error', 'too slow'],
    [409, error('locked'), 'RetryableError', 'provider_error', 'locked'],
    [418, {}, 'TerminalError', 'provider_error', 'The provider refused the request with status 418.'],
    [422, error('n is odd'), 'TerminalError', 'invalid_input', 'n is odd'],
    [429, error('slow down'), 'RetryableError', 'provider_error', 'The provider has too much to do.'],
    [500, error('oops'), 'RetryableError', 'provider_error', 'The provider failed with status 500.'],
    [503, error('later'), 'RetryableError', 'provider_error', 'The provider failed with status 503.'],
    [400, error('no', 'content_policy_violation'), 'TerminalError', 'content_refused', 'no'],
    [200, error('a failure in a good answer'), 'TerminalError', 'provider_error', 'a failure in a good answer'],
  ])('%i with %j is a %s', async (status, body, name, code, message) => {
    const upstream = await answering({ status, body });
    const thrown = await errorOf(upstream.start(picture().run));
    expect(thrown).toMatchObject({ name, code, message });
    const isOurs = [401, 402, 403, 404].includes(status) || message.startsWith('The account');
    if (name === 'TerminalError') expect(thrown).toHaveProperty('isProvidersOnly', isOurs);
  });

  test.each([409, 429, 500])('%i that must not be repeated ends the run', async (status) => {
    const upstream = await answering({ status, headers: { 'x-should-retry': 'false' }, body: error('never') });
    expect(await errorOf(upstream.start(picture().run))).toMatchObject({ name: 'TerminalError', message: 'never' });
  });

  test.each([
    [{ 'retry-after': '7' }, 7000],
    [{ 'retry-after-ms': '250', 'retry-after': '1' }, 250],
    [{ 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT' }, undefined],
    [{ 'retry-after': '999999' }, 3_600_000],
  ] as const)('%j is waited for %s milliseconds', async (headers, retryAfterMs) => {
    const upstream = await answering({ status: 429, headers, body: error('slow down') });
    expect(await errorOf(upstream.start(picture().run))).toHaveProperty('retryAfterMs', retryAfterMs);
  });

  test('parameters and models that the vendor does not take end the run', async () => {
    const { upstream, vendor } = await bench.simulate();
    expect(await errorOf(upstream.start(picture({ prompt: 'a', size: '0x0' }).run))).toMatchObject({ code: 'invalid_input' });
    const { run } = picture({ prompt: 'a' }, { model: 'unknown-1' });
    expect(await errorOf(upstream.start(run))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    expect(vendor.submitted).toBe(0);
  });
});

describe('the simulator', () => {
  test('takes the form that clients of the vendor send', async () => {
    const { vendor, environment } = await bench.simulate();
    const form = new FormData();
    for (const [name, value] of [
      ['model', 'sora-2'],
      ['prompt', 'a fox'],
      ['seconds', '8'],
      ['metadata[k]', 'v'],
    ] as const)
      form.set(name, value);
    const answer = await fetch(`${vendor.baseUrl}/videos`, {
      method: 'POST',
      headers: { authorization: `Bearer ${environment.OPENAI_API_KEY}` },
      body: form,
    });
    expect(await answer.json()).toMatchObject({ object: 'video', status: 'queued', seconds: '8', error: null });
  });

  test('lists models, and finds those with a slash in their name', async () => {
    const { vendor, environment } = await bench.simulate();
    const headers = { authorization: `Bearer ${environment.OPENAI_API_KEY}` };
    const list = await (await fetch(`${vendor.baseUrl}/models`, { headers })).json();
    expect(list).toMatchObject({ object: 'list', data: expect.arrayContaining([expect.objectContaining({ object: 'model' })]) });
    expect(await (await fetch(`${vendor.baseUrl}/models/fal%2Fa`, { headers })).json()).toMatchObject({ id: 'fal/a' });
  });

  test('answers nobody without the key', async () => {
    const { vendor } = await bench.simulate();
    expect((await fetch(`${vendor.baseUrl}/models`)).status).toBe(401);
  });
});

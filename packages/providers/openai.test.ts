import type { JsonObject, JsonValue, Run } from '@claimcheck/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openProviders } from './index.ts';
import openai from './openai.ts';
import simulator from './simulators/openai.ts';
import { answerInTurn, providerErrorOf } from './testing/answers.ts';
import { aRun, finish } from './testing/run.ts';

const HANDLE = { id: 'video_1', startedAt: 0 };

async function simulate(runMs = 10) {
  const vendor = await simulator.start({ port: 0, runMs });
  onTestFinished(() => vendor[Symbol.asyncDispose]());
  const environment = simulator.environment(vendor.url);
  return { vendor, environment, key: environment.OPENAI_API_KEY ?? '', upstream: open(environment) };
}

function open(environment: Readonly<Record<string, string>>) {
  const { upstreams } = openProviders([openai], environment);
  return upstreams.get('openai') ?? expect.unreachable('the provider is off');
}

/** The adapter before a vendor that answers with these in turn. */
async function answering(...answers: Parameters<typeof answerInTurn>) {
  return open({ OPENAI_API_KEY: 'sk-key', OPENAI_BASE_URL: await answerInTurn(...answers) });
}

const picture = (parameters: JsonObject = { prompt: 'a fox' }, given: Partial<Run> = {}) =>
  aRun(parameters, { model: 'gpt-image-1', ...given });
const video = (given: Partial<Run> = {}) => aRun({ prompt: 'a fox', seconds: '4' }, { model: 'video:sora-2', ...given }).run;

test('without its key it is off', () => {
  expect(openProviders([openai], {}).off.get('openai')).toBe('OPENAI_API_KEY is not set');
});

describe('pictures', () => {
  test('are asked for as the vendor documents it, and come with the answer', async () => {
    const { vendor, upstream, key } = await simulate();
    const { run, files } = picture({ prompt: 'a fox', size: '1024x1536', quality: 'low' });
    const step = await upstream.start(run);
    expect(step).toMatchObject({
      kind: 'finished',
      output: { media: [{ location: { asset: 'file-1' }, contentType: 'image/png' }], usage: { inputTokens: 9, outputTokens: 272 } },
    });
    expect(files[0]?.bytes.length).toBe(70);
    expect(vendor.requests).toHaveLength(1);
    expect(vendor.requests[0]).toMatchObject({
      method: 'POST',
      path: '/v1/images/generations',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', accept: 'application/json' },
    });
    expect(vendor.requests[0]?.body).toEqual({ model: 'gpt-image-1', prompt: 'a fox', size: '1024x1536', quality: 'low' });
  });

  test('in base64 go no further than the asset store', async () => {
    const { upstream } = await simulate();
    const output = await finish(upstream, picture().run);
    expect(JSON.stringify(output)).not.toContain('iVBOR');
  });

  test('that are links stay links, one for each that was wanted', async () => {
    const { upstream, vendor } = await simulate();
    const { run, files } = picture({ prompt: 'a fox', n: 3 }, { model: 'dall-e-3' });
    const { media } = await finish(upstream, run);
    expect(media.map(({ contentType }) => contentType)).toEqual(['image/png', 'image/png', 'image/png']);
    for (const { location } of media) expect('url' in location && location.url).toMatch(`${vendor.url}/files/`);
    expect(files).toEqual([]);
  });

  test('are never asked for as a stream, which could not be read', async () => {
    const { upstream, vendor } = await simulate();
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
      expect(await providerErrorOf(upstream.start(picture().run))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    },
  );

  test.each(['gpt-image-1', 'dall-e-3'])('of %s that are refused for their content end the run', async (model) => {
    const { upstream, vendor } = await simulate();
    vendor.inject('refuse');
    expect(await providerErrorOf(upstream.start(picture({ prompt: 'a fox' }, { model }).run))).toMatchObject({
      name: 'TerminalError',
      code: 'content_refused',
      message: 'Your request was rejected by the safety system.',
    });
  });

  test('stop being waited for when the signal aborts', async () => {
    const { upstream } = await simulate(60_000);
    const control = new AbortController();
    const started = upstream.start(picture({ prompt: 'a fox' }, { signal: control.signal }).run);
    control.abort(new Error('cancelled by its caller'));
    await expect(started).rejects.toThrow('cancelled by its caller');
  });
});

describe('words', () => {
  const MESSAGES = [{ role: 'user', content: 'hello there fox' }];
  const chat = (parameters: JsonObject = { messages: MESSAGES }, model = 'chat:gpt-5-mini') => aRun(parameters, { model }).run;
  const answered = async (body: JsonObject) => (await answering({ body })).start(chat());

  test('are asked for in one piece, and come with what they cost', async () => {
    const { upstream, vendor, key } = await simulate();
    expect(await upstream.start(chat({ messages: MESSAGES, temperature: 0, stream: true, stream_options: {} }))).toEqual({
      kind: 'finished',
      output: { media: [], text: 'You said: hello there fox', usage: { inputTokens: 3, outputTokens: 5 } },
    });
    expect(vendor.requests[0]).toMatchObject({
      method: 'POST',
      path: '/v1/chat/completions',
      headers: { authorization: `Bearer ${key}` },
      body: { model: 'gpt-5-mini', messages: MESSAGES, temperature: 0 },
    });
    expect(vendor.requests[0]?.body).not.toHaveProperty('stream');
    expect(vendor.submitted).toBe(1);
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
    const { upstream, vendor } = await simulate();
    vendor.inject('refuse');
    const refused = { name: 'TerminalError', code: 'content_refused' };
    expect(await providerErrorOf(upstream.start(chat()))).toMatchObject({ ...refused, message: 'I cannot help with that.' });
    const filtered = { choices: [{ message: { content: '' }, finish_reason: 'content_filter' }] };
    expect(await providerErrorOf(answered(filtered))).toMatchObject({ ...refused, message: 'The provider refused the content.' });
    const error = { message: 'not this', code: 'content_policy_violation' };
    expect(await providerErrorOf((await answering({ status: 400, body: { error } })).start(chat()))).toMatchObject(refused);
  });

  test('that are calls of tools instead are JSON', async () => {
    const message = { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function' }] };
    expect(await answered({ choices: [{ message }] })).toEqual({ kind: 'finished', output: { media: [], json: message } });
  });

  test.each([[{ choices: [] }], [{}], [{ choices: [{ message: { content: null } }] }], [{ choices: [7] }]])(
    'that are missing in %j end the run, as another try would only pay again',
    async (body) => {
      expect(await providerErrorOf(answered(body))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    },
  );

  test('without messages, or of an unknown model, are refused before anything is paid for', async () => {
    const { upstream, vendor } = await simulate();
    expect(await providerErrorOf(upstream.start(chat({})))).toMatchObject({ name: 'TerminalError', code: 'invalid_input' });
    const unknown = upstream.start(chat({ messages: MESSAGES }, 'chat:unknown-1'));
    expect(await providerErrorOf(unknown)).toMatchObject({ name: 'TerminalError', isProvidersOnly: true });
    expect(vendor.submitted).toBe(0);
  });

  test.each([
    ['500', false],
    ['html', true],
    ['truncated', true],
  ] as const)('answered with %s are tried again, and may have been paid for: %s', async (fault, mayHaveStarted) => {
    const { upstream, vendor } = await simulate();
    vendor.inject(fault);
    expect(await providerErrorOf(upstream.start(chat()))).toMatchObject({ name: 'RetryableError', mayHaveStarted });
  });
});

describe('videos', () => {
  test('are submitted as JSON, without the mark of their route', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const step = await upstream.start(video());
    expect(step).toMatchObject({ kind: 'running', progress: 0, checkAfterMs: 1000 });
    expect(vendor.requests[0]).toMatchObject({ method: 'POST', path: '/v1/videos' });
    expect(vendor.requests[0]?.body).toEqual({ model: 'sora-2', prompt: 'a fox', seconds: '4' });
  });

  test('are followed to their end and fetched with the key', async () => {
    const { upstream, vendor, key } = await simulate();
    const { run, files } = aRun({ prompt: 'a fox' }, { model: 'video:sora-2' });
    const { media, usage } = await finish(upstream, run);
    expect(media).toMatchObject([{ location: { asset: 'file-1' }, contentType: 'video/mp4', fileName: 'video.mp4' }]);
    expect(usage).toEqual({ seconds: 4 });
    expect(
      Buffer.from(files[0]?.bytes ?? [])
        .subarray(4, 8)
        .toString(),
    ).toBe('ftyp');
    expect(vendor.requests.at(-1)).toMatchObject({
      method: 'GET',
      path: expect.stringMatching(/^\/v1\/videos\/video_\w+\/content$/),
      headers: { authorization: `Bearer ${key}`, accept: 'application/binary' },
    });
    expect(vendor.submitted).toBe(1);
  });

  test('tell percents, and how soon to look again', async () => {
    const body = { id: 'video_1', object: 'video', status: 'in_progress', progress: 42 };
    const upstream = await answering({ body, headers: { 'openai-poll-after-ms': '2500' } });
    expect(await upstream.check(video(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, progress: 0.42, checkAfterMs: 2500 });
  });

  test('are polled at the usual pace where a callback address is offered, because the vendor calls none', async () => {
    const { upstream, vendor } = await simulate(60_000);
    expect(await upstream.start(video({ callbackUrl: 'https://here.example/cb' }))).toMatchObject({ checkAfterMs: 1000 });
    expect(JSON.stringify(vendor.requests[0]?.body)).not.toContain('here.example');
    expect(upstream.receive).toBeUndefined();
  });

  test('are resumed by their handle from another process, with one submission', async () => {
    const { upstream, vendor, environment } = await simulate();
    const started = await upstream.start(video());
    if (started.kind !== 'running') throw new Error('It has ended.');
    const other = open(environment);
    let step = await other.check(video(), JSON.parse(JSON.stringify(started.handle)));
    while (step.kind === 'running') step = await other.check(video(), step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(vendor.submitted).toBe(1);
  });

  test('are deleted when they are cancelled, also twice', async () => {
    const { upstream, vendor } = await simulate(60_000);
    const step = await upstream.start(video());
    if (step.kind !== 'running') throw new Error('It has ended.');
    await upstream.cancel?.(video(), step.handle);
    expect(vendor.requests.at(-1)).toMatchObject({ method: 'DELETE', path: expect.stringMatching(/^\/v1\/videos\/video_\w+$/) });
    await upstream.cancel?.(video(), step.handle);
    expect(await providerErrorOf(upstream.check(video(), step.handle))).toMatchObject({ name: 'TerminalError' });
  });

  test.each([
    ['refuse', 'content_refused', 'Your request was rejected by the safety system.'],
    ['fail', 'provider_error', 'The video could not be made.'],
  ] as const)('end with the words of the vendor: %s', async (fault, code, message) => {
    const { upstream, vendor } = await simulate();
    vendor.inject(fault);
    expect(await providerErrorOf(finish(upstream, video()))).toMatchObject({ name: 'TerminalError', code, message });
  });

  test('that the vendor no longer has end the run', async () => {
    const { upstream, vendor } = await simulate(0);
    vendor.inject('expired');
    expect(await providerErrorOf(finish(upstream, video()))).toMatchObject({
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

  test('of a status that is not documented are looked at again', async () => {
    const upstream = await answering({ body: { status: 'daydreaming' } });
    expect(await upstream.check(video(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });

  test('without an id may have been started', async () => {
    const upstream = await answering({ body: { status: 'queued' } });
    expect(await providerErrorOf(upstream.start(video()))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('have no handle that leads elsewhere', async () => {
    const { upstream, vendor } = await simulate();
    const handles: readonly JsonValue[] = [{ id: '../models', startedAt: 0 }, { id: 'a' }, 'a', null];
    for (const handle of handles) {
      expect(await providerErrorOf(upstream.check(video(), handle))).toMatchObject({ name: 'TerminalError', code: 'internal' });
    }
    expect(vendor.requests).toEqual([]);
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
    const thrown = await providerErrorOf(upstream.start(picture().run));
    expect(thrown).toMatchObject({ name, code, message });
    const isOurs = [401, 402, 403, 404].includes(status) || message.startsWith('The account');
    if (name === 'TerminalError') expect(thrown).toHaveProperty('isProvidersOnly', isOurs);
  });

  test('a video that is gone is not another provider’s business', async () => {
    const upstream = await answering({ status: 404, body: error('no such video') });
    expect(await providerErrorOf(upstream.check(video(), HANDLE))).toMatchObject({ name: 'TerminalError', isProvidersOnly: false });
  });

  test.each([409, 429, 500])('%i that must not be repeated ends the run', async (status) => {
    const upstream = await answering({ status, headers: { 'x-should-retry': 'false' }, body: error('never') });
    expect(await providerErrorOf(upstream.start(picture().run))).toMatchObject({ name: 'TerminalError', message: 'never' });
  });

  test.each([
    [{ 'retry-after': '7' }, 7000],
    [{ 'retry-after-ms': '250', 'retry-after': '1' }, 250],
    [{ 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT' }, undefined],
    [{ 'retry-after': '999999' }, 3_600_000],
  ] as const)('%j is waited for %s milliseconds', async (headers, retryAfterMs) => {
    const upstream = await answering({ status: 429, headers, body: error('slow down') });
    expect(await providerErrorOf(upstream.start(picture().run))).toHaveProperty('retryAfterMs', retryAfterMs);
  });

  test('the key is in none of them, even where the vendor repeats it', async () => {
    const upstream = await answering({ status: 400, body: error('Incorrect key sk-key, see https://platform.example/keys?k=sk-key') });
    const thrown = await providerErrorOf(upstream.start(picture().run));
    expect(`${thrown.message} ${thrown.stack}`).not.toContain('sk-key');
    expect(thrown.message.length).toBeLessThanOrEqual(300);
  });

  test('parameters and models that the vendor does not take end the run', async () => {
    const { upstream, vendor } = await simulate();
    expect(await providerErrorOf(upstream.start(picture({ prompt: 'a', size: '0x0' }).run))).toMatchObject({ code: 'invalid_input' });
    const { run } = picture({ prompt: 'a' }, { model: 'unknown-1' });
    expect(await providerErrorOf(upstream.start(run))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    expect(vendor.submitted).toBe(0);
  });
});

describe('faults of the vendor', () => {
  test.each([
    ['429', 'RetryableError', false],
    ['500', 'RetryableError', false],
    ['html', 'RetryableError', true],
    ['truncated', 'RetryableError', true],
  ] as const)('%s at a submission is tried again', async (fault, name, mayHaveStarted) => {
    const { upstream, vendor } = await simulate();
    vendor.inject(fault);
    expect(await providerErrorOf(upstream.start(video()))).toMatchObject({ name, mayHaveStarted });
    vendor.inject(fault);
    expect(await providerErrorOf(upstream.start(picture().run))).toMatchObject({ name, mayHaveStarted });
  });

  test.each(['429', '500', 'html', 'truncated'] as const)('%s at a look leaves the run as it is', async (fault) => {
    const { upstream, vendor } = await simulate(0);
    const step = await upstream.start(video());
    if (step.kind !== 'running') throw new Error('It has ended.');
    vendor.inject(fault);
    const checkAfterMs = fault === '429' ? 1000 : 5000;
    expect(await upstream.check(video(), step.handle)).toEqual({ kind: 'running', handle: step.handle, checkAfterMs });
    expect((await upstream.check(video(), step.handle)).kind).toBe('finished');
    expect(vendor.submitted).toBe(1);
  });

  test('a picture that failed for good is not made again', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('fail');
    expect(await providerErrorOf(upstream.start(picture().run))).toMatchObject({ name: 'TerminalError', message: 'The model failed.' });
  });

  test('a status that was there before is no end', async () => {
    const { upstream, vendor } = await simulate();
    vendor.inject('backwards', 2);
    expect((await finish(upstream, video())).media).toHaveLength(1);
  });

  test('a vendor that cannot be reached is tried again, and has started nothing', async () => {
    const { vendor, environment } = await simulate();
    await vendor[Symbol.asyncDispose]();
    const thrown = await providerErrorOf(open(environment).start(picture().run));
    expect(thrown).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
  });
});

describe('the simulator', () => {
  test('takes the form that clients of the vendor send', async () => {
    const { vendor, key } = await simulate();
    const form = new FormData();
    for (const [name, value] of [
      ['model', 'sora-2'],
      ['prompt', 'a fox'],
      ['seconds', '8'],
      ['metadata[k]', 'v'],
    ] as const)
      form.set(name, value);
    const answer = await fetch(`${vendor.baseUrl}/videos`, { method: 'POST', headers: { authorization: `Bearer ${key}` }, body: form });
    expect(await answer.json()).toMatchObject({ object: 'video', status: 'queued', seconds: '8', error: null });
  });

  test('lists models, and finds those with a slash in their name', async () => {
    const { vendor, key } = await simulate();
    const headers = { authorization: `Bearer ${key}` };
    const list = await (await fetch(`${vendor.baseUrl}/models`, { headers })).json();
    expect(list).toMatchObject({ object: 'list', data: expect.arrayContaining([expect.objectContaining({ object: 'model' })]) });
    expect(await (await fetch(`${vendor.baseUrl}/models/fal%2Fa`, { headers })).json()).toMatchObject({ id: 'fal/a' });
  });

  test('answers nobody without the key', async () => {
    const { vendor } = await simulate();
    expect((await fetch(`${vendor.baseUrl}/models`)).status).toBe(401);
  });
});

import type { JsonObject, Run } from '@claimcheck/core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { takesCallback } from './_lumenfall-callback.ts';
import lumenfall from './lumenfall.ts';
import simulator from './simulators/lumenfall.ts';
import { type Bench, benchOf, errorOf, FOREVER_MS, handleOf } from './testing/bench.ts';
import { asCallback, receiveCallbacks } from './testing/callbacks.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';

const HANDLE = { id: 'video_1', startedAt: 0 };
const FOX = { prompt: 'a fox' };
const MESSAGES = { messages: [{ role: 'user', content: 'hello fox' }] };

const vendor = {
  provider: lumenfall,
  simulator,
  needs: 'LUMENFALL_API_KEY',
  keyVariable: 'LUMENFALL_API_KEY',
  refused: (words: string) => ({ status: 400, body: { error: { message: words, code: 'INVALID_REQUEST' } } }),
};
const words = { fail: 'The provider failed.', refuse: 'The prompt violates the content policy of the provider.' };

const sent =
  (path: string, body: (run: Run) => object): Subject['sent'] =>
  (key, run) => ({
    method: 'POST',
    path: `/openai/v1${path}`,
    headers: { authorization: `Bearer ${key}`, accept: 'application/json' },
    body: body(run),
  });

const pictures: Subject = {
  ...vendor,
  title: 'lumenfall, pictures',
  model: 'fal/hidream-i1-fast',
  parameters: FOX,
  sent: sent('/images/generations', () => ({ model: 'fal/hidream-i1-fast', ...FOX })),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(`^${url}/files/`) },
        contentType: 'image/png',
        fileName: expect.stringMatching(/\.png$/),
        width: 1024,
        height: 1024,
      },
    ],
    usage: { usd: 0.01 },
  }),
  words,
  unknownModel: 'unknown-1',
};

const texts: Subject = {
  ...vendor,
  title: 'lumenfall, words',
  model: 'chat:google/gemini-3',
  parameters: MESSAGES,
  sent: sent('/chat/completions', () => ({ model: 'google/gemini-3', ...MESSAGES })),
  made: () => ({ media: [], text: 'You said: hello fox', usage: { inputTokens: 2, outputTokens: 4, usd: 0.0002 } }),
  words,
  unknownModel: 'chat:unknown-1',
};

const videos: Subject = {
  ...vendor,
  title: 'lumenfall, videos',
  model: 'video:kling-3',
  parameters: { ...FOX, seconds: '4' },
  sent: sent('/videos', ({ idempotencyKey }) => ({ model: 'kling-3', ...FOX, seconds: '4', idempotency_key: idempotencyKey })),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(`^${url}/files/video_`) },
        contentType: 'video/mp4',
        fileName: expect.stringMatching(/^video_\w+\.mp4$/),
        bytes: 70,
      },
    ],
    usage: { seconds: 4, usd: 0.5 },
  }),
  words: { ...words, fail: 'The video could not be made.' },
  unknownModel: 'video:unknown-1',
  polled: {
    accepted: (id, elsewhere) => ({ ...(id !== undefined && { id }), object: 'video', status: 'queued', url: elsewhere }),
    ended: (elsewhere) => [
      { body: { id: 'abc', status: 'in_progress', url: elsewhere } },
      { body: { id: 'abc', status: 'completed', output: { url: 'https://cdn.example/a.mp4' } } },
    ],
    told: (status) => ({ id: 'video_1', status }),
    handle: HANDLE,
    // The vendor's own client looks every three seconds.
    pace: { firstMs: 3000, mostMs: 5000 },
    cancellation: /^DELETE \/openai\/v1\/videos\/video_\w+$/,
    // By the job's key.
    runsOfTwo: 1,
  },
  callback: {
    isAskedFor: ({ body }, url) => typeof body === 'object' && body !== null && 'webhook_url' in body && body.webhook_url === url,
    // The id in it is of another kind than the video's, so it is only the reason to ask.
    calls: ['POST /openai/v1/videos', 'GET /v1/webhooks/secret', 'GET /openai/v1/videos/ID'],
    id: /video_\w+/,
    signature: {
      signed: { 'webhook-id': 'msg_other', 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')}` },
      timestamp: 'webhook-timestamp',
      keys: { path: '/v1/webhooks/secret', ofSomebody: { key: `whsec_${Buffer.alloc(24).toString('base64')}` } },
    },
  },
};

const NO_FILE = 'words are no file';
describeConformance(pictures);
describeConformance(texts, { 'at the simulator makes a real picture, whose link expires': NO_FILE });
describeConformance(videos, {
  'of another run, or before there is a handle, proves nothing':
    'an event names no run that could be matched (sheet, section 9), so a genuine one makes the adapter ask for the state of the run itself',
});

const bench = benchOf(pictures);
const answering = async (...answers: Parameters<Bench['against']>) => (await bench.against(...answers)).upstream;
const picture = (parameters: JsonObject = FOX, given: Partial<Run> = {}) => bench.testRun({ parameters, ...given });
const video = (given: Partial<Run> = {}) => benchOf(videos).run(given);

describe('pictures', () => {
  test('are asked for with parameters as they are, whatever is in them', async () => {
    const { vendor, upstream } = await bench.simulate();
    const parameters = { prompt: 'a fox', size: '1024x1024', speed_mode: 'Juiced 🔥 (more speed)' };
    await finish(upstream, picture(parameters).run);
    expect(vendor.requests[0]?.body).toEqual({ model: 'fal/hidream-i1-fast', ...parameters });
  });

  test('that were charged in another currency have no price in dollars', async () => {
    const metadata = { cost: 0.01, cost_currency: 'EUR' };
    const upstream = await answering({ body: { data: [{ url: 'https://cdn.example/a.png' }], metadata } });
    expect(await finish(upstream, picture().run)).not.toHaveProperty('usage');
  });

  test('that a client wants in base64 are stored and go no further', async () => {
    const { upstream } = await bench.simulate();
    const { run, files } = picture({ prompt: 'a fox', response_format: 'b64_json', n: 2 });
    const output = await finish(upstream, run);
    expect(files).toHaveLength(2);
    expect(JSON.stringify(output)).not.toContain('iVBOR');
  });

  test('ask for no callback, because the vendor has none for them', async () => {
    const { upstream, vendor } = await bench.simulate();
    await finish(upstream, picture({ prompt: 'a fox' }, { callbackUrl: 'https://here.example/cb' }).run);
    expect(vendor.requests[0]?.body).toEqual({ model: 'fal/hidream-i1-fast', prompt: 'a fox' });
  });

  test('that another process asks for again are paid for again, so the adapter does not call itself idempotent', async () => {
    const { upstream, vendor, environment } = await bench.simulate();
    await finish(upstream, picture().run);
    await finish(bench.open(environment), picture().run);
    expect(vendor.submitted).toBe(2);
    expect(upstream.isIdempotent).toBeFalsy();
  });
});

describe('videos', () => {
  test('tell progress where the vendor does', async () => {
    const upstream = await answering({ body: { status: 'in_progress', progress: 42 } }, { body: { status: 'in_progress' } });
    expect(await upstream.check(video(), HANDLE)).toMatchObject({ kind: 'running', progress: 0.42 });
    expect(await upstream.check(video(), HANDLE)).not.toHaveProperty('progress');
  });

  test.each([
    ['a status that is not documented', { status: 'daydreaming' }],
    ['an end without a link', { status: 'completed', output: null }],
    ['a link that is none', { status: 'completed', output: { url: 'file:///etc/passwd' } }],
  ])('with %s are looked at again', async (_case, body) => {
    const upstream = await answering({ body });
    expect(await upstream.check(video(), HANDLE)).toEqual({ kind: 'running', handle: HANDLE, checkAfterMs: 5000 });
  });

  test('whose submission was not answered are found by the next one', async () => {
    const { upstream, vendor } = await bench.simulate({ runMs: 0 });
    vendor.inject('truncated');
    await errorOf(upstream.start(video()));
    expect((await finish(upstream, video({ attempt: 2 }))).media).toHaveLength(1);
    expect(vendor.submitted).toBe(1);
  });

  test('that the vendor cancelled end the run', async () => {
    const upstream = await answering({ body: { status: 'cancelled' } });
    expect(await errorOf(upstream.check(video(), HANDLE))).toMatchObject({ name: 'TerminalError' });
  });
});

describe('errors', () => {
  const error = (message: string, code: string) => ({ error: { message, code } });

  test.each([
    [400, error('size is odd', 'INVALID_REQUEST'), 'TerminalError', 'invalid_input', 'size is odd'],
    [400, error('not this', 'CONTENT_POLICY_VIOLATION'), 'TerminalError', 'content_refused', 'not this'],
    [
      400,
      { error: { message: 'not this', code: 'content_policy_violation', error_code: 'CONTENT_POLICY_VIOLATION' } },
      'TerminalError',
      'content_refused',
      'not this',
    ],
    [
      401,
      error('who', 'AUTHENTICATION_FAILED'),
      'TerminalError',
      'provider_error',
      'The provider refused the key that this service has for it.',
    ],
    [402, error('no credit', 'INSUFFICIENT_BALANCE'), 'TerminalError', 'provider_error', 'The account at the provider has no credit left.'],
    [404, error('no such model', 'MODEL_NOT_FOUND'), 'TerminalError', 'provider_error', 'no such model'],
    [400, error('it broke', 'UPSTREAM_ERROR'), 'TerminalError', 'provider_error', 'it broke'],
    [404, error('switched off', 'MODEL_DISABLED'), 'TerminalError', 'provider_error', 'switched off'],
    [429, error('slow down', 'RATE_LIMITED'), 'RetryableError', 'provider_error', 'The provider has too much to do.'],
    [500, error('oops', 'INTERNAL_ERROR'), 'RetryableError', 'provider_error', 'The provider failed with status 500.'],
    [502, error('all of them', 'ALL_PROVIDERS_EXHAUSTED'), 'RetryableError', 'provider_error', 'The provider failed with status 502.'],
    [200, error('in a good answer', 'UPSTREAM_ERROR'), 'TerminalError', 'provider_error', 'in a good answer'],
  ])('%i with %j is a %s', async (status, body, name, code, message) => {
    const upstream = await answering({ status, body });
    const thrown = await errorOf(upstream.start(picture().run));
    expect(thrown).toMatchObject({ name, code, message });
    if (name === 'TerminalError') expect(thrown).toHaveProperty('isProvidersOnly', [401, 402, 404].includes(status));
  });

  test('502 in the words of the vendor started nothing; 502 of anything else may have', async () => {
    const own = await answering({ status: 502, body: error('all of them', 'ALL_PROVIDERS_EXHAUSTED') });
    expect(await errorOf(own.start(picture().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
    const proxy = await answering({ status: 502, body: 'Bad gateway' });
    expect(await errorOf(proxy.start(picture().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('an error that is null beside a good result is none', async () => {
    const upstream = await answering({ body: { error: null, data: [{ url: 'https://cdn.example/a.png' }] } });
    expect((await finish(upstream, picture().run)).media).toHaveLength(1);
  });

  test.each([
    ['unknown-1', 'provider_error'],
    ['broke-1', 'provider_error'],
  ])('the model %s ends the run before anything is paid for', async (model, code) => {
    const { upstream, vendor } = await bench.simulate();
    expect(await errorOf(upstream.start(picture({ prompt: 'a' }, { model }).run))).toMatchObject({ name: 'TerminalError', code });
    expect(vendor.submitted).toBe(0);
  });
});

describe('a callback', () => {
  async function arrived() {
    const simulation = await bench.simulate({ runMs: 0 });
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    const run = video({ callbackUrl: receiver.url });
    const handle = handleOf(await simulation.upstream.start(run));
    return { ...simulation, run, handle, callback: await receiver.arrival(1) };
  }

  test('that comes before there is a handle proves nothing, and costs no call', async () => {
    const { upstream, vendor, run, callback } = await arrived();
    const before = vendor.requests.length;
    expect(await upstream.receive?.(run, asCallback(callback, undefined))).toBeUndefined();
    expect(vendor.requests).toHaveLength(before);
  });

  test('whose signature is one of several is genuine', async () => {
    const { upstream, run, handle, callback } = await arrived();
    const changed = { 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')} ${callback.headers['webhook-signature']}` };
    expect(await upstream.receive?.(run, asCallback(callback, handle, changed))).toMatchObject({ kind: 'finished' });
  });

  test('that is genuine but comes before the vendor itself tells of the end changes nothing', async () => {
    const { upstream, vendor, run, handle, callback } = await arrived();
    expect(await upstream.receive?.(run, asCallback(callback, handle))).toMatchObject({ kind: 'finished' });
    vendor.inject('backwards');
    expect(await upstream.receive?.(run, asCallback(callback, handle))).toBeUndefined();
  });

  test('to an address that the vendor refuses is not asked for, and looking is at its pace', async () => {
    const { upstream, vendor } = await bench.simulate({ runMs: FOREVER_MS });
    const step = await upstream.start(video({ callbackUrl: 'http://here.example/cb' }));
    expect(step).toMatchObject({ checkAfterMs: 3000 });
    expect(vendor.requests[0]?.body).not.toHaveProperty('webhook_url');
  });

  test('is not sent where a client wants it', async () => {
    const { upstream, vendor } = await bench.simulate({ runMs: FOREVER_MS });
    await upstream.start(video({ parameters: { prompt: 'a', webhook_url: 'https://client.example/' } }));
    expect(vendor.requests[0]?.body).not.toHaveProperty('webhook_url');
  });

  test.each([
    ['https://here.example/cb', true],
    ['https://here.example:8443/cb', true],
    ['http://here.example/cb', false],
    ['https://here.example:9000/cb', false],
    ['https://203.0.113.9/cb', false],
    ['https://[2001:db8::1]/cb', false],
    ['https://localhost/cb', false],
    ['https://internal/cb', false],
    ['http://127.0.0.1:9/cb', false],
    ['no address', false],
  ])('to %s is taken by the vendor itself: %s', (callbackUrl, isTaken) => {
    expect(takesCallback('https://api.lumenfall.ai/openai/v1', callbackUrl)).toBe(isTaken);
  });
});

describe('the simulator', () => {
  test('speaks under both prefixes, and quotes a price without running anything', async () => {
    const { vendor, environment } = await bench.simulate();
    const post = (path: string) =>
      fetch(`${vendor.url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${environment.LUMENFALL_API_KEY}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'fal/m', prompt: 'a' }),
      }).then((answer) => answer.json());
    expect(await post('/v1/images/generations?dryRun=true')).toMatchObject({ estimated: true, provider: 'fal', total_cost_micros: 10_000 });
    expect(vendor.submitted).toBe(0);
    expect(await post('/v1/images/generations')).toMatchObject({ metadata: { executed_model: 'fal/m' } });
  });
});

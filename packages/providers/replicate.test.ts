import { createHmac } from 'node:crypto';
import type { JsonObject, JsonValue } from '@claimcheck/core';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { openProviders } from './index.ts';
import replicate from './replicate.ts';
import simulator from './simulators/replicate.ts';
import { benchOf, callsOf, errorOf, handleOf, type ScriptedAnswer } from './testing/bench.ts';
import { asCallback, receiveCallbacks } from './testing/callbacks.ts';
import { describeConformance } from './testing/conformance.ts';
import { finish } from './testing/run.ts';
import type { Subject } from './testing/subject.ts';

const MODEL = 'acme/painter';
const VERSION = 'b'.repeat(64);
const FOX = { prompt: 'a fox', seed: -1 };
const HANDLE = { id: 'p1', startedAt: 0 };

const subject: Subject = {
  provider: replicate,
  simulator,
  model: MODEL,
  parameters: FOX,
  needs: 'REPLICATE_API_TOKEN',
  keyVariable: 'REPLICATE_API_TOKEN',
  // Nothing but the input: a blocking creation leaves open whether its output is whole.
  sent: (key) => ({
    method: 'POST',
    path: '/v1/models/acme/painter/predictions',
    headers: { authorization: `Bearer ${key}` },
    body: { input: FOX },
  }),
  made: (url) => ({
    media: [
      {
        location: { url: expect.stringMatching(new RegExp(`^${url}/files/.*/out\\.png$`)) },
        contentType: 'image/png',
        fileName: 'out.png',
      },
    ],
    // Of the logs, as a random one was asked for.
    seed: 7,
    timings: { predict_time: expect.any(Number), total_time: expect.any(Number) },
    usage: { seconds: expect.any(Number) },
  }),
  words: {
    fail: 'CUDA error: an illegal memory access was encountered',
    refuse: 'NSFW content detected. Try running it again, or try a different prompt.',
  },
  refused: (words) => ({ status: 422, body: { detail: words, status: 422 } }),
  unknownModel: 'unknown/model',
  polled: {
    accepted: (id, elsewhere) => ({
      ...(id !== undefined && { id }),
      status: 'starting',
      urls: { get: `${elsewhere}/get`, cancel: `${elsewhere}/cancel` },
    }),
    ended: (elsewhere) => [
      { body: { id: 'abc', status: 'processing', urls: { get: elsewhere } } },
      { body: { id: 'abc', status: 'succeeded', output: 'https://replicate.delivery/a.png', urls: { get: elsewhere } } },
    ],
    told: (status) => ({ id: 'p1', status, output: 'https://replicate.delivery/a.png' }),
    handle: HANDLE,
    // The vendor's client polls every half second.
    pace: { firstMs: 500, mostMs: 5000 },
    cancellation: /^POST \/v1\/predictions\/\w+\/cancel$/,
  },
  callback: {
    isAskedFor: ({ body }, webhook) =>
      JSON.stringify(body) === JSON.stringify({ input: FOX, webhook, webhook_events_filter: ['completed'] }),
    calls: ['POST /v1/models/acme/painter/predictions', 'GET /v1/webhooks/default/secret'],
    id: /[0-9a-f]{26}/,
    signature: {
      signed: { 'webhook-id': 'msg_x', 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')}` },
      timestamp: 'webhook-timestamp',
      keys: { path: '/v1/webhooks/default/secret', ofSomebody: { key: `whsec_${Buffer.alloc(24).toString('base64')}` } },
    },
  },
};

describeConformance(subject);

const bench = benchOf(subject);
const fox = (model = MODEL) => bench.run({ model });

/** Looks at a prediction with these members. */
async function checkOf(prediction: JsonObject) {
  const { upstream } = await bench.against({ body: { id: 'p1', ...prediction } });
  return upstream.check(fox(), HANDLE);
}

async function create(answer: ScriptedAnswer, model = MODEL) {
  return (await bench.against(answer)).upstream.start(fox(model));
}

describe('a prediction', () => {
  test.each([`acme/painter:${VERSION}`, VERSION])('of %s is created by its version', async (model) => {
    const { vendor, upstream } = await bench.simulate();
    await upstream.start(fox(model));
    expect(callsOf(vendor, /[0-9a-f]{26}/)).toEqual(['POST /v1/predictions']);
    expect(vendor.requests[0]?.body).toEqual({ version: VERSION, input: FOX });
  });

  test('of a community model without a version is created by its newest one', async () => {
    const { vendor, upstream } = await bench.simulate();
    expect((await finish(upstream, fox('prunaai/hidream-l1-fast'))).media).toHaveLength(1);
    expect(callsOf(vendor, /[0-9a-f]{26}/).slice(0, 3)).toEqual([
      'POST /v1/models/prunaai/hidream-l1-fast/predictions',
      'GET /v1/models/prunaai/hidream-l1-fast',
      'POST /v1/predictions',
    ]);
    expect(vendor.requests[2]?.body).toEqual({ version: 'a25bf35c'.repeat(8), input: FOX });
    expect(vendor.submitted).toBe(1);
  });

  test('is never asked to be held until its end', async () => {
    const { vendor, upstream } = await bench.simulate();
    await upstream.start(fox());
    expect(vendor.requests[0]?.headers).not.toHaveProperty('prefer');
  });

  test('tells its progress as the last bar in its logs shows it', async () => {
    expect(await checkOf({ status: 'processing', logs: ' 4%|#| 1/25\n 100%|#| 25/25\n 48%|#   | 12/25' })).toMatchObject({
      progress: 0.48,
    });
    expect(await checkOf({ status: 'processing', logs: '100%|####| 25/25' })).toMatchObject({ progress: 0.99 });
    expect(await checkOf({ status: 'starting', logs: '' })).not.toHaveProperty('progress');
  });

  test('tells what it has printed, by lines that have ended, and words as far as they have come', async () => {
    const logs = 'Using seed: 3\n 50%|## | 1/2\r100%|####| 2/2\nSaving';
    expect(await checkOf({ status: 'processing', logs, output: ['Once', ' upon'] })).toMatchObject({
      kind: 'running',
      logs: ['Using seed: 3', '100%|####| 2/2'],
      partialText: 'Once upon',
    });
    const files = await checkOf({ status: 'processing', logs: '', output: ['https://replicate.delivery/a.png'] });
    expect(files).not.toHaveProperty('partialText');
    expect(files).not.toHaveProperty('logs');
  });

  test('tells all that it has printed when it ends, well or not', async () => {
    const logs = 'loading\ndone';
    expect(await checkOf({ status: 'succeeded', output: ['Once'], logs })).toMatchObject({ kind: 'finished', logs: ['loading', 'done'] });
    await expect(checkOf({ status: 'failed', error: 'It broke', logs })).rejects.toMatchObject({ logs: ['loading', 'done'] });
  });

  test('that has ended by the time it is created gives its handle first', async () => {
    const done = await create({ status: 201, body: { id: 'p1', status: 'succeeded', output: 'https://replicate.delivery/a.png' } });
    expect(done).toMatchObject({ kind: 'running', handle: { id: 'p1' } });
  });

  test('with output goes on until its end, as that may not be all', async () => {
    expect(await checkOf({ status: 'processing', output: ['https://replicate.delivery/a.png'] })).toMatchObject({ kind: 'running' });
  });
});

describe('outputs', () => {
  const ended = (output: JsonValue, more: JsonObject = {}) => checkOf({ status: 'succeeded', output, ...more });

  test('are one address or a list of them', async () => {
    const links = ['https://replicate.delivery/a.webp', 'https://replicate.delivery/b.mp4'];
    expect(await ended(links)).toMatchObject({ output: { media: [{ contentType: 'image/webp' }, { contentType: 'video/mp4' }] } });
  });
  test('of language models are pieces of one text', async () => {
    expect(await ended(['Once', ' upon', ' a time'])).toMatchObject({ output: { media: [], text: 'Once upon a time' } });
  });
  test('with what else is measured have their tokens and their length, which is charged instead of the time', async () => {
    const metrics = {
      predict_time: 2.5,
      total_time: 3,
      time_to_first_token: 0.2,
      tokens_per_second: 90,
      token_input_count: 7,
      token_output_count: 30,
    };
    expect(await ended(['Hi'], { metrics })).toMatchObject({
      output: {
        text: 'Hi',
        timings: { predict_time: 2.5, total_time: 3, time_to_first_token: 0.2 },
        usage: { inputTokens: 7, outputTokens: 30, seconds: 2.5 },
      },
    });
    const video = await ended('https://replicate.delivery/a.mp4', { metrics: { predict_time: 90, video_output_duration_seconds: 5 } });
    expect(video).toMatchObject({ output: { usage: { seconds: 5 } } });
    expect(video).not.toHaveProperty('output.json');
    expect(await ended('https://replicate.delivery/a.png', { metrics: { predict_time: 'soon' } })).not.toHaveProperty('output.timings');
  });
  test('may be any JSON', async () => {
    expect(await ended({ score: 0.5 })).toMatchObject({ output: { media: [], json: { score: 0.5 } } });
  });
  test('with data URIs have their files stored, and pass none of them on', async () => {
    const body = { id: 'p1', status: 'succeeded', output: ['data:image/png;base64,iVBORw0KGgo='] };
    const { upstream } = await bench.against({ body });
    const { run, files } = bench.testRun();
    const step = await upstream.check(run, HANDLE);
    expect(step).toMatchObject({ output: { media: [{ location: { asset: 'file-1' }, contentType: 'image/png' }] } });
    expect(files).toHaveLength(1);
    expect(JSON.stringify(step)).not.toContain('base64');
  });
  test('name the seed that was asked for where the logs name none', async () => {
    expect(await ended('https://replicate.delivery/a.png', { input: { seed: 5 } })).toMatchObject({ output: { seed: 5 } });
    expect(await ended('https://replicate.delivery/a.png', { input: { seed: -1 } })).not.toHaveProperty('output.seed');
  });
  test('that the vendor has removed, or that never were, are a failure', async () => {
    expect(await errorOf(ended(null, { data_removed: true }))).toMatchObject({
      name: 'TerminalError',
      message: 'The provider no longer has the result.',
    });
    expect(await errorOf(ended(null))).toMatchObject({ message: 'The provider finished without a result.' });
  });
});

describe('a prediction that failed', () => {
  test.each([
    ['NSFW content detected. Try running it again, or try a different prompt.', 'content_refused'],
    ['The input or output was flagged as sensitive. Please try again with different inputs. (E005)', 'content_refused'],
    ['list index out of range', 'provider_error'],
    ['Out of memory (E1001)', 'provider_error'],
    ['Webhook (E4875)', 'provider_error'],
  ] as const)('with "%s" is not tried again', async (error, code) => {
    expect(await errorOf(checkOf({ status: 'failed', error }))).toMatchObject({ name: 'TerminalError', code, message: error });
  });

  test.each(['Unknown error (E1000)', 'E6716: the start timed out'])('with "%s" is tried again', async (error) => {
    expect(await errorOf(checkOf({ status: 'failed', error }))).toMatchObject({ name: 'RetryableError' });
  });

  test('because its time was over before it began is not tried again', async () => {
    expect(await errorOf(checkOf({ status: 'aborted', error: null }))).toMatchObject({ name: 'TerminalError' });
  });

  test('is told in 300 characters, without the key', async () => {
    const token = simulator.environment('').REPLICATE_API_TOKEN ?? '';
    const error = await errorOf(checkOf({ status: 'failed', error: `${token} ${'x'.repeat(1000)}` }));
    expect(error.message).toMatch(/^… x{200,}…$/);
    expect(error.message.length).toBeLessThanOrEqual(300);
  });
});

describe('a creation', () => {
  test('that is too much at once is tried again when the body says, where the header does not', async () => {
    const body = { detail: 'Request was throttled.', status: 429, retry_after: 9 };
    expect(await errorOf(create({ status: 429, body }))).toMatchObject({ name: 'RetryableError', retryAfterMs: 9000 });
  });

  test.each([
    [400, 'invalid_input'],
    [413, 'invalid_input'],
    [422, 'invalid_input'],
    [418, 'provider_error'],
  ] as const)('that is answered with %d is not tried again, here or elsewhere', async (status, code) => {
    const error = await errorOf(create({ status, body: { detail: 'It is wrong', status } }));
    expect(error).toMatchObject({ name: 'TerminalError', code, isProvidersOnly: false });
  });

  test.each([
    [401, { detail: 'Unauthenticated' }],
    [402, { detail: 'You have insufficient credit' }],
    [403, { detail: 'No' }],
    [422, { title: 'Invalid version or not permitted', detail: 'The specified version does not exist' }],
  ])('that is answered with %d %j may be served by another provider', async (status, body) => {
    const error = await errorOf(create({ status, body }, `acme/painter:${VERSION}`));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
  });

  test.each([
    [408, true],
    [409, false],
    [425, false],
  ])('that is answered with %d is tried again, and may have started: %s', async (status, mayHaveStarted) => {
    expect(await errorOf(create({ status, body: { detail: 'later' } }))).toMatchObject({ name: 'RetryableError', mayHaveStarted });
  });

  test('with an input whose fields are wrong says which, also where one is named like a version', async () => {
    const fields = [{ type: 'enum', field: 'input.version', description: 'version must be 1 or 2' }];
    const body = { title: 'Input validation failed', detail: '- input.version: 1 or 2', invalid_fields: fields };
    expect(await errorOf(create({ status: 422, body }))).toMatchObject({ code: 'invalid_input', isProvidersOnly: false });
    const { upstream } = await bench.simulate();
    expect(await errorOf(upstream.start(bench.run({ parameters: {} })))).toMatchObject({
      code: 'invalid_input',
      message: 'input.prompt: prompt is required',
    });
  });

  test('by a version that is gone may be served by another provider', async () => {
    const { vendor, upstream } = await bench.simulate();
    expect(await errorOf(upstream.start(fox('acme/painter:old')))).toMatchObject({ name: 'TerminalError', isProvidersOnly: true });
    expect(vendor.submitted).toBe(0);
  });
});

describe('a callback', () => {
  test('of a prediction that goes on says nothing new', async () => {
    const { vendor, upstream } = await bench.simulate();
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    const run = bench.run({ callbackUrl: receiver.url });
    const handle = handleOf(await upstream.start(run));
    // The callback is made of the next look at the prediction, which makes it one that has just begun.
    vendor.inject('backwards');
    const came = await receiver.arrival(1);
    expect(JSON.parse(came.body.toString())).toMatchObject({ status: 'starting' });
    expect(await upstream.receive?.(run, asCallback(came, handle))).toBeUndefined();
  });

  test('is asked for while words are written, and each tells what has come', async () => {
    const secret = Buffer.alloc(24, 7);
    const { upstream, requests } = await bench.against(
      { status: 201, body: { id: 'p1', status: 'starting' } },
      { body: { key: `whsec_${secret.toString('base64')}` } },
    );
    const run = bench.run({ produces: 'text', callbackUrl: 'https://queue.example/hook' });
    const handle = handleOf(await upstream.start(run));
    expect(requests[0]?.body).toMatchObject({ webhook_events_filter: ['output', 'logs', 'completed'] });

    const receive = (prediction: JsonObject) => {
      const body = Buffer.from(JSON.stringify({ id: 'p1', ...prediction }));
      const sentAt = String(Math.round(run.clock.now() / 1000));
      const signature = createHmac('sha256', secret).update(`msg_1.${sentAt}.`).update(body).digest('base64');
      const headers = { 'webhook-id': 'msg_1', 'webhook-timestamp': sentAt, 'webhook-signature': `v1,${signature}` };
      return upstream.receive?.(run, asCallback({ headers, body }, handle));
    };
    expect(await receive({ status: 'processing', logs: 'loading\n', output: ['Once', ' upon'] })).toMatchObject({
      kind: 'running',
      handle,
      logs: ['loading'],
      partialText: 'Once upon',
    });
    expect(await receive({ status: 'succeeded', logs: 'loading\ndone', output: ['Once', ' upon'] })).toMatchObject({
      kind: 'finished',
      logs: ['loading', 'done'],
    });
  });

  test('over plain HTTP is not asked for at the vendor itself, which would refuse the prediction', async () => {
    // An HTTPS server that this process trusts cannot be had on loopback, so what would be sent is looked at where it leaves.
    const sent = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => Response.json({ id: 'p1' }, { status: 201 }));
    onTestFinished(() => sent.mockRestore());
    const vendor = openProviders([replicate], { REPLICATE_API_TOKEN: 'r8_any' }).upstreams.get('replicate');
    const startWith = (callbackUrl: string) => vendor?.start(bench.run({ callbackUrl }));
    expect(await startWith('http://queue.example/hook')).toMatchObject({ checkAfterMs: 500 });
    expect(await startWith('https://queue.example/hook')).toMatchObject({ checkAfterMs: 30_000 });
    const [plain, secure] = sent.mock.calls.map(([url, options]) => [url, JSON.parse(String(options?.body)).webhook]);
    expect(plain).toEqual(['https://api.replicate.com/v1/models/acme/painter/predictions', undefined]);
    expect(secure?.[1]).toBe('https://queue.example/hook');
  });
});

test('the simulator takes no request without the token, and says so as a problem', async () => {
  const { vendor } = await bench.simulate();
  const answer = await fetch(`${vendor.url}/v1/predictions/x`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([401, 'application/problem+json']);
  expect(await answer.json()).toMatchObject({ title: 'Unauthenticated', status: 401 });
});

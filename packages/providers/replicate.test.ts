import { createServer } from 'node:http';
import { type JsonObject, type JsonValue, RetryableError, type Step, systemClock, TerminalError, type Upstream } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openProviders } from './index.ts';
import replicate from './replicate.ts';
import simulator from './simulators/replicate.ts';
import type { Fault, Simulated } from './simulators/simulator.ts';
import { asCallback, type CallbackReceiver, receiveCallbacks } from './testing/callbacks.ts';
import { aRun, finish } from './testing/run.ts';

const MODEL = 'acme/painter';
const VERSION = 'b'.repeat(64);
const FOX = { prompt: 'a fox', seed: 3 };
const TOKEN = simulator.environment('').REPLICATE_API_TOKEN ?? '';

let server: Simulated;
let upstream: Upstream;

beforeEach(async () => {
  server = await simulator.start({ port: 0, runMs: 20 });
  upstream = open(simulator.environment(server.url));
});
afterEach(() => server[Symbol.asyncDispose]());

function open(environment: Readonly<Record<string, string>>): Upstream {
  return openProviders([replicate], environment).upstreams.get('replicate') ?? expect.unreachable('replicate has its key');
}

/** Another simulator than that of every test, whose predictions do not end by themselves. */
async function startEndless() {
  const endless = await simulator.start({ port: 0, runMs: 3_600_000 });
  onTestFinished(() => endless[Symbol.asyncDispose]());
  return { server: endless, upstream: open(simulator.environment(endless.url)) };
}

/** What the vendor might answer besides what the simulator does: the same to every request. */
async function answering(status: number, body: JsonValue | string, headers: Record<string, string> = {}) {
  const stub = createServer((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => stub.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void stub.close().closeAllConnections());
  const address = stub.address();
  const port = typeof address === 'object' ? address?.port : 0;
  return open({ REPLICATE_API_TOKEN: TOKEN, REPLICATE_BASE_URL: `http://127.0.0.1:${port}/v1/` });
}

const HANDLE = { id: 'p1', startedAt: 0 };

/** Looks at a prediction with these members. */
async function checkOf(prediction: JsonObject) {
  return (await answering(200, { id: 'p1', ...prediction })).check(fox().run, HANDLE);
}

const fox = (given: JsonObject = {}, model = MODEL) => aRun({ ...FOX, ...given }, { model });

const failure = (promise: Promise<unknown> | undefined) =>
  Promise.resolve(promise).then(
    (value) => expect.unreachable(`it did not fail, but: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );

function handleOf(step: Step): JsonValue {
  return step.kind === 'running' ? step.handle : expect.unreachable('the run has only begun');
}

const paths = (of: Simulated) => of.requests.map(({ method, path }) => `${method} ${path.replace(/[0-9a-f]{26}/, 'ID')}`);

describe('without its key', () => {
  test('the provider is off, and says what is missing', () => {
    expect(openProviders([replicate], {}).off.get('replicate')).toBe('REPLICATE_API_TOKEN is not set');
  });
});

describe('a prediction', () => {
  test('of an official model is created by its name, with the key and nothing but the input', async () => {
    await upstream.start(fox().run);
    expect(server.requests).toHaveLength(1);
    expect(server.requests[0]).toMatchObject({
      method: 'POST',
      path: '/v1/models/acme/painter/predictions',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    });
    expect(server.requests[0]?.body).toEqual({ input: FOX });
    expect(server.requests[0]?.headers).not.toHaveProperty('prefer');
  });

  test.each([`acme/painter:${VERSION}`, VERSION])('of %s is created by its version', async (model) => {
    await upstream.start(fox({}, model).run);
    expect(paths(server)).toEqual(['POST /v1/predictions']);
    expect(server.requests[0]?.body).toEqual({ version: VERSION, input: FOX });
  });

  test('of a community model without a version is created by its newest one', async () => {
    expect((await finish(upstream, fox({}, 'prunaai/hidream-l1-fast').run)).media).toHaveLength(1);
    expect(paths(server).slice(0, 3)).toEqual([
      'POST /v1/models/prunaai/hidream-l1-fast/predictions',
      'GET /v1/models/prunaai/hidream-l1-fast',
      'POST /v1/predictions',
    ]);
    expect(server.requests[2]?.body).toEqual({ version: 'a25bf35c'.repeat(8), input: FOX });
    expect(server.submitted).toBe(1);
  });

  test('ends with a link to its file, the seed of its logs and its metrics', async () => {
    expect(await finish(upstream, fox({ seed: -1 }).run)).toEqual({
      media: [{ location: { url: expect.stringMatching(/\/files\/.*\/out\.png$/) }, contentType: 'image/png', fileName: 'out.png' }],
      timings: { predict_time: 0.01, total_time: 0.02 },
      usage: { seconds: 0.01 },
      seed: 7,
    });
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

  test('is looked at every half second at first, later every five seconds at most', async () => {
    const { upstream: endless } = await startEndless();
    const step = await endless.start(fox().run);
    expect(step).toMatchObject({ kind: 'running', checkAfterMs: 500 });
    const hourLater = { ...systemClock, now: () => systemClock.now() + 3_600_000 };
    expect(await endless.check(aRun(FOX, { clock: hourLater }).run, handleOf(step))).toMatchObject({ checkAfterMs: 5000 });
  });

  test('is resumed by its handle from another process, and was created once', async () => {
    const handle: JsonValue = JSON.parse(JSON.stringify(handleOf(await upstream.start(fox().run))));
    const other = open(simulator.environment(server.url));
    let step = await other.check(fox().run, handle);
    while (step.kind === 'running') step = await other.check(fox().run, step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(server.submitted).toBe(1);
  });

  test('that has ended by the time it is created gives its handle first', async () => {
    const done = await answering(201, { id: 'p1', status: 'succeeded', output: 'https://replicate.delivery/a.png' });
    expect(await done.start(fox().run)).toMatchObject({ kind: 'running', handle: { id: 'p1' } });
  });

  test('is cancelled at the vendor, which is harmless once it has ended or is gone', async () => {
    const { server: endless, upstream: other } = await startEndless();
    const { run } = fox();
    const handle = handleOf(await other.start(run));
    await other.cancel?.(run, handle);
    await other.cancel?.(run, handle);
    await other.cancel?.(run, HANDLE);
    expect(endless.requests[1]).toMatchObject({
      method: 'POST',
      path: expect.stringMatching(/^\/v1\/predictions\/\w+\/cancel$/),
      body: '',
    });
    expect(await failure(other.check(run, handle))).toMatchObject({
      name: 'TerminalError',
      message: 'The run was cancelled at the provider.',
    });
  });

  test('of a made-up handle is an error of ours', async () => {
    expect(await failure(upstream.check(fox().run, 'x'))).toMatchObject({ name: 'TerminalError', code: 'internal' });
  });

  test('is asked for at the configured host only, whatever addresses an answer names', async () => {
    const { server: endless, upstream: other } = await startEndless();
    const through = createServer(async (request, response) => {
      const answer = await fetch(`${endless.url}${request.url}`, {
        method: request.method ?? 'GET',
        headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
        ...(request.method === 'POST' && { body: JSON.stringify({ input: FOX }) }),
      });
      const body = { ...Object(await answer.json()), urls: { get: `${server.url}/stolen`, cancel: `${server.url}/stolen` } };
      response.writeHead(answer.status).end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => through.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void through.close().closeAllConnections());
    const address = through.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const proxied = open({ REPLICATE_API_TOKEN: TOKEN, REPLICATE_BASE_URL: `http://127.0.0.1:${port}/v1` });
    const handle = handleOf(await proxied.start(fox().run));
    expect(await proxied.check(fox().run, handle)).toMatchObject({ kind: 'running' });
    await other.cancel?.(fox().run, handle);
    expect(server.requests).toEqual([]);
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
    const stub = await answering(200, { id: 'p1', status: 'succeeded', output: ['data:image/png;base64,iVBORw0KGgo='] });
    const { run, files } = fox();
    const step = await stub.check(run, HANDLE);
    expect(step).toMatchObject({ output: { media: [{ location: { asset: 'file-1' }, contentType: 'image/png' }] } });
    expect(files).toHaveLength(1);
    expect(JSON.stringify(step)).not.toContain('base64');
  });
  test('name the seed that was asked for where the logs name none', async () => {
    expect(await ended('https://replicate.delivery/a.png', { input: { seed: 5 } })).toMatchObject({ output: { seed: 5 } });
    expect(await ended('https://replicate.delivery/a.png', { input: { seed: -1 } })).not.toHaveProperty('output.seed');
  });
  test('that the vendor has removed, or that never were, are a failure', async () => {
    expect(await failure(ended(null, { data_removed: true }))).toMatchObject({
      name: 'TerminalError',
      message: 'The provider no longer has the result.',
    });
    expect(await failure(ended(null))).toMatchObject({ message: 'The provider finished without a result.' });
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
    expect(await failure(checkOf({ status: 'failed', error }))).toMatchObject({ name: 'TerminalError', code, message: error });
  });

  test.each(['Unknown error (E1000)', 'E6716: the start timed out'])('with "%s" is tried again', async (error) => {
    expect(await failure(checkOf({ status: 'failed', error }))).toBeInstanceOf(RetryableError);
  });

  test('because its time was over before it began is not tried again', async () => {
    expect(await failure(checkOf({ status: 'aborted', error: null }))).toBeInstanceOf(TerminalError);
  });

  test('is told in 300 characters, without the key', async () => {
    const error = await failure(checkOf({ status: 'failed', error: `${TOKEN} ${'x'.repeat(1000)}` }));
    expect(error).toMatchObject({ message: expect.stringMatching(/^… x{200,}…$/) });
    expect(String(error).length).toBeLessThan(350);
  });

  test.each([
    ['fail', 'provider_error'],
    ['refuse', 'content_refused'],
  ] as const)('at the simulator by "%s" ends with %s', async (fault, code) => {
    server.inject(fault);
    expect(await failure(finish(upstream, fox().run))).toMatchObject({ name: 'TerminalError', code });
  });
});

describe('a creation', () => {
  test('that is too much at once is tried again when the header says, or the body', async () => {
    server.inject('429');
    expect(await failure(upstream.start(fox().run))).toMatchObject({ name: 'RetryableError', retryAfterMs: 1000, mayHaveStarted: false });
    const wordy = await answering(429, { detail: 'Request was throttled.', status: 429, retry_after: 9 });
    expect(await failure(wordy.start(fox().run))).toMatchObject({ retryAfterMs: 9000 });
  });

  test.each([
    ['500', 'RetryableError', false],
    ['html', 'RetryableError', true],
    ['truncated', 'RetryableError', true],
  ] as const)('that is answered with "%s" is a %s, and may have started: %s', async (fault, name, mayHaveStarted) => {
    server.inject(fault);
    expect(await failure(upstream.start(fox().run))).toMatchObject({ name, mayHaveStarted });
  });

  test('with parameters that are wrong says which', async () => {
    expect(await failure(upstream.start(aRun({}, { model: MODEL }).run))).toMatchObject({
      name: 'TerminalError',
      code: 'invalid_input',
      message: 'input.prompt: prompt is required',
    });
  });

  test.each([
    [400, 'invalid_input'],
    [413, 'invalid_input'],
    [422, 'invalid_input'],
    [418, 'provider_error'],
  ] as const)('that is answered with %d is not tried again, here or elsewhere', async (status, code) => {
    const stub = await answering(status, { detail: 'It is wrong', status });
    expect(await failure(stub.start(fox().run))).toMatchObject({ name: 'TerminalError', code, isProvidersOnly: false });
  });

  test.each([
    [401, { detail: 'Unauthenticated' }],
    [402, { detail: 'You have insufficient credit' }],
    [403, { detail: 'No' }],
    [302, {}],
    [422, { title: 'Invalid version or not permitted', detail: 'The specified version does not exist' }],
  ])('that is answered with %d %j may be served by another provider', async (status, body) => {
    const stub = await answering(status, body);
    const { run } = fox({}, `acme/painter:${VERSION}`);
    expect(await failure(stub.start(run))).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
  });

  test('with an input whose fields are wrong is the fault of the input, also where one is named like a version', async () => {
    const fields = [{ type: 'enum', field: 'input.version', description: 'version must be 1 or 2' }];
    const stub = await answering(422, { title: 'Input validation failed', detail: '- input.version: 1 or 2', invalid_fields: fields });
    expect(await failure(stub.start(fox().run))).toMatchObject({ code: 'invalid_input', isProvidersOnly: false });
  });

  test.each([
    [502, true],
    [503, false],
    [504, true],
  ])('that is answered with %d is tried again, and may have started: %s', async (status, mayHaveStarted) => {
    const stub = await answering(status, '<html>');
    expect(await failure(stub.start(fox().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted });
  });

  test('of an unknown model is not tried again, by name and by version', async () => {
    for (const model of ['unknown/model', 'acme/painter:old']) {
      expect(await failure(upstream.start(fox({}, model).run)), model).toMatchObject({
        name: 'TerminalError',
        message: expect.stringMatching(/^The provider does not know the model/),
        isProvidersOnly: true,
      });
    }
    expect(server.submitted).toBe(0);
  });

  test('with another key is refused, and neither key is in the error', async () => {
    const other = open({ ...simulator.environment(server.url), REPLICATE_API_TOKEN: 'r8_wrong0123456789' });
    const error = await failure(other.start(fox().run));
    expect(error).toBeInstanceOf(TerminalError);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toMatch(/r8_/);
  });

  test('without an id that can be asked for may have started', async () => {
    const stub = await answering(201, { id: '../account', status: 'starting' });
    expect(await failure(stub.start(fox().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('ends with the reason of its signal', async () => {
    const reason = new Error('the worker stops');
    expect(await failure(upstream.start(aRun(FOX, { model: MODEL, signal: AbortSignal.abort(reason) }).run))).toBe(reason);
  });
});

describe('a look that fails leaves the prediction as it is', () => {
  test.each(['429', '500', 'html', 'truncated', 'backwards', 'slow'] satisfies Fault[])('%s', async (fault) => {
    const handle = handleOf(await upstream.start(fox().run));
    server.inject(fault);
    let step = await upstream.check(fox().run, handle);
    while (step.kind === 'running') step = await upstream.check(fox().run, step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(server.submitted).toBe(1);
  });

  test('and waits for as long as the vendor says', async () => {
    const handle = handleOf(await upstream.start(fox().run));
    server.inject('429');
    expect(await upstream.check(fox().run, handle)).toMatchObject({ kind: 'running', handle, checkAfterMs: 1000 });
  });

  test('also when the status is one that nobody knows', async () => {
    expect(await checkOf({ status: 'dreaming', output: 'https://replicate.delivery/a.png' })).toMatchObject({
      kind: 'running',
      handle: HANDLE,
    });
  });

  test('also when there is output already, as that may not be all', async () => {
    expect(await checkOf({ status: 'processing', output: ['https://replicate.delivery/a.png'] })).toMatchObject({ kind: 'running' });
  });

  test('but one that the vendor does not know is over', async () => {
    expect(await failure(upstream.check(fox().run, HANDLE))).toMatchObject({
      name: 'TerminalError',
      message: 'The provider does not know the run.',
    });
  });
});

describe('a callback', () => {
  let receiver: CallbackReceiver;
  beforeEach(async () => {
    receiver = await receiveCallbacks();
  });
  afterEach(() => receiver[Symbol.asyncDispose]());

  const called = (given = {}) => aRun(FOX, { model: MODEL, callbackUrl: receiver.url, ...given });

  /** The callback of a new prediction, with what is needed to hand it over. */
  async function arrive() {
    const { run } = called();
    const step = await upstream.start(run);
    return { run, step, handle: handleOf(step), came: await receiver.arrival(1) };
  }

  test('is asked for when the prediction is created, for its end only, and slows polling down', async () => {
    const { step } = await arrive();
    expect(server.requests[0]?.body).toEqual({ input: FOX, webhook: receiver.url, webhook_events_filter: ['completed'] });
    expect(step).toMatchObject({ checkAfterMs: 30_000 });
  });

  test('that is signed ends the run, without another question about it', async () => {
    const { run, handle, came } = await arrive();
    expect(await upstream.receive?.(run, asCallback(came, handle))).toMatchObject({
      kind: 'finished',
      output: { media: [{ contentType: 'image/png' }], seed: 3 },
    });
    expect(paths(server)).toEqual(['POST /v1/models/acme/painter/predictions', 'GET /v1/webhooks/default/secret']);
  });

  test('of a failure throws what a look throws', async () => {
    server.inject('refuse');
    const { run, handle, came } = await arrive();
    expect(await failure(upstream.receive?.(run, asCallback(came, handle)))).toMatchObject({
      name: 'TerminalError',
      code: 'content_refused',
    });
  });

  test('that comes twice says the same twice, and the secret was fetched once', async () => {
    server.inject('double-callback');
    const { run, handle, came } = await arrive();
    const again = await receiver.arrival(2);
    const first = await upstream.receive?.(run, asCallback(came, handle));
    expect(await upstream.receive?.(run, asCallback(again, handle))).toEqual(first);
    expect(server.requests.filter(({ path }) => path.endsWith('/secret'))).toHaveLength(1);
  });

  test('with one other byte proves nothing, in the body or in what is signed with it', async () => {
    const { run, handle, came } = await arrive();
    const body = Buffer.from(came.body.toString().replace('"api"', '"apj"'));
    expect(body.equals(came.body)).toBe(false);
    expect(await upstream.receive?.(run, asCallback({ ...came, body }, handle))).toBeUndefined();
    const timestamp = String(Number(came.headers['webhook-timestamp']) + 1);
    const changes = { id: 'msg_x', timestamp, signature: `v1,${Buffer.alloc(32).toString('base64')}` };
    for (const [name, value] of Object.entries(changes)) {
      expect(await upstream.receive?.(run, asCallback(came, handle, { [`webhook-${name}`]: value })), name).toBeUndefined();
    }
    expect(await upstream.receive?.(run, asCallback(came, handle))).toMatchObject({ kind: 'finished' });
  });

  test('that is older than five minutes proves nothing, and one that is a little younger does', async () => {
    const { handle, came } = await arrive();
    const later = (seconds: number) => called({ clock: { ...systemClock, now: () => systemClock.now() + seconds * 1000 } }).run;
    expect(await upstream.receive?.(later(302), asCallback(came, handle))).toBeUndefined();
    expect(await upstream.receive?.(later(290), asCallback(came, handle))).toMatchObject({ kind: 'finished' });
  });

  test('of another run proves nothing of this one, and neither does one before there is a handle', async () => {
    const { run, handle, came } = await arrive();
    const other = handleOf(await upstream.start(called().run));
    expect(await upstream.receive?.(run, asCallback(came, other))).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(came, undefined))).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(came, handle))).toMatchObject({ kind: 'finished' });
  });

  test('of a prediction that goes on says nothing new', async () => {
    const { run } = called();
    const handle = handleOf(await upstream.start(run));
    // The callback is made of the next look at the prediction, which makes it one that has just begun.
    server.inject('backwards');
    const came = await receiver.arrival(1);
    expect(JSON.parse(came.body.toString())).toMatchObject({ status: 'starting' });
    expect(await upstream.receive?.(run, asCallback(came, handle))).toBeUndefined();
  });

  test('that is signed with a new secret is believed once that was fetched', async () => {
    const { run, handle, came } = await arrive();
    const asked: string[] = [];
    const secrets = createServer(async (request, response) => {
      asked.push(request.url ?? '');
      const real = await fetch(`${server.url}${request.url}`, { headers: { authorization: `Bearer ${TOKEN}` } });
      const old = JSON.stringify({ key: `whsec_${Buffer.alloc(24).toString('base64')}` });
      response.end(asked.length === 1 ? old : await real.text());
    });
    await new Promise<void>((resolve) => secrets.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void secrets.close().closeAllConnections());
    const address = secrets.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const other = open({ REPLICATE_API_TOKEN: TOKEN, REPLICATE_BASE_URL: `http://127.0.0.1:${port}/v1` });
    expect(await other.receive?.(run, asCallback(came, handle))).toBeUndefined();
    // Whatever comes within half a minute, the vendor is not asked again.
    expect(await other.receive?.(run, asCallback(came, handle))).toBeUndefined();
    expect(asked).toHaveLength(1);
    const { run: later } = called({ clock: { ...systemClock, now: () => systemClock.now() + 31_000 } });
    expect(await other.receive?.(later, asCallback(came, handle))).toMatchObject({ kind: 'finished' });
  });

  test('over plain HTTP is not asked for at the vendor itself, which would refuse the prediction', async () => {
    // An HTTPS server that this process trusts cannot be had on loopback, so what would be sent is looked at where it leaves.
    const sent = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => Response.json({ id: 'p1' }, { status: 201 }));
    onTestFinished(() => sent.mockRestore());
    const vendor = open({ REPLICATE_API_TOKEN: TOKEN });
    expect(await vendor.start(called().run)).toMatchObject({ checkAfterMs: 500 });
    expect(await vendor.start(called({ callbackUrl: 'https://queue.example/hook' }).run)).toMatchObject({ checkAfterMs: 30_000 });
    const [plain, secure] = sent.mock.calls.map(([url, options]) => [url, JSON.parse(String(options?.body)).webhook]);
    expect(plain).toEqual(['https://api.replicate.com/v1/models/acme/painter/predictions', undefined]);
    expect(secure?.[1]).toBe('https://queue.example/hook');
  });

  test('that is lost leaves the run to polling', async () => {
    server.inject('lost-callback');
    expect((await finish(upstream, called().run)).media).toHaveLength(1);
    expect(receiver.received).toEqual([]);
  });

  test('that is late comes all the same', async () => {
    server.inject('late-callback');
    const { run, handle, came } = await arrive();
    expect(await upstream.receive?.(run, asCallback(came, handle))).toMatchObject({ kind: 'finished' });
  });
});

describe('the simulator', () => {
  test('serves a real picture behind the link, until links expire', async () => {
    const { media } = await finish(upstream, fox().run);
    const { location } = media[0] ?? expect.unreachable('a picture was made');
    const url = 'url' in location ? location.url : '';
    const answer = await fetch(url);
    expect(answer.headers.get('content-type')).toBe('image/png');
    expect(
      Buffer.from(await answer.arrayBuffer())
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    server.inject('expired');
    expect((await fetch(url)).status).toBe(404);
  });

  test('takes no request without the token, and says so as a problem', async () => {
    const answer = await fetch(`${server.url}/v1/predictions/x`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([401, 'application/problem+json']);
    expect(await answer.json()).toMatchObject({ title: 'Unauthenticated', status: 401 });
  });

  test('posts to nobody but this machine', async () => {
    const error = await failure(upstream.start(aRun(FOX, { model: MODEL, callbackUrl: 'https://example.com/hook' }).run));
    expect(error).toMatchObject({ code: 'invalid_input' });
    expect(server.submitted).toBe(0);
  });
});

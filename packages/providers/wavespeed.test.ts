import { type JsonObject, RetryableError, type Step, systemClock, TerminalError } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { isSignedWith } from './_wavespeed-signature.ts';
import { openProviders } from './index.ts';
import { openFaults, type Simulated, serve } from './simulators/simulator.ts';
import simulator, { WEBHOOK_SECRET } from './simulators/wavespeed.ts';
import { asCallback, receiveCallbacks } from './testing/callbacks.ts';
import { aRun, finish } from './testing/run.ts';
import wavespeed from './wavespeed.ts';

const KEY = 'simulated-wavespeed-key';
const RUN_MS = 20;
/** A run that is still under way whenever a test looks. */
const FOREVER_MS = 3_600_000;
const model = 'wavespeed-ai/hidream-i1-full';
const parameters = { prompt: 'a fox ×🍋', size: '1024*1024', seed: -1 };

let simulated: Simulated;
beforeEach(async () => {
  simulated = await simulator.start({ port: 0, runMs: RUN_MS });
});
afterEach(async () => {
  await simulated[Symbol.asyncDispose]();
});

function open(baseUrl = simulated.baseUrl, key = KEY) {
  const { upstreams } = openProviders([wavespeed], { WAVESPEED_API_KEY: key, WAVESPEED_BASE_URL: baseUrl });
  return upstreams.get('wavespeed') ?? expect.unreachable('it has a key');
}

async function simulate(runMs: number) {
  const another = await simulator.start({ port: 0, runMs });
  onTestFinished(() => another[Symbol.asyncDispose]());
  return another;
}

interface Answer {
  readonly status?: number;
  readonly body: string | object;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An upstream whose answers are listed, one per call; the last one stays. */
async function openAgainst(...answers: readonly Answer[]) {
  const left = [...answers];
  const server = await serve(0, openFaults(), (_request, response) => {
    const { status = 200, body, headers = {} } = (left.length > 1 ? left.shift() : left[0]) ?? expect.unreachable('there is a last one');
    response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  onTestFinished(() => server.close());
  return { upstream: open(server.url), requests: server.requests, url: server.url };
}

const envelope = (data: unknown, code = 200) => ({ body: { code, message: 'success', data } });
const handle = { id: 'abc', startedAt: 0 };

/** What a look at a run comes to, given the members of its prediction. */
async function checked(prediction: object, given: JsonObject = parameters) {
  const { upstream } = await openAgainst(envelope({ id: 'abc', status: 'completed', error: '', ...prediction }));
  const { run, files } = aRun(given, { model });
  const step = await upstream.check(run, handle);
  return { output: step.kind === 'finished' ? step.output : expect.unreachable('it has ended'), files };
}

/** The error that a promise rejects with. */
async function errorOf(promise: Promise<unknown>) {
  return promise.then(
    () => expect.unreachable('it must fail'),
    (error: unknown) => error,
  );
}

function handleOf(step: Step) {
  return step.kind === 'running' ? step.handle : expect.unreachable('a submission is answered before the end');
}

describe('settings', () => {
  test('without its key the provider is off and says why', () => {
    expect(openProviders([wavespeed], {}).off.get('wavespeed')).toBe('WAVESPEED_API_KEY is not set');
  });

  test('slashes at the end of the base address are dropped', async () => {
    await finish(open(`${simulated.baseUrl}/`), aRun(parameters, { model }).run);
    expect(simulated.requests[0]?.path).toBe('/api/v3/wavespeed-ai/hidream-i1-full');
  });
});

describe('a run', () => {
  test('is submitted with its parameters flat and the key as a bearer token', async () => {
    await finish(open(), aRun(parameters, { model }).run);
    expect(simulated.requests[0]).toMatchObject({
      method: 'POST',
      path: '/api/v3/wavespeed-ai/hidream-i1-full',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body: parameters,
    });
  });

  test('is polled at its result', async () => {
    await finish(open(), aRun(parameters, { model }).run);
    const asked = simulated.requests.slice(1).map(({ method, path }) => `${method} ${path.replace(/[0-9a-f]{32}/, 'ID')}`);
    expect(new Set(asked)).toEqual(new Set(['GET /api/v3/predictions/ID/result']));
    expect(simulated.requests.every(({ headers }) => headers.authorization === `Bearer ${KEY}`)).toBe(true);
  });

  test('ends with links, a flag for each, and the seed that was asked for', async () => {
    const { run, files } = aRun({ ...parameters, seed: 41 }, { model });
    expect(await finish(open(), run)).toEqual({
      media: [{ location: { url: expect.stringMatching(/\/1\.png$/) }, contentType: 'image/png', fileName: '1.png' }],
      seed: 41,
      nsfw: [false],
      timings: { executionTime: 0.02, inference: 0.02 },
    });
    expect(files).toEqual([]);
  });

  test('has no seed when a random one was asked for and none is told', async () => {
    expect(await finish(open(), aRun(parameters, { model }).run)).not.toHaveProperty('seed');
  });

  test('does not hold the submission until its end, even if that was asked for', async () => {
    const long = await simulate(FOREVER_MS);
    const step = await open(long.baseUrl).start(aRun({ ...parameters, enable_sync_mode: true }, { model }).run);
    expect(step.kind).toBe('running');
    expect(long.requests[0]?.body).toEqual(parameters);
  });

  test('is looked at after two seconds at first, and every five when it takes long', async () => {
    const upstream = open((await simulate(FOREVER_MS)).baseUrl);
    let now = 1_000_000;
    const clock = { now: () => now, sleep: () => new Promise<void>(() => {}) };
    const { run } = aRun(parameters, { model, clock });
    const step = await upstream.start(run);
    expect(step).toMatchObject({ checkAfterMs: 2000 });
    now += 600_000;
    expect(await upstream.check(run, handleOf(step))).toMatchObject({ kind: 'running', checkAfterMs: 5000 });
  });

  test('is carried on by another process by its handle, with one submission', async () => {
    const saved = JSON.parse(JSON.stringify(handleOf(await open().start(aRun(parameters, { model }).run))));
    const [upstream, { run }] = [open(), aRun(parameters, { model, attempt: 2 })];
    let step = await upstream.check(run, saved);
    while (step.kind === 'running') step = await upstream.check(run, step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(simulated.submitted).toBe(1);
  });

  test('that is told of with a state from before is still under way', async () => {
    const quick = await simulate(0);
    const [upstream, { run }] = [open(quick.baseUrl), aRun(parameters, { model })];
    const saved = handleOf(await upstream.start(run));
    quick.inject('backwards');
    expect(await upstream.check(run, saved)).toMatchObject({ kind: 'running', handle: saved });
    expect(await upstream.check(run, saved)).toMatchObject({ kind: 'finished' });
  });

  test('is looked at by its id, whatever address the vendor names', async () => {
    const elsewhere = await openAgainst(envelope({}));
    const urls = { get: `${elsewhere.url}/result` };
    const { upstream, requests } = await openAgainst(
      envelope({ id: 'abc', status: 'created', urls }),
      envelope({ id: 'abc', status: 'completed', outputs: ['words'], urls }),
    );
    expect((await finish(upstream, aRun(parameters, { model }).run)).text).toBe('words');
    expect(requests[1]?.path).toBe('/api/v3/predictions/abc/result');
    expect(elsewhere.requests).toEqual([]);
  });

  test('without a usable id may be tried again, and may have been started', async () => {
    const { upstream } = await openAgainst(envelope({ id: '../balance', status: 'created' }));
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('of something else is an internal error', async () => {
    expect(await errorOf(open().check(aRun(parameters).run, 'other'))).toMatchObject({ name: 'TerminalError', code: 'internal' });
  });

  test('is not recognised when it is submitted again', async () => {
    const upstream = open();
    for (const attempt of [1, 2]) await upstream.start(aRun(parameters, { model, attempt }).run);
    expect(simulated.submitted).toBe(2);
    expect(upstream.isIdempotent).toBeFalsy();
  });
});

describe('cancelling', () => {
  test('deletes the run at the vendor', async () => {
    const long = await simulate(FOREVER_MS);
    const [upstream, { run }] = [open(long.baseUrl), aRun(parameters, { model })];
    const saved = handleOf(await upstream.start(run));
    await upstream.cancel?.(run, saved);
    expect(long.requests.at(-1)).toMatchObject({ method: 'DELETE', path: expect.stringMatching(/^\/api\/v3\/predictions\/[0-9a-f]{32}$/) });
    expect(await errorOf(upstream.check(run, saved))).toBeInstanceOf(TerminalError);
  });

  test('a run that is gone does no harm', async () => {
    const [upstream, { run }] = [open(), aRun(parameters, { model })];
    await expect(upstream.cancel?.(run, handle)).resolves.toBeUndefined();
    expect(simulated.requests).toHaveLength(1);
  });
});

describe('outputs', () => {
  test('files as text go into the store and no further', async () => {
    const { run, files } = aRun({ ...parameters, enable_base64_output: true }, { model });
    const output = await finish(open(), run);
    expect(output.media).toEqual([{ location: { asset: 'file-1' }, contentType: 'image/png', fileName: 'image.png', bytes: 70 }]);
    expect(
      Buffer.from(files[0]?.bytes ?? [])
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    expect(output).not.toHaveProperty('text');
  });

  test('files as text of an unknown kind are stored when they were asked for', async () => {
    const outputs = [Buffer.alloc(200, 7).toString('base64')];
    const { output } = await checked({ outputs }, { ...parameters, enable_base64_output: true });
    expect(output).toMatchObject({ media: [{ contentType: 'application/octet-stream', bytes: 200 }] });
    expect((await checked({ outputs })).output.text).toBe(outputs[0]);
  });

  test('links, words and objects are told apart, and flags stay with their media', async () => {
    const { output } = await checked({
      outputs: ['hello', 'https://x.test/a.mp4', { score: 1 }, 'https://x.test/b.webp'],
      has_nsfw_contents: [false, false, false, true],
    });
    expect(output).toEqual({
      media: [
        { location: { url: 'https://x.test/a.mp4' }, contentType: 'video/mp4', fileName: 'a.mp4' },
        { location: { url: 'https://x.test/b.webp' }, contentType: 'image/webp', fileName: 'b.webp' },
      ],
      text: 'hello',
      json: { score: 1 },
      nsfw: [false, true],
    });
  });

  test('no flags are made up where the vendor tells none', async () => {
    expect((await checked({ outputs: ['https://x.test/a.png'], has_nsfw_contents: null })).output).not.toHaveProperty('nsfw');
  });

  test('the seed that the vendor tells counts before the one that was asked for', async () => {
    expect((await checked({ outputs: ['https://x.test/a.png'], input: { seed: 9 } }, { ...parameters, seed: 3 })).output.seed).toBe(9);
  });

  test('an address that is not of the web is no medium', async () => {
    expect((await checked({ outputs: ['file:///etc/passwd'] })).output).toEqual({ media: [], text: 'file:///etc/passwd' });
  });

  test('nothing at all is a failure, and a refusal where the content was flagged', async () => {
    expect(await errorOf(checked({ outputs: [] }))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    expect(await errorOf(checked({ outputs: [], has_nsfw_contents: [true] }))).toMatchObject({ code: 'content_refused' });
  });
});

describe('failures of a run', () => {
  test('a failed run fails for good, with the words of the vendor', async () => {
    simulated.inject('fail');
    const error = await errorOf(finish(open(), aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', message: 'The model ran out of memory.' });
  });

  test('refused content is told from other failures', async () => {
    simulated.inject('refuse');
    expect(await errorOf(finish(open(), aRun(parameters, { model }).run))).toMatchObject({
      name: 'TerminalError',
      code: 'content_refused',
    });
  });

  test.each([
    [1200, 'TerminalError', 'content_refused'],
    [1400, 'TerminalError', 'invalid_input'],
    [1401, 'TerminalError', 'invalid_input'],
    [1402, 'TerminalError', 'invalid_input'],
    [1403, 'TerminalError', 'provider_error'],
    [1405, 'TerminalError', 'provider_error'],
    [5000, 'RetryableError', 'provider_error'],
    [5003, 'RetryableError', 'provider_error'],
    [5004, 'RetryableError', 'provider_error'],
    [0, 'TerminalError', 'provider_error'],
  ])('the code %i of a failed run is a %s, %s', async (taskCode, name, code) => {
    expect(await errorOf(checked({ status: 'failed', code: taskCode, error: 'told so' }))).toMatchObject({
      name,
      code,
      message: 'told so',
    });
  });

  test('a run that failed because the account could not pay may be served by another provider', async () => {
    const error = await errorOf(checked({ status: 'failed', code: 1407, error: 'told so' }));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
    expect(await errorOf(checked({ status: 'failed', code: 1403, error: 'told so' }))).toMatchObject({ isProvidersOnly: false });
  });

  test.each(['cancelled', 'timeout', 'deleted'])('a run that is %s at the vendor fails for good', async (status) => {
    expect(await errorOf(checked({ status }))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });

  test('a run that fails at its submission fails at once', async () => {
    const { upstream } = await openAgainst(envelope({ id: 'abc', status: 'failed', code: 1200, error: 'no' }));
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ code: 'content_refused' });
  });

  test('a wait that the vendor gave up is no failure: the run goes on', async () => {
    const prediction = { id: 'abc', status: 'processing', code: 5004, error: 'Sync mode timed out' };
    const { upstream } = await openAgainst(envelope(prediction));
    expect(await upstream.start(aRun(parameters, { model }).run)).toMatchObject({ kind: 'running', handle: { id: 'abc' } });
  });

  test.each(['pondering', 'constructor'])('a state that nobody has heard of (%s) means another look', async (status) => {
    const { upstream } = await openAgainst(
      envelope({ id: 'abc', status }),
      envelope({ id: 'abc', status: 'completed', outputs: ['words'] }),
    );
    const { run } = aRun(parameters);
    expect(await upstream.check(run, handle)).toEqual({ kind: 'running', handle, checkAfterMs: 5000 });
    expect(await upstream.check(run, handle)).toMatchObject({ kind: 'finished' });
  });

  test('a run that the vendor does not know, or no longer, fails for good', async () => {
    expect(await errorOf(open().check(aRun(parameters).run, handle))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });

  test('the key and the paths of links never reach an error', async () => {
    const error = await errorOf(checked({ status: 'failed', error: `bad ${KEY} at https://x.test/a?token=abc ${'long '.repeat(200)}` }));
    if (!(error instanceof TerminalError)) return expect.unreachable('it failed');
    expect(error.message).toMatch(/^bad … at /);
    expect(`${error.stack} ${error.cause}`).not.toMatch(/simulated-wavespeed-key|token=abc/);
    expect(error.message.length).toBeLessThanOrEqual(300);
  });
});

describe('statuses', () => {
  test.each([
    [400, 'invalid_input', false],
    [401, 'provider_error', true],
    [402, 'provider_error', true],
    [403, 'provider_error', true],
    [404, 'provider_error', true],
    [413, 'invalid_input', false],
    [418, 'provider_error', false],
  ])('%i at the submission fails for good as %s; that another provider may serve it: %s', async (status, code, isProvidersOnly) => {
    const { upstream } = await openAgainst({ status, body: { code: status, message: 'told so' } });
    const error = await errorOf(upstream.start(aRun(parameters, { model }).run));
    expect(error).toMatchObject({ name: 'TerminalError', code, isProvidersOnly });
  });

  test.each([
    [500, false],
    [502, true],
    [503, false],
    [504, true],
  ])('%i at the submission may be tried again; that it was started all the same: %s', async (status, mayHaveStarted) => {
    const { upstream } = await openAgainst({ status, body: '<html>', headers: { 'content-type': 'text/html' } });
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ name: 'RetryableError', mayHaveStarted });
  });

  test.each([
    [{ code: 400, message: 'told so' }, 'TerminalError', 'invalid_input'],
    [{ code: 1200, message: 'told so' }, 'TerminalError', 'content_refused'],
    [{ code: 429, message: 'told so' }, 'RetryableError', 'provider_error'],
    [{ code: 503, message: 'told so' }, 'RetryableError', 'provider_error'],
    [{ code: 200, message: 'success', data: null }, 'RetryableError', 'provider_error'],
  ])('a success whose envelope says otherwise is none: %j', async (body, name, code) => {
    const { upstream } = await openAgainst({ body });
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ name, code });
  });

  test('a refusal for the content of the parameters is told from others', async () => {
    const { upstream } = await openAgainst({ status: 400, body: { code: 1200, message: 'told so' } });
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toMatchObject({ code: 'content_refused', message: 'told so' });
  });

  test('the words of the vendor say why parameters were refused, with or without an envelope', async () => {
    const bare = await openAgainst({ status: 400, body: { error: 'no webhook with base64' } });
    expect(await errorOf(bare.upstream.start(aRun(parameters, { model }).run))).toMatchObject({ message: 'no webhook with base64' });
    expect(await errorOf(open().start(aRun({}, { model }).run))).toMatchObject({ message: 'property "prompt" is missing' });
  });

  test('a model that nobody knows fails for good', async () => {
    const error = await errorOf(open().start(aRun(parameters, { model: 'unknown/model' }).run));
    expect(error).toMatchObject({ name: 'TerminalError', message: 'model unknown/model not found' });
  });

  test('a key that the vendor does not know fails for good, and is not shown', async () => {
    const error = await errorOf(open(simulated.baseUrl, 'wrong-key').start(aRun(parameters, { model }).run));
    expect(error).toBeInstanceOf(TerminalError);
    expect(`${error instanceof Error && error.stack}`).not.toContain('wrong-key');
  });
});

describe('trouble on the way', () => {
  test('too many requests wait as long as the vendor asks', async () => {
    simulated.inject('429');
    expect(await errorOf(open().start(aRun(parameters, { model }).run))).toMatchObject({ name: 'RetryableError', retryAfterMs: 1000 });
  });

  test.each(['429', '500', 'html', 'truncated'] as const)('%s at the submission may be tried again, with success', async (fault) => {
    const upstream = open();
    simulated.inject(fault);
    expect(await errorOf(upstream.start(aRun(parameters, { model }).run))).toBeInstanceOf(RetryableError);
    expect((await finish(upstream, aRun(parameters, { model, attempt: 2 }).run)).media).toHaveLength(1);
  });

  test.each([
    ['429', 1000],
    ['500', 5000],
    ['html', 5000],
    ['truncated', 5000],
  ] as const)('%s at a look means another look after a while, and no other run', async (fault, checkAfterMs) => {
    const quick = await simulate(0);
    const [upstream, { run }] = [open(quick.baseUrl), aRun(parameters, { model })];
    const saved = handleOf(await upstream.start(run));
    quick.inject(fault);
    expect(await upstream.check(run, saved)).toEqual({ kind: 'running', handle: saved, checkAfterMs });
    expect(await upstream.check(run, saved)).toMatchObject({ kind: 'finished' });
    expect(quick.submitted).toBe(1);
  });

  test('an answer that is cut off leaves open whether the run was started', async () => {
    simulated.inject('truncated');
    expect(await errorOf(open().start(aRun(parameters, { model }).run))).toMatchObject({ mayHaveStarted: true });
    expect(simulated.submitted).toBe(1);
  });

  test('a slow vendor is waited for only as long as the run is wanted', async () => {
    simulated.inject('slow');
    const control = new AbortController();
    const started = errorOf(open().start(aRun(parameters, { model, signal: control.signal }).run));
    await vi.waitFor(() => expect(simulated.requests).toHaveLength(1), { interval: 5 });
    const reason = new Error('cancelled');
    control.abort(reason);
    expect(await started).toBe(reason);
  });

  test('links to results expire, while the run stays readable', async () => {
    const location = (await finish(open(), aRun(parameters, { model }).run)).media[0]?.location;
    if (!location || !('url' in location)) return expect.unreachable('it is a link');
    simulated.inject('expired');
    expect([(await fetch(location.url)).status, (await fetch(location.url)).status]).toEqual([404, 200]);
  });
});

describe('webhooks', () => {
  /** A run whose webhook has come. */
  async function toldOf(fault?: 'fail' | 'refuse' | 'double-callback') {
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    if (fault) simulated.inject(fault);
    const upstream = open();
    const { run } = aRun(parameters, { model, callbackUrl: receiver.url });
    const step = await upstream.start(run);
    const first = await receiver.arrival(1);
    return { receiver, upstream, run, step, saved: handleOf(step), first };
  }

  const secretsFetched = () => simulated.requests.filter(({ path }) => path === '/api/v3/webhook/secret').length;

  test('the signature of the computed example in the protocol sheet is right', () => {
    const headers = {
      'webhook-id': 'wh_1',
      'webhook-timestamp': '1700000000',
      'webhook-signature': 'v3,44a84b5ab5cd5800ff49f1b4f72f84570a56ada2469948565fdca9ddb435cccd',
    };
    const example = (body: string) => asCallback({ headers, body: Buffer.from(body) }, undefined);
    expect(isSignedWith(example('{"id":"p1","status":"completed"}'), WEBHOOK_SECRET)).toBe(true);
    expect(isSignedWith(example('{"id":"p1","status":"completed" }'), WEBHOOK_SECRET)).toBe(false);
    expect(isSignedWith(example('{"id":"p1","status":"completed"}'), 'whsec_')).toBe(false);
  });

  test('a run with a callback URL asks for a webhook and is polled every half minute', async () => {
    const { receiver, step } = await toldOf();
    expect(simulated.requests[0]?.path).toBe(`/api/v3/${model}?webhook=${encodeURIComponent(receiver.url)}`);
    expect(simulated.requests[0]?.body).toEqual(parameters);
    expect(step).toMatchObject({ kind: 'running', checkAfterMs: 30_000 });
  });

  test('files as text rule a webhook out, so the run is polled as if there were none', async () => {
    const { run } = aRun({ ...parameters, enable_base64_output: true }, { model, callbackUrl: 'http://127.0.0.1:1/x' });
    expect(await open().start(run)).toMatchObject({ checkAfterMs: 2000 });
    expect(simulated.requests[0]?.path).toBe(`/api/v3/${model}`);
  });

  test('the vendor itself is asked for webhooks over HTTPS only', async () => {
    // An HTTPS server that this process trusts cannot be had on loopback, so what would be sent is looked at where it leaves.
    const sent = vi
      .spyOn(globalThis, 'fetch')
      .mockImplementation(async () => Response.json({ code: 200, data: { id: 'abc', status: 'created' } }));
    onTestFinished(() => sent.mockRestore());
    const upstream = open('https://api.wavespeed.ai');
    const startWith = (callbackUrl: string) => upstream.start(aRun(parameters, { model, callbackUrl }).run);
    expect(await startWith('http://queue.example/hook')).toMatchObject({ checkAfterMs: 2000 });
    expect(await startWith('https://queue.example/hook')).toMatchObject({ checkAfterMs: 30_000 });
    expect(sent.mock.calls.map(([url]) => url)).toEqual([
      `https://api.wavespeed.ai/api/v3/${model}`,
      `https://api.wavespeed.ai/api/v3/${model}?webhook=https%3A%2F%2Fqueue.example%2Fhook`,
    ]);
  });

  test('a genuine webhook ends the run with the result that a poll has', async () => {
    const { upstream, run, saved, first } = await toldOf();
    const step = await upstream.receive?.(run, asCallback(first, saved));
    expect(step).toEqual(await upstream.check(run, saved));
    expect(step).toMatchObject({ kind: 'finished', output: { nsfw: [false] } });
  });

  test('a webhook that comes twice says the same twice, and the secret is fetched once', async () => {
    const { receiver, upstream, run, saved, first } = await toldOf('double-callback');
    const second = await receiver.arrival(2);
    expect(second.headers['webhook-id']).toBe(first.headers['webhook-id']);
    const steps = [await upstream.receive?.(run, asCallback(first, saved)), await upstream.receive?.(run, asCallback(second, saved))];
    expect(steps[0]).toMatchObject({ kind: 'finished' });
    expect(steps[1]).toEqual(steps[0]);
    expect(secretsFetched()).toBe(1);
  });

  test.each([
    ['fail', 'provider_error'],
    ['refuse', 'content_refused'],
  ] as const)('a webhook about a run that did not end well (%s) throws like a poll', async (fault, code) => {
    const { upstream, run, saved, first } = await toldOf(fault);
    expect(await errorOf(Promise.resolve(upstream.receive?.(run, asCallback(first, saved))))).toMatchObject({
      name: 'TerminalError',
      code,
    });
  });

  test('one changed byte proves nothing', async () => {
    const { upstream, run, saved, first } = await toldOf();
    const body = Buffer.from(first.body.toString('latin1').replace('1.png', '2.png'), 'latin1');
    expect(body.equals(first.body)).toBe(false);
    expect(await upstream.receive?.(run, asCallback({ ...first, body }, saved))).toBeUndefined();
    // The same message unchanged is fine.
    expect(await upstream.receive?.(run, asCallback(first, saved))).toMatchObject({ kind: 'finished' });
  });

  test.each([
    ['another id', { 'webhook-id': 'other' }],
    ['no id', { 'webhook-id': undefined }],
    ['no timestamp', { 'webhook-timestamp': undefined }],
    ['no signature', { 'webhook-signature': undefined }],
    ['a signature of another version', { 'webhook-signature': `v1,${'a'.repeat(64)}` }],
    ['a signature of nobody', { 'webhook-signature': `v3,${'a'.repeat(64)}` }],
  ])('%s proves nothing', async (_what, changed) => {
    const { upstream, run, saved, first } = await toldOf();
    expect(await upstream.receive?.(run, asCallback(first, saved, changed))).toBeUndefined();
  });

  test.each([301_000, -301_000])('a webhook that is %i ms away from now proves nothing, and costs no call', async (awayMs) => {
    const { upstream, run, saved, first } = await toldOf();
    const at = Number(first.headers['webhook-timestamp']) * 1000;
    const received = (now: number) => upstream.receive?.({ ...run, clock: { ...systemClock, now: () => now } }, asCallback(first, saved));
    expect(await received(at + awayMs)).toBeUndefined();
    expect(secretsFetched()).toBe(0);
    expect(await received(at + Math.sign(awayMs) * 299_000)).toMatchObject({ kind: 'finished' });
  });

  test('a webhook about another run, or before there is a handle, proves nothing', async () => {
    const { upstream, run, saved, first } = await toldOf();
    expect(await upstream.receive?.(run, asCallback(first, { id: 'other', startedAt: 0 }))).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(first, undefined))).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(first, saved))).toMatchObject({ kind: 'finished' });
  });

  test('forgeries have the secret fetched once in half a minute at most', async () => {
    const { upstream, run, saved, first } = await toldOf();
    const forged = asCallback(first, saved, { 'webhook-signature': `v3,${'a'.repeat(64)}` });
    for (let time = 0; time < 3; time++) expect(await upstream.receive?.(run, forged)).toBeUndefined();
    expect(secretsFetched()).toBe(1);
    const later = { ...run, clock: { ...systemClock, now: () => systemClock.now() + 31_000 } };
    expect(await upstream.receive?.(later, forged)).toBeUndefined();
    expect(secretsFetched()).toBe(2);
  });

  test('a secret that was replaced at the vendor is found half a minute later', async () => {
    const { run, saved, first } = await toldOf();
    const { upstream } = await openAgainst({ body: { secret: 'whsec_before' } }, { body: { secret: WEBHOOK_SECRET } });
    expect(await upstream.receive?.(run, asCallback(first, saved))).toBeUndefined();
    const later = { ...run, clock: { ...systemClock, now: () => systemClock.now() + 31_000 } };
    expect(await upstream.receive?.(later, asCallback(first, saved))).toMatchObject({ kind: 'finished' });
  });

  test('while the secret cannot be had nothing is proven, and the run does not fail for it', async () => {
    const { upstream, run, saved, first } = await toldOf();
    simulated.inject('500');
    expect(await upstream.receive?.(run, asCallback(first, saved))).toBeUndefined();
    const later = { ...run, clock: { ...systemClock, now: () => systemClock.now() + 31_000 } };
    expect(await upstream.receive?.(later, asCallback(first, saved))).toMatchObject({ kind: 'finished' });
  });

  test('a secret without the envelope is understood', async () => {
    const { run, saved, first } = await toldOf();
    const { upstream } = await openAgainst({ body: { secret: WEBHOOK_SECRET } });
    expect(await upstream.receive?.(run, asCallback(first, saved))).toMatchObject({ kind: 'finished' });
  });

  test.each(['lost-callback', 'late-callback'] as const)('a run with a %s ends by polling', async (fault) => {
    const receiver = await receiveCallbacks();
    onTestFinished(() => receiver[Symbol.asyncDispose]());
    simulated.inject(fault);
    const output = await finish(open(), aRun(parameters, { model, callbackUrl: receiver.url }).run);
    expect(output.media).toHaveLength(1);
    expect(receiver.received).toEqual([]);
  });

  test('the simulator posts to nobody but this machine', async () => {
    const { run } = aRun(parameters, { model, callbackUrl: 'http://192.0.2.1/hook' });
    expect(await errorOf(open().start(run))).toMatchObject({ code: 'invalid_input' });
    expect(simulated.submitted).toBe(0);
  });
});

import { createServer } from 'node:http';
import { type JsonObject, type JsonValue, RetryableError, type Step, systemClock, TerminalError, type Upstream } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import fal from './fal.ts';
import { openProviders } from './index.ts';
import simulator from './simulators/fal.ts';
import type { Fault, Simulated } from './simulators/simulator.ts';
import { asCallback, type CallbackReceiver, receiveCallbacks } from './testing/callbacks.ts';
import { aRun, finish } from './testing/run.ts';

const MODEL = 'fal-ai/hidream-i1-fast';
const FOX = { prompt: 'a fox', seed: 7 };
const KEY = simulator.environment('').FAL_KEY ?? '';

let server: Simulated;
let upstream: Upstream;

beforeEach(async () => {
  server = await simulator.start({ port: 0, runMs: 20 });
  upstream = open(simulator.environment(server.url));
});
afterEach(() => server[Symbol.asyncDispose]());

function open(environment: Readonly<Record<string, string>>): Upstream {
  return openProviders([fal], environment).upstreams.get('fal') ?? expect.unreachable('fal has its key');
}

/** Another simulator than that of every test, whose runs do not end by themselves. */
async function startEndless() {
  const endless = await simulator.start({ port: 0, runMs: 3_600_000 });
  onTestFinished(() => endless[Symbol.asyncDispose]());
  return { server: endless, upstream: open(simulator.environment(endless.url)) };
}

/** What the vendor might answer besides what the simulator does; addresses that are not listed answer 404. */
async function answering(
  answers: Readonly<Record<string, { status: number; body: JsonValue | string; headers?: Record<string, string> }>>,
) {
  const stub = createServer((request, response) => {
    const answer = answers[(request.url ?? '').split('?', 1)[0] ?? ''];
    response.writeHead(answer?.status ?? 404, { 'content-type': 'application/json', ...answer?.headers });
    response.end(typeof answer?.body === 'string' ? answer.body : JSON.stringify(answer?.body ?? {}));
  });
  await new Promise<void>((resolve) => stub.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void stub.close().closeAllConnections());
  const address = stub.address();
  return open({ FAL_KEY: KEY, FAL_BASE_URL: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` });
}

const HANDLE = { app: MODEL, id: 'r-1', startedAt: 0 };
const RUN_PATH = `/${MODEL}/requests/r-1`;

/** Looks at a run that has ended with this result. */
async function checkEnded(status: number, body: JsonValue | string, headers: Record<string, string> = {}) {
  const stub = await answering({
    [`${RUN_PATH}/status`]: { status: 200, body: { status: 'COMPLETED' } },
    [RUN_PATH]: { status, body, headers },
  });
  return stub.check(aRun(FOX, { model: MODEL }).run, HANDLE);
}

async function submit(status: number, body: JsonValue | string, headers: Record<string, string> = {}) {
  return (await answering({ [`/${MODEL}`]: { status, body, headers } })).start(aRun(FOX, { model: MODEL }).run);
}

const fox = (given: JsonObject = {}) => aRun({ ...FOX, ...given }, { model: MODEL });

const failure = (promise: Promise<unknown> | undefined) =>
  Promise.resolve(promise).then(
    (value) => expect.unreachable(`it did not fail, but: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );

function handleOf(step: Step): JsonValue {
  return step.kind === 'running' ? step.handle : expect.unreachable('the run has only begun');
}

describe('without its key', () => {
  test('the provider is off, and says what is missing', () => {
    expect(openProviders([fal], {}).off.get('fal')).toBe('FAL_KEY is not set');
  });
});

describe('a run', () => {
  test('is submitted with the key, and with the parameters as the whole body', async () => {
    await upstream.start(fox().run);
    expect(server.requests).toHaveLength(1);
    expect(server.requests[0]).toMatchObject({
      method: 'POST',
      path: `/${MODEL}`,
      headers: { authorization: `Key ${KEY}`, 'content-type': 'application/json' },
      body: FOX,
    });
  });

  test('is looked at and fetched by the app alone, without the sub path of its model', async () => {
    const { run } = aRun(FOX, { model: 'fal-ai/flux/dev/image-to-image' });
    await finish(upstream, run);
    const paths = new Set(server.requests.map(({ method, path }) => `${method} ${path.replace(/[0-9a-f-]{36}/, 'ID')}`));
    expect([...paths]).toEqual([
      'POST /fal-ai/flux/dev/image-to-image',
      'GET /fal-ai/flux/requests/ID/status?logs=1',
      'GET /fal-ai/flux/requests/ID',
    ]);
  });

  test('of a name space keeps three parts, and an old id is read as its new form', async () => {
    const { upstream: endless } = await startEndless();
    const appOf = async (model: string) => handleOf(await endless.start(aRun(FOX, { model }).run));
    expect(await appOf('workflows/acme/poster/large')).toMatchObject({ app: 'workflows/acme/poster' });
    expect(await appOf('110602490-lora')).toMatchObject({ app: '110602490/lora' });
  });

  test('ends with links to its pictures, the seed, flags and timings', async () => {
    expect(await finish(upstream, fox({ num_images: 2 }).run)).toEqual({
      media: Array.from({ length: 2 }, () => ({
        location: { url: expect.stringMatching(new RegExp(`^${server.url}/files/.*\\.png$`)) },
        contentType: 'image/png',
        fileName: expect.stringMatching(/\.png$/),
        width: 1,
        height: 1,
      })),
      timings: { inference: 0.02, inference_time: 0.01 },
      seed: 7,
      nsfw: [false, false],
    });
  });

  test('that answers with data URIs has its pictures stored, and passes none of them on', async () => {
    const { run, files } = fox({ sync_mode: true });
    const output = await finish(upstream, run);
    expect(output.media).toMatchObject([{ location: { asset: 'file-1' }, contentType: 'image/png' }]);
    expect(
      Buffer.from(files[0]?.bytes ?? [])
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    expect(JSON.stringify(output)).not.toContain('data:');
  });

  test('tells what it has printed, and its progress as the last bar in that shows it', async () => {
    const stub = await answering({
      [`${RUN_PATH}/status`]: {
        status: 202,
        body: { status: 'IN_PROGRESS', logs: [{ message: ' 12%|#   | 3/25' }, { message: ' 48%|#   | 12/25' }] },
      },
    });
    expect(await stub.check(fox().run, HANDLE)).toMatchObject({
      kind: 'running',
      progress: 0.48,
      logs: [' 12%|#   | 3/25', ' 48%|#   | 12/25'],
    });
    const queued = await answering({ [`${RUN_PATH}/status`]: { status: 202, body: { status: 'IN_QUEUE', logs: null } } });
    expect(await queued.check(fox().run, HANDLE)).not.toHaveProperty('logs');
  });

  test('is looked at every half second at first, later every five seconds at most', async () => {
    const { upstream: endless } = await startEndless();
    const step = await endless.start(fox().run);
    expect(step).toMatchObject({ kind: 'running', checkAfterMs: 500 });
    const hourLater = { ...systemClock, now: () => systemClock.now() + 3_600_000 };
    expect(await endless.check(aRun(FOX, { model: MODEL, clock: hourLater }).run, handleOf(step))).toMatchObject({ checkAfterMs: 5000 });
  });

  test('is resumed by its handle from another process, and was submitted once', async () => {
    const handle: JsonValue = JSON.parse(JSON.stringify(handleOf(await upstream.start(fox().run))));
    const other = open(simulator.environment(server.url));
    let step = await other.check(fox().run, handle);
    while (step.kind === 'running') step = await other.check(fox().run, step.handle);
    expect(step.output.media).toHaveLength(1);
    expect(server.submitted).toBe(1);
  });

  test('is cancelled at the vendor, which is harmless once it has ended', async () => {
    const { server: endless, upstream: other } = await startEndless();
    const { run } = fox();
    const handle = handleOf(await other.start(run));
    await other.cancel?.(run, handle);
    expect(endless.requests.at(-1)).toMatchObject({
      method: 'PUT',
      path: expect.stringMatching(/\/fal-ai\/hidream-i1-fast\/requests\/.*\/cancel$/),
    });
    await other.cancel?.(run, handle);
    expect(await failure(other.check(run, handle))).toMatchObject({
      name: 'TerminalError',
      message: 'The run was cancelled at the provider.',
    });
  });

  test('of a made-up handle is an error of ours', async () => {
    expect(await failure(upstream.check(fox().run, { id: 'x', startedAt: 0 }))).toMatchObject({ name: 'TerminalError', code: 'internal' });
  });

  test('asks the configured host only, whatever addresses an answer names', async () => {
    const stub = await answering({
      [`/${MODEL}`]: {
        status: 200,
        body: { request_id: 'r-1', status_url: 'http://127.0.0.1:1/stolen', response_url: 'http://127.0.0.1:1/' },
      },
      [`${RUN_PATH}/status`]: { status: 200, body: { status: 'COMPLETED', response_url: 'http://127.0.0.1:1/' } },
      [RUN_PATH]: { status: 200, body: { images: [{ url: 'https://v3.fal.media/a.png' }, { url: 'file:///etc/passwd' }] } },
    });
    expect((await finish(stub, fox().run)).media).toMatchObject([{ location: { url: 'https://v3.fal.media/a.png' } }]);
  });
});

describe('outputs', () => {
  test('of language models are text', async () => {
    expect(await checkEnded(200, { output: 'Once upon a time', partial: false })).toMatchObject({
      output: { media: [], text: 'Once upon a time' },
    });
  });
  test('with a video have its facts', async () => {
    const video = { url: 'https://v3.fal.media/a', content_type: 'video/mp4', file_name: 'out.mp4', file_size: 9 };
    expect(await checkEnded(200, { video })).toMatchObject({
      output: { media: [{ contentType: 'video/mp4', fileName: 'out.mp4', bytes: 9 }] },
    });
  });
  test('with a flag per picture keep it, also when it is set', async () => {
    const images = [{ url: 'https://v3.fal.media/a.png' }];
    expect(await checkEnded(200, { images, has_nsfw_concepts: [true] })).toMatchObject({ output: { nsfw: [true] } });
    expect(await checkEnded(200, { images, has_nsfw_concepts: [true, false] })).not.toHaveProperty('output.nsfw');
  });
  test('that hold nothing are a failure', async () => {
    expect(await failure(checkEnded(200, {}))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
  });
});

const detail = (type: string, msg = 'It is wrong', place = 'prompt') => ({
  detail: [{ loc: ['body', place], msg, type, input: 'secret input' }],
});

describe('a run that failed', () => {
  test.each([
    ['refused content', 422, detail('content_policy_violation'), 'content_refused'],
    ['a missing parameter', 422, detail('missing'), 'invalid_input'],
    ['an image that is too large', 422, detail('image_too_large'), 'invalid_input'],
    ['a bad request', 400, { detail: 'Bad', error_type: 'bad_request' }, 'invalid_input'],
    ['a model that made nothing', 422, detail('no_media_generated'), 'provider_error'],
    ['a cancellation', 499, { detail: 'Gone', error_type: 'client_cancelled' }, 'provider_error'],
    ['a result that is gone', 404, { status: 'NOT_FOUND' }, 'provider_error'],
    ['an error of a type nobody knows', 500, { detail: 'Odd', error_type: 'solar_flare' }, 'provider_error'],
  ] as const)('by %s is not tried again, here or elsewhere', async (_name, status, body, code) => {
    expect(await failure(checkEnded(status, body))).toMatchObject({ name: 'TerminalError', code, isProvidersOnly: false });
  });

  test.each([
    ['a key that is wrong', 401, { detail: 'No' }],
    ['an account without credit', 402, { detail: 'No' }],
    ['an exhausted balance', 403, { detail: 'User is locked. Reason: Exhausted balance.' }],
    ['a model that is not there', 404, { detail: 'Application not found' }],
  ])('at its submission by %s may be served by another provider', async (_name, status, body) => {
    const error = await failure(submit(status, body));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'provider_error', isProvidersOnly: true });
    expect(String(error)).not.toContain('Exhausted');
  });

  test.each([
    [500, 'internal_server_error'],
    [500, 'downstream_service_unavailable'],
    [400, 'downstream_service_error'],
    [502, 'runner_incomplete_response'],
    [503, 'runner_scheduling_failure'],
    [504, 'startup_timeout'],
  ] as const)('with %d %s is tried again', async (status, type) => {
    expect(await failure(checkEnded(status, { detail: 'It broke', error_type: type }))).toBeInstanceOf(RetryableError);
  });

  test('because its start took longer than we allowed is not tried again', async () => {
    const error = await failure(
      checkEnded(504, { detail: 'Late', error_type: 'request_timeout' }, { 'x-fal-request-timeout-type': 'user' }),
    );
    expect(error).toBeInstanceOf(TerminalError);
  });

  test('is told in the words of the model, with the parameter and without its value', async () => {
    expect(await failure(checkEnded(422, detail('greater_than', 'Input should be greater than 0', 'num_images')))).toMatchObject({
      message: 'num_images: Input should be greater than 0',
    });
  });

  test('is told in 300 characters, without the key', async () => {
    const error = await failure(checkEnded(422, detail('value_error', `${KEY} ${'x'.repeat(1000)}`)));
    expect(error).toMatchObject({ message: expect.stringMatching(/^prompt: … x{200,}…$/) });
    expect(String(error).length).toBeLessThan(350);
  });

  test.each([
    ['fail', 'provider_error'],
    ['refuse', 'content_refused'],
  ] as const)('at the simulator by "%s" ends with %s', async (fault, code) => {
    server.inject(fault);
    expect(await failure(finish(upstream, fox().run))).toMatchObject({ name: 'TerminalError', code });
  });

  test('for want of a prompt shows at its result', async () => {
    expect(await failure(finish(upstream, aRun({}, { model: MODEL }).run))).toMatchObject({
      code: 'invalid_input',
      message: 'prompt: Field required',
    });
  });
});

describe('a submission', () => {
  test('that is too much at once is tried again when the vendor says', async () => {
    server.inject('429');
    expect(await failure(upstream.start(fox().run))).toMatchObject({ name: 'RetryableError', retryAfterMs: 1000, mayHaveStarted: false });
    expect(server.submitted).toBe(0);
  });

  test.each([
    ['500', 'RetryableError', false],
    ['html', 'RetryableError', true],
    ['truncated', 'RetryableError', true],
  ] as const)('that is answered with "%s" is a %s, and may have started: %s', async (fault, name, mayHaveStarted) => {
    server.inject(fault);
    expect(await failure(upstream.start(fox().run))).toMatchObject({ name, mayHaveStarted });
  });

  test('of a proxy that lost the answer may have started; one that fal refused for want of runners has not', async () => {
    expect(await failure(submit(502, '<html>'))).toMatchObject({ mayHaveStarted: true });
    expect(await failure(submit(503, { detail: 'x', error_type: 'runner_scheduling_failure' }))).toMatchObject({ mayHaveStarted: false });
  });

  test('of an unknown model is not tried again', async () => {
    expect(await failure(upstream.start(aRun(FOX, { model: 'unknown/model' }).run))).toMatchObject({
      name: 'TerminalError',
      message: 'The provider does not know the model.',
    });
  });

  test('with another key is refused, and neither key is in the error', async () => {
    const other = open({ ...simulator.environment(server.url), FAL_KEY: 'wrong-id:wrong-secret' });
    const error = await failure(other.start(fox().run));
    expect(error).toBeInstanceOf(TerminalError);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toMatch(/wrong-secret|simulated-secret/);
  });

  test('without an id that can be asked for may have started', async () => {
    expect(await failure(submit(200, { request_id: '../../keys' }))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('that cannot reach the vendor has started nothing', async () => {
    const stopped = await simulator.start({ port: 0, runMs: 0 });
    await stopped[Symbol.asyncDispose]();
    const gone = open(simulator.environment(stopped.url));
    expect(await failure(gone.start(fox().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
  });

  test('ends with the reason of its signal', async () => {
    const reason = new Error('the worker stops');
    expect(await failure(upstream.start(aRun(FOX, { model: MODEL, signal: AbortSignal.abort(reason) }).run))).toBe(reason);
  });
});

describe('a look that fails leaves the run as it is', () => {
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

  test('also when the result is not there yet, or a proxy answers in its place', async () => {
    expect(await checkEnded(400, { detail: 'Request is still in progress' })).toMatchObject({ kind: 'running', handle: HANDLE });
    expect(await checkEnded(502, '<html>nginx</html>')).toMatchObject({ kind: 'running', handle: HANDLE });
  });

  test('also when the status is one that nobody knows', async () => {
    const stub = await answering({ [`${RUN_PATH}/status`]: { status: 200, body: { status: 'DREAMING' } } });
    expect(await stub.check(fox().run, HANDLE)).toMatchObject({ kind: 'running', handle: HANDLE });
  });

  test('but one that fal does not know is over', async () => {
    expect(await failure(upstream.check(fox().run, HANDLE))).toMatchObject({ name: 'TerminalError' });
  });
});

describe('a callback', () => {
  let receiver: CallbackReceiver;
  beforeEach(async () => {
    receiver = await receiveCallbacks();
  });
  afterEach(() => receiver[Symbol.asyncDispose]());

  const called = (parameters: JsonObject = FOX, given = {}) => aRun(parameters, { model: MODEL, callbackUrl: receiver.url, ...given });

  /** The callback of a new run, with what is needed to hand it over. */
  async function arrive(parameters: JsonObject = FOX) {
    const { run } = called(parameters);
    const step = await upstream.start(run);
    return { run, step, handle: handleOf(step), came: await receiver.arrival(1) };
  }

  test('is asked for in the address of the submission, and slows polling down', async () => {
    const { step } = await arrive();
    expect(server.requests[0]?.path).toBe(`/${MODEL}?fal_webhook=${encodeURIComponent(receiver.url)}`);
    expect(step).toMatchObject({ checkAfterMs: 30_000 });
  });

  test('that is signed ends the run, without another question', async () => {
    const { run, handle, came } = await arrive();
    const step = await upstream.receive?.(run, asCallback(came, handle));
    expect(step).toMatchObject({ kind: 'finished', output: { media: [{ contentType: 'image/png' }], seed: 7 } });
    expect(server.requests.map(({ method, path }) => `${method} ${path.split('?', 1)[0]}`)).toEqual([
      `POST /${MODEL}`,
      'GET /.well-known/jwks.json',
    ]);
  });

  test('of a failure throws what a look throws', async () => {
    server.inject('refuse');
    const { run, handle, came } = await arrive();
    expect(await failure(upstream.receive?.(run, asCallback(came, handle)))).toMatchObject({
      name: 'TerminalError',
      code: 'content_refused',
    });
  });

  test('that comes twice says the same twice, and the keys were fetched once', async () => {
    server.inject('double-callback');
    const { run, handle, came } = await arrive();
    const again = await receiver.arrival(2);
    const first = await upstream.receive?.(run, asCallback(came, handle));
    expect(await upstream.receive?.(run, asCallback(again, handle))).toEqual(first);
    expect(server.requests.filter(({ path }) => path.includes('jwks'))).toHaveLength(1);
  });

  test('with one other byte proves nothing, in the body or in any header that is signed', async () => {
    const { run, handle, came } = await arrive();
    const body = Buffer.from(came.body.toString().replace('"OK"', '"OJ"'));
    expect(body.equals(came.body)).toBe(false);
    expect(await upstream.receive?.(run, asCallback({ ...came, body }, handle))).toBeUndefined();
    const timestamp = String(Number(came.headers['x-fal-webhook-timestamp']) + 1);
    const changes = { 'request-id': 'x', 'user-id': 'x', timestamp, signature: '0'.repeat(128) };
    for (const [name, value] of Object.entries(changes)) {
      expect(await upstream.receive?.(run, asCallback(came, handle, { [`x-fal-webhook-${name}`]: value })), name).toBeUndefined();
    }
    expect(await upstream.receive?.(run, asCallback(came, handle))).toMatchObject({ kind: 'finished' });
  });

  test('that is older than five minutes proves nothing, and one that is a little younger does', async () => {
    const { handle, came } = await arrive();
    const later = (seconds: number) => called(FOX, { clock: { ...systemClock, now: () => systemClock.now() + seconds * 1000 } }).run;
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

  test('proves nothing while the keys cannot be had, and forged ones do not fetch them again and again', async () => {
    const { run, handle, came } = await arrive();
    const other = open({ ...simulator.environment(server.url), FAL_JWKS_URL: `${server.url}/files/keys` });
    for (let number = 0; number < 3; number += 1) expect(await other.receive?.(run, asCallback(came, handle))).toBeUndefined();
    expect(server.requests.filter(({ path }) => path === '/files/keys')).toHaveLength(1);
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

  test('answers 202 until a run is over, and 400 to whoever wants its result before', async () => {
    const { server: endless } = await startEndless();
    const headers = { authorization: `Key ${KEY}`, 'content-type': 'application/json' };
    const submitted = await fetch(`${endless.url}/${MODEL}`, { method: 'POST', headers, body: JSON.stringify(FOX) });
    const { status_url: statusUrl, response_url: responseUrl } = Object(await submitted.json());
    expect((await fetch(statusUrl, { headers })).status).toBe(202);
    expect((await fetch(responseUrl, { headers })).status).toBe(400);
    expect((await fetch(statusUrl)).status).toBe(401);
  });

  test('posts to nobody but this machine', async () => {
    const error = await failure(upstream.start(aRun(FOX, { model: MODEL, callbackUrl: 'https://example.com/hook' }).run));
    expect(error).toMatchObject({ code: 'invalid_input' });
    expect(server.submitted).toBe(0);
  });
});

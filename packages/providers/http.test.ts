import { createServer } from 'node:http';
import { type JsonObject, type JsonValue, type Run, systemClock, TerminalError, type Upstream } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { httpRoute } from './_http-route.ts';
import http from './http.ts';
import { openProviders } from './index.ts';
import simulator, { FILE_ROUTE, KEY, QUEUE_ROUTE } from './simulators/http.ts';
import type { Simulated } from './simulators/simulator.ts';
import { aRun, finish } from './testing/run.ts';

const RUN_MS = 20;
const FOX = { prompt: 'a fox' };

let server: Simulated;
let upstream: Upstream;

beforeEach(async () => {
  server = await simulator.start({ port: 0, runMs: RUN_MS });
  upstream = open(simulator.environment(server.baseUrl));
});
afterEach(() => server[Symbol.asyncDispose]());

function open(environment: Readonly<Record<string, string>>): Upstream {
  return openProviders([http], environment).upstreams.get('http') ?? expect.unreachable('http is on');
}

function routed(route: object = QUEUE_ROUTE, parameters: JsonObject = FOX, given: Partial<Omit<Run, 'parameters' | 'storeFile'>> = {}) {
  // As the catalog hands them on.
  const options: JsonObject = JSON.parse(JSON.stringify(httpRoute.parse(route)));
  return aRun(parameters, { model: 'studio/fox', options, ...given });
}

async function handleOf(run: Run, at = upstream): Promise<JsonValue> {
  const step = await at.start(run);
  return step.kind === 'running' ? step.handle : expect.unreachable('a queue does not answer with the result');
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    (value) => expect.unreachable(`it did not fail, but: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );

/** Another server for one test, which answers everything alike and keeps the paths that were asked for. */
async function startFixed(status: number, body: unknown, headers: Record<string, string> = { 'content-type': 'application/json' }) {
  const paths: string[] = [];
  const bodies: unknown[] = [];
  const fixed = createServer(async (request, response) => {
    paths.push(request.url ?? '');
    const sent = Buffer.concat(await request.toArray()).toString();
    bodies.push(sent === '' ? undefined : JSON.parse(sent));
    response.writeHead(status, headers).end(Buffer.isBuffer(body) ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => fixed.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void fixed.close());
  const address = fixed.address();
  const port = typeof address === 'object' && address ? address.port : expect.unreachable();
  return { paths, bodies, upstream: open({ HTTP_BASE_URL: `http://127.0.0.1:${port}`, HTTP_KEY: KEY }) };
}

describe('a queue', () => {
  test('is asked exactly as the route says, from the submission to the result', async () => {
    const { run } = routed();
    await finish(upstream, run);
    const [submit, ...others] = server.requests;
    expect([submit?.method, submit?.path, submit?.body]).toEqual(['POST', '/jobs', { input: FOX }]);
    expect(submit?.headers).toMatchObject({
      'x-key': KEY,
      'idempotency-key': run.idempotencyKey,
      'content-type': 'application/json',
    });
    const asked = others.map(({ method, path, body }) => `${method} ${path} ${body}`);
    expect(new Set(asked)).toEqual(new Set(['GET /jobs/job%201 ', 'GET /jobs/job%201/result ']));
    expect(asked.at(-1)).toBe('GET /jobs/job%201/result ');
  });

  test('gives links as they are, with what the expressions read', async () => {
    const { run, files } = routed();
    expect(await finish(upstream, run)).toEqual({
      media: [{ location: { url: `${server.url}/files/fox.png` }, contentType: 'image/png', fileName: 'fox.png', width: 1, height: 1 }],
      seed: 42,
      nsfw: [false],
    });
    expect(files).toEqual([]);
  });

  test('tells its progress, and a state of before is no reason to give up', async () => {
    server.inject('backwards');
    const { run } = routed();
    const handle = await handleOf(run);
    expect(await upstream.check(run, handle)).toMatchObject({ kind: 'running', progress: 0 });
    await expect.poll(() => upstream.check(run, handle), { interval: 1 }).toMatchObject({ kind: 'finished' });
  });

  test('is looked at as often as the route says, later less often, five seconds apart at most', async () => {
    const slow = { ...QUEUE_ROUTE, poll_seconds: 2 };
    const long = await simulator.start({ port: 0, runMs: 3_600_000 });
    onTestFinished(() => long[Symbol.asyncDispose]());
    const at = open(simulator.environment(long.baseUrl));
    const first = await at.start(routed(slow).run);
    expect(first).toMatchObject({ checkAfterMs: 2000 });
    const later = { now: () => systemClock.now() + 3_600_000, sleep: systemClock.sleep };
    const { run } = routed(slow, FOX, { clock: later });
    expect(await at.check(run, first.kind === 'running' ? first.handle : null)).toMatchObject({ checkAfterMs: 5000 });
  });

  test('is resumed by the handle by another worker, with one submission', async () => {
    const handle = await handleOf(routed().run);
    const other = open(simulator.environment(server.baseUrl));
    const resumed = routed().run;
    await expect.poll(() => other.check(resumed, handle), { interval: 1 }).toMatchObject({ kind: 'finished' });
    expect(server.submitted).toBe(1);
  });

  test('is told when a run is cancelled, also when it no longer knows it', async () => {
    const { run } = routed();
    const handle = await handleOf(run);
    await upstream.cancel?.(run, handle);
    await upstream.cancel?.(run, handle);
    expect(server.requests.at(-1)).toMatchObject({ method: 'DELETE', path: '/jobs/job%201' });
  });

  test.each([
    ['fail', { name: 'TerminalError', code: 'provider_error', message: 'out of paint' }],
    ['refuse', { name: 'TerminalError', code: 'content_refused', message: 'the prompt is against the rules' }],
  ] as const)('that ends with "%s" ends the job, with the sentence of the upstream', async (fault, error) => {
    server.inject(fault);
    expect(await failure(finish(upstream, routed().run))).toMatchObject(error);
  });

  test('that does not say how to find the run again may have started it', async () => {
    const { run } = routed({ ...QUEUE_ROUTE, handle: 'body.nothing' });
    expect(await failure(upstream.start(run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: true });
  });

  test('that tells of an unknown state is looked at again', async () => {
    const { run } = routed({ ...QUEUE_ROUTE, state: '"resting"' });
    const handle = await handleOf(run);
    expect(await upstream.check(run, handle)).toEqual({ kind: 'running', handle, checkAfterMs: 5000 });
  });

  test('is asked for the model where the route says so, in paths, headers and bodies', async () => {
    const fixed = await startFixed(200, { id: 'a' });
    const route = {
      ...QUEUE_ROUTE,
      submit: { path: '/run/{model}', headers: { 'x-model': '{model}' }, body: '{"model": model, "input": parameters}' },
      poll: { path: '/run/{model}/{handle}' },
      state: 'model = "studio/fox 2" ? "failed" : "running"',
    };
    const { run } = routed(route, FOX, { model: 'studio/fox 2' });
    const handle = await handleOf(run, fixed.upstream);
    expect(await failure(fixed.upstream.check(run, handle))).toMatchObject({ name: 'TerminalError' });
    expect(fixed.paths).toEqual(['/run/studio/fox%202', '/run/studio/fox%202/a']);
    expect(fixed.bodies[0]).toEqual({ model: 'studio/fox 2', input: FOX });
  });

  test.each(['../../admin', '..', 'a/b?c=d#e', 'http://127.0.0.1:1/'])('cannot lead requests elsewhere by calling a run %j', async (id) => {
    const fixed = await startFixed(200, { id, state: 'busy' });
    const { run } = routed({ ...QUEUE_ROUTE, submit: { path: '/jobs' }, poll: { path: '/jobs/{handle}' } });
    await fixed.upstream.check(run, await handleOf(run, fixed.upstream)).catch(() => undefined);
    expect(fixed.paths.every((path) => /^\/jobs(\/[^/?#]+)?$/.test(path) && !path.endsWith('..'))).toBe(true);
  });
});

describe('an upstream that answers with the result', () => {
  test('has its bytes stored when the route reads nothing out of them', async () => {
    const { run, files } = routed(FILE_ROUTE);
    expect(await upstream.start(run)).toMatchObject({
      kind: 'finished',
      output: { media: [{ location: { asset: 'file-1' }, contentType: 'image/png' }] },
    });
    expect(
      Buffer.from(files[0]?.bytes ?? [])
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    expect(server.requests[0]?.body).toEqual(FOX);
  });

  test('may put files inside of JSON, which go no further than the asset store', async () => {
    const png = await (await fetch(`${server.url}/files/fox.png`)).arrayBuffer();
    const base64 = Buffer.from(png).toString('base64');
    const fixed = await startFixed(200, { a: `data:image/png;base64,${base64}`, b: base64, c: 'https://example.com/c.webp' });
    const { run, files } = routed({ submit: { path: '/' }, outputs: '[body.a, {"data": body.b, "width": 3, "height": 4}, body.c]' });
    const step = await fixed.upstream.start(run);
    expect(step).toMatchObject({
      output: {
        media: [
          { location: { asset: 'file-1' }, contentType: 'image/png' },
          { location: { asset: 'file-2' }, contentType: 'image/png', width: 3, height: 4 },
          { location: { url: 'https://example.com/c.webp' }, contentType: 'image/webp' },
        ],
      },
    });
    expect(files).toHaveLength(2);
    expect(JSON.stringify(step)).not.toContain(base64.slice(0, 20));
  });

  test('may answer with words and other JSON', async () => {
    const fixed = await startFixed(200, { choices: [{ message: { content: 'Hello' } }], usage: { total: 3 } });
    const { run } = routed({ submit: { path: '/' }, text: 'body.choices[0].message.content', json: 'body.usage' });
    expect(await fixed.upstream.start(run)).toEqual({ kind: 'finished', output: { media: [], text: 'Hello', json: { total: 3 } } });
  });

  test('may tell how long it took and what it cost', async () => {
    const fixed = await startFixed(200, { text: 'Hello', ms: 1500, used: { in: 3, out: 5 }, cents: 2 });
    const route = { submit: { path: '/' }, text: 'body.text', timings: '{"run": body.ms / 1000, "queue": "?"}' };
    const usage = '{"input_tokens": body.used.in, "output_tokens": body.used.out, "seconds": body.ms / 1000, "usd": body.cents / 100}';
    expect(await finish(fixed.upstream, routed({ ...route, usage }).run)).toEqual({
      media: [],
      text: 'Hello',
      timings: { run: 1.5 },
      usage: { inputTokens: 3, outputTokens: 5, seconds: 1.5, usd: 0.02 },
    });
    expect(await finish(fixed.upstream, routed({ ...route, usage: '"much"' }).run)).not.toHaveProperty('usage');
  });

  test.each(['file:///etc/passwd', 'javascript:alert(1)', 7, { url: 'ftp://example.com/a' }])('has no file of %j', async (file) => {
    const fixed = await startFixed(200, { file });
    expect(await failure(fixed.upstream.start(routed({ submit: { path: '/' }, outputs: 'body.file' }).run))).toBeInstanceOf(TerminalError);
  });

  test('without a result is not asked again, as that would only be paid again', async () => {
    const fixed = await startFixed(200, {});
    expect(await failure(fixed.upstream.start(routed({ submit: { path: '/' }, outputs: 'body.file' }).run))).toMatchObject({
      name: 'TerminalError',
      code: 'provider_error',
    });
  });

  test.each(['text/html', 'application/json'])('of type %s has no file in its bytes', async (type) => {
    const fixed = await startFixed(200, { oops: true }, { 'content-type': type });
    expect(await failure(fixed.upstream.start(routed({ submit: { path: '/' } }).run))).toMatchObject({
      name: 'RetryableError',
      mayHaveStarted: true,
    });
  });
});

describe('errors', () => {
  test.each([
    ['429', { name: 'RetryableError', retryAfterMs: 1000 }],
    ['500', { name: 'RetryableError', mayHaveStarted: false }],
    ['html', { name: 'RetryableError', mayHaveStarted: true }],
    ['truncated', { name: 'RetryableError', mayHaveStarted: true }],
  ] as const)('%s at the submission can be tried again, and says whether a run may have begun', async (fault, error) => {
    server.inject(fault);
    expect(await failure(upstream.start(routed().run))).toMatchObject(error);
  });

  test.each([
    ['429', 1000],
    ['500', 5000],
    ['html', 5000],
    ['truncated', 5000],
  ] as const)('%s at a look leaves the run as it is', async (fault, checkAfterMs) => {
    const { run } = routed();
    const handle = await handleOf(run);
    server.inject(fault);
    expect(await upstream.check(run, handle)).toEqual({ kind: 'running', handle, checkAfterMs });
    await expect.poll(() => upstream.check(run, handle), { interval: 1 }).toMatchObject({ kind: 'finished' });
    expect(server.submitted).toBe(1);
  });

  test.each([404, 409, 425])('%d to a look leaves the run as it is, unless the route says that it is over', async (status) => {
    const fixed = await startFixed(status, { why: 'gone' });
    const handle = { reference: 'a', startedAt: 0 };
    const check = (error: string) => fixed.upstream.check(routed({ ...QUEUE_ROUTE, error }).run, handle);
    expect(await check('{"message": body.why}')).toMatchObject({ kind: 'running', handle });
    expect(await failure(check('{"message": body.why, "retry": false}'))).toMatchObject({ name: 'TerminalError', message: 'gone' });
  });

  test('a run that failed is run again when the route says that this can help', async () => {
    server.inject('fail');
    const { run } = routed({ ...QUEUE_ROUTE, error: '{"message": body.error.message, "retry": true}' });
    const handle = await handleOf(run);
    const ended = expect.poll(() => upstream.check(run, handle).catch((error: unknown) => error), { interval: 1 });
    await ended.toMatchObject({ name: 'RetryableError', message: 'out of paint', mayHaveStarted: false });
  });

  test('a page in the place of the result is looked at again', async () => {
    const { run } = routed();
    const handle = await handleOf(run);
    await expect.poll(async () => (await upstream.check(run, handle)).kind, { interval: 1 }).toBe('finished');
    const fixed = await startFixed(200, { state: 'done', percent: 100 });
    const pictures = routed({ ...QUEUE_ROUTE, result: { path: '/' }, outputs: 'body.pictures' }).run;
    expect(await failure(fixed.upstream.check(pictures, handle))).toMatchObject({ name: 'TerminalError', code: 'provider_error' });
    const { outputs: _outputs, ...file } = QUEUE_ROUTE;
    expect(await fixed.upstream.check(routed(file).run, handle)).toMatchObject({ kind: 'running', handle });
  });

  test('an answer that takes longer than the route allows can be tried again', async () => {
    server.inject('slow');
    const clock = { now: systemClock.now, sleep: (_ms: number, signal?: AbortSignal) => systemClock.sleep(10, signal) };
    expect(await failure(upstream.start(routed(QUEUE_ROUTE, FOX, { clock }).run))).toMatchObject({
      name: 'RetryableError',
      mayHaveStarted: true,
    });
  });

  test('parameters that are refused are the fault of the input', async () => {
    const error = { name: 'TerminalError', code: 'invalid_input', message: 'prompt must be text' };
    expect(await failure(upstream.start(routed(QUEUE_ROUTE, {}).run))).toMatchObject(error);
    const { error: _unread, ...route } = QUEUE_ROUTE;
    expect(await failure(upstream.start(routed(route, {}).run))).toMatchObject({
      code: 'invalid_input',
      message: 'The provider refused the request with status 422.',
    });
  });

  test('a refusal may say that trying again can help', async () => {
    const fixed = await startFixed(409, {});
    const route = { submit: { path: '/' }, error: '{"message": "Still warming up", "retry": true}' };
    expect(await failure(fixed.upstream.start(routed(route).run))).toMatchObject({ name: 'RetryableError', message: 'Still warming up' });
    const plain = { submit: { path: '/' } };
    expect(await failure(fixed.upstream.start(routed(plain).run))).toMatchObject({ name: 'TerminalError' });
  });

  test('a wrong key is not tried again, and never shown', async () => {
    upstream = open({ HTTP_BASE_URL: server.baseUrl, HTTP_KEY: 'another-key-entirely' });
    const error = await failure(upstream.start(routed().run));
    expect(error).toBeInstanceOf(TerminalError);
    expect(JSON.stringify([error, String(error)])).not.toContain('another-key-entirely');
  });

  test('a key that the upstream repeats is not shown', async () => {
    const fixed = await startFixed(400, { message: `who is ${KEY}?` });
    const route = { submit: { path: '/' }, error: 'body.message' };
    expect(await failure(fixed.upstream.start(routed(route).run))).toMatchObject({ message: 'who is …?' });
  });

  test.each([
    ['no options', undefined],
    ['options that nobody knows', { submit: { path: '/jobs' }, polls: {} }],
    ['an expression that fails', { submit: { path: '/jobs', body: '$error("no")' } }],
  ])('a route with %s is the operator’s to mend: nothing is sent, and another provider may serve', async (_what, options) => {
    const { run } = aRun(FOX, { ...(options && { options }) });
    expect(await failure(upstream.start(run))).toMatchObject({ name: 'TerminalError', code: 'internal', isProvidersOnly: true });
    expect(server.requests).toEqual([]);
  });

  test.each([
    [401, true],
    [402, true],
    [403, true],
    [404, true],
    [405, true],
    [410, true],
    [400, false],
    [418, false],
    [422, false],
  ])('a submission that is refused with %d may be served by another provider: %s', async (status, isProvidersOnly) => {
    const fixed = await startFixed(status, { error: { message: 'no', type: 'x' } });
    expect(await failure(fixed.upstream.start(routed().run))).toMatchObject({ name: 'TerminalError', isProvidersOnly });
    if (![401, 402, 403].includes(status)) {
      const { run } = routed({ submit: { path: '/' }, error: `{"fall_over": ${!isProvidersOnly}}` });
      expect(await failure(fixed.upstream.start(run))).toMatchObject({ isProvidersOnly: !isProvidersOnly });
    }
  });

  test('a route that needs a key that is not set says so, and nothing is sent', async () => {
    upstream = open({ HTTP_BASE_URL: server.baseUrl });
    expect(await failure(upstream.start(routed().run))).toMatchObject({
      name: 'TerminalError',
      message: expect.stringContaining('HTTP_KEY'),
      isProvidersOnly: true,
    });
    expect(server.requests).toEqual([]);
  });
});

describe('a route', () => {
  const faultsOf = (route: object) =>
    httpRoute.safeParse(route).error?.issues.map(({ path, message }) => `${path.join('.')} ${message}`) ?? [];
  const submit = { path: '/jobs' };

  test('is what model files are checked against', () => {
    expect(http.routeOptions).toBe(httpRoute);
  });

  test('is fine when it has a submission', () => {
    expect([faultsOf({ submit }), faultsOf(QUEUE_ROUTE), faultsOf(FILE_ROUTE)]).toEqual([[], [], []]);
  });

  test.each<[string, object, RegExp]>([
    ['an expression that cannot be compiled', { submit, outputs: 'body.(' }, /^outputs is not valid JSONata: /],
    ['looks without a handle and a state', { submit, poll: submit }, /^handle is needed by poll$/],
    ['a result without looks', { submit, result: submit }, /^poll is needed by result$/],
    ['a key in a path', { submit: { path: '/jobs?key={key}' } }, /^submit\.path may hold/],
    ['a handle in the submission', { submit: { path: '/jobs/{handle}' } }, /^submit cannot know the handle/],
    ['a path that is an address', { submit: { path: 'http://127.0.0.1/' } }, /^submit\.path must start with \//],
    ['a header of the connection', { submit: { ...submit, headers: { host: 'a' } } }, /is not for routes to choose/],
    ['a header with a line break', { submit: { ...submit, headers: { a: 'b\r\nc: d' } } }, /must be printable ASCII/],
    ['a member that nobody knows', { submit, polls: submit }, /polls/],
  ])('with %s is refused, with the place', (_what, route, fault) => {
    expect(faultsOf(route)).toContainEqual(expect.stringMatching(fault));
  });
});

describe('settings', () => {
  test('without an address it is off', () => {
    expect(openProviders([http], { HTTP_KEY: KEY }).off.get('http')).toBe('HTTP_BASE_URL is not set');
  });

  test('paths follow the address, whose slashes at the end are dropped', async () => {
    upstream = open({ HTTP_BASE_URL: `${server.baseUrl}/v1//`, HTTP_KEY: KEY });
    await upstream.start(routed().run).catch(() => undefined);
    expect(server.requests[0]?.path).toBe('/v1/jobs');
  });
});

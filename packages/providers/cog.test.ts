import {
  type Clock,
  type JsonObject,
  type JsonValue,
  RetryableError,
  type Run,
  type Step,
  systemClock,
  TerminalError,
  type Upstream,
} from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import cog from './cog.ts';
import { openProviders } from './index.ts';
import simulator, { type SimulatedCog, WEBHOOK_TOKEN } from './simulators/cog.ts';
import { asCallback, type CallbackReceiver, receiveCallbacks } from './testing/callbacks.ts';
import { aRun, finish } from './testing/run.ts';

const RUN_MS = 20;
const FOX = { prompt: 'a fox' };

let server: SimulatedCog;
let receiver: CallbackReceiver;
let upstream: Upstream;

beforeEach(async () => {
  [server, receiver] = [await simulator.start({ port: 0, runMs: RUN_MS }), await receiveCallbacks()];
  upstream = open(simulator.environment(server.baseUrl));
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
});

function open(environment: Readonly<Record<string, string>>): Upstream {
  return openProviders([cog], environment).upstreams.get('cog') ?? expect.unreachable('cog is on');
}

/** Another container than that of every test, as where runs must not end by themselves. */
async function startEndless(): Promise<{ server: SimulatedCog; upstream: Upstream } & AsyncDisposable> {
  const endless = await simulator.start({ port: 0, runMs: 3_600_000 });
  return {
    server: endless,
    upstream: open(simulator.environment(endless.baseUrl)),
    [Symbol.asyncDispose]: () => endless[Symbol.asyncDispose](),
  };
}

/** Starts a run and hands it over, which is what the first check does. */
async function submit(run: Run, to = upstream): Promise<Extract<Step, { kind: 'running' }>> {
  const started = await to.start(run);
  if (started.kind === 'finished') return expect.unreachable('a run has an id before it is sent');
  const sent = await to.check(run, started.handle);
  return sent.kind === 'running' ? sent : expect.unreachable('a run that calls back does not end at once');
}

function called(parameters: JsonObject = FOX) {
  return aRun(parameters, { callbackUrl: receiver.url });
}

const failure = (promise: Promise<unknown> | undefined) =>
  Promise.resolve(promise).then(
    (value) => expect.unreachable(`it did not fail, but: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );

describe('a run that the container tells of', () => {
  test('is sent once with an id of ours, the parameters as they are, and the webhook', async () => {
    const { run } = called({ prompt: 'a fox', steps: 4 });
    await submit(run);
    const [request, ...others] = server.requests;
    expect(others).toEqual([]);
    expect(request).toMatchObject({
      method: 'PUT',
      path: expect.stringMatching(new RegExp(`^/predictions/${run.idempotencyKey}-[0-9a-f-]{36}$`)),
    });
    expect(request?.headers).toMatchObject({ prefer: 'respond-async', 'content-type': 'application/json' });
    expect(request?.headers).not.toHaveProperty('authorization');
    expect(request?.body).toEqual({
      id: request?.path.split('/').at(-1),
      input: { prompt: 'a fox', steps: 4 },
      webhook: receiver.url,
      webhook_events_filter: ['completed'],
    });
  });

  test('is told of while it writes words, each time with all that has come', async () => {
    const { run } = aRun({}, { callbackUrl: receiver.url, produces: 'text' });
    const { handle } = await submit(run);
    expect(server.requests[0]?.body).toMatchObject({ webhook_events_filter: ['output', 'logs', 'completed'] });
    const { headers, body } = await receiver.arrival(1);
    const snapshot = { ...JSON.parse(body.toString()), status: 'processing', output: ['Hello', ', '] };
    const step = await upstream.receive?.(run, asCallback({ headers, body: Buffer.from(JSON.stringify(snapshot)) }, handle));
    expect(step).toMatchObject({ kind: 'running', handle, partialText: 'Hello, ' });
  });

  test('is not sent before its handle could be saved', async () => {
    const step = await upstream.start(called().run);
    expect([step.kind, step.kind === 'running' && step.checkAfterMs, server.requests]).toEqual(['running', 0, []]);
  });

  test('is looked at every thirty seconds only', async () => {
    expect((await submit(called().run)).checkAfterMs).toBe(30_000);
  });

  test('finishes with its picture in the asset store, and no data URI goes further', async () => {
    const { run, files } = called();
    const { handle } = await submit(run);
    const step = await upstream.receive?.(run, asCallback(await receiver.arrival(1), handle));
    expect(step).toMatchObject({ kind: 'finished', output: { media: [{ location: { asset: 'file-1' }, contentType: 'image/png' }] } });
    expect(
      Buffer.from(files[0]?.bytes ?? [])
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    expect(JSON.stringify(step)).not.toContain('data:');
  });

  test('finishes with the words of a language model', async () => {
    const { run } = called({});
    const { handle } = await submit(run);
    const step = await upstream.receive?.(run, asCallback(await receiver.arrival(1), handle));
    expect(step).toEqual({
      kind: 'finished',
      output: {
        media: [],
        text: 'Hello, world',
        timings: { predict_time: expect.any(Number) },
        usage: { seconds: expect.any(Number) },
      },
      logs: ['drawing'],
    });
  });

  test.each(['fail', 'refuse'] as const)('that failed (%s) is not tried again, and says what the model said', async (fault) => {
    server.inject(fault);
    const { run } = called();
    const { handle } = await submit(run);
    const error = await failure(upstream.receive?.(run, asCallback(await receiver.arrival(1), handle)));
    expect(error).toBeInstanceOf(TerminalError);
    expect(error).toMatchObject({
      code: 'provider_error',
      message: expect.stringMatching(fault === 'fail' ? /^CUDA out of memory$/ : /^NSFW/),
    });
  });

  test('that was cancelled at the container has failed', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const { handle } = await submit(run, endless.upstream);
    await endless.upstream.cancel?.(run, handle);
    const error = await failure(upstream.receive?.(run, asCallback(await receiver.arrival(1), handle)));
    expect([error instanceof TerminalError, endless.server.requests.at(-1)?.path]).toEqual([
      true,
      expect.stringMatching(/^\/predictions\/[\w-]+\/cancel$/),
    ]);
  });

  test('is resumed by its handle without a second run, also when the answer to its submission was lost with the worker', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const started = await endless.upstream.start(run);
    if (started.kind === 'finished') return expect.unreachable();
    await endless.upstream.check(run, started.handle);
    const other = open(simulator.environment(endless.server.baseUrl));
    const again = await other.check(run, started.handle);
    expect(again).toMatchObject({ kind: 'running', handle: { isTaken: true } });
    if (again.kind === 'running') expect(await other.check(run, again.handle)).toMatchObject({ kind: 'running', handle: { looks: 0 } });
    expect(endless.server.submitted).toBe(1);
  });
});

describe('a webhook', () => {
  async function delivered() {
    const { run, files } = called();
    const { handle } = await submit(run);
    return { run, files, handle, callback: await receiver.arrival(1) };
  }

  test('with another token, or none, proves nothing', async () => {
    const { run, handle, callback } = await delivered();
    expect(callback.headers.authorization).toBe(`Bearer ${WEBHOOK_TOKEN}`);
    for (const authorization of [`Bearer ${WEBHOOK_TOKEN}x`, `Bearer x${WEBHOOK_TOKEN.slice(1)}`, WEBHOOK_TOKEN, undefined]) {
      expect(await upstream.receive?.(run, asCallback(callback, handle, { authorization }))).toBeUndefined();
    }
  });

  test('needs no token when none is set', async () => {
    const { run, handle, callback } = await delivered();
    const tokenless = open({ COG_BASE_URL: server.baseUrl });
    expect(await tokenless.receive?.(run, asCallback(callback, handle, { authorization: undefined }))).toMatchObject({ kind: 'finished' });
  });

  test('with one byte of the id changed, of another run, or before there is a handle proves nothing', async () => {
    const { run, files, handle, callback } = await delivered();
    const forged = Buffer.from(callback.body);
    const at = forged.indexOf('"id":"') + 8;
    forged[at] = (forged[at] ?? 0) ^ 1;
    expect(await upstream.receive?.(run, asCallback({ ...callback, body: forged }, handle))).toBeUndefined();
    const stale = await upstream.start(run);
    if (stale.kind === 'running') expect(await upstream.receive?.(run, asCallback(callback, stale.handle))).toBeUndefined();
    expect(await upstream.receive?.(run, asCallback(callback, undefined))).toBeUndefined();
    expect(files).toEqual([]);
  });

  test.each(['', 'not json', '[]', '{"id":7}'])('with the body %j proves nothing', async (text) => {
    const { run, handle, callback } = await delivered();
    expect(await upstream.receive?.(run, asCallback({ ...callback, body: Buffer.from(text) }, handle))).toBeUndefined();
  });

  test('that comes twice says the same twice', async () => {
    server.inject('double-callback');
    const { run } = called({});
    const { handle } = await submit(run);
    const steps = [await receiver.arrival(1), await receiver.arrival(2)].map((callback) =>
      upstream.receive?.(run, asCallback(callback, handle)),
    );
    const [first, second] = await Promise.all(steps);
    expect(first).toMatchObject({ kind: 'finished' });
    expect(second).toEqual(first);
  });

  test('of a state before the end ends nothing, also when it comes after the end', async () => {
    server.inject('backwards');
    const { run } = called();
    const { handle } = await submit(run);
    const late = await receiver.arrival(2);
    expect(late.body.toString()).toContain('"processing"');
    expect(await upstream.receive?.(run, asCallback(late, handle))).toMatchObject({ kind: 'running', handle });
  });
});

describe('a look at a run whose webhook does not come', () => {
  /** Looks until the run is given up or `times` are over. */
  async function looks(to: Upstream, run: Run, first: JsonValue, times: number): Promise<JsonValue> {
    let handle = first;
    for (let time = 0; time < times; time += 1) {
      const step = await to.check(run, handle);
      handle = step.kind === 'running' ? step.handle : expect.unreachable('nothing but a webhook ends it');
    }
    return handle;
  }

  test('never starts a run that is under way once more, however often it is looked at', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const { handle } = await submit(run, endless.upstream);
    expect(await looks(endless.upstream, run, handle, 6)).toMatchObject({ looks: 0 });
    expect(endless.server.submitted).toBe(1);
    const asked = endless.server.requests.filter(({ method }) => method === 'PUT').slice(1);
    expect(asked.every(({ body }) => !JSON.stringify(body).includes('webhook'))).toBe(true);
  });

  test('takes a run for lost after four looks without a trace, and what that has started is cancelled at once', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const { handle } = await submit(run, endless.upstream);
    endless.server.restart();
    const last = await looks(endless.upstream, run, handle, 3);
    expect(endless.server.submitted).toBe(1);
    expect(await failure(endless.upstream.check(run, last))).toBeInstanceOf(RetryableError);
    expect(endless.server.requests.at(-1)?.path).toMatch(/\/cancel$/);
  });

  test('does not find the result of a run whose webhook was lost, which is tried again', async () => {
    server.inject('lost-callback');
    const { run } = called();
    const { handle } = await submit(run);
    await expect.poll(async () => (await fetch(`${server.url}/health-check`)).json(), { interval: 5 }).toMatchObject({ status: 'READY' });
    const last = await looks(upstream, run, handle, 3);
    expect(await failure(upstream.check(run, last))).toMatchObject({ name: 'RetryableError' });
    expect(receiver.received).toEqual([]);
  });

  test('that fails is only a look without a trace, as giving up would run the model again', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const { handle } = await submit(run, endless.upstream);
    endless.server.inject('500', 2);
    endless.server.inject('truncated');
    expect(await looks(endless.upstream, run, handle, 3)).toMatchObject({ looks: 3 });
    expect(await looks(endless.upstream, run, { ...(handle as JsonObject), looks: 3 }, 1)).toMatchObject({ looks: 0 });
  });

  test('that tells of an earlier state than before is no reason to give up', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const { handle } = await submit(run, endless.upstream);
    endless.server.inject('backwards');
    expect(await looks(endless.upstream, run, handle, 1)).toMatchObject({ looks: 0 });
  });

  test('tells what it has printed', async () => {
    await using endless = await startEndless();
    const { run } = called();
    const { handle } = await submit(run, endless.upstream);
    expect(await endless.upstream.check(run, handle)).toMatchObject({ kind: 'running', logs: ['drawing'] });
  });
});

describe('a run that is waited for', () => {
  test('is sent without Prefer and webhook, and ends with the answer', async () => {
    const { run, files } = aRun(FOX);
    expect(await finish(upstream, run)).toMatchObject({ media: [{ location: { asset: 'file-1' } }] });
    expect([files.length, server.submitted]).toEqual([1, 1]);
    const [request] = server.requests;
    expect(request?.headers).not.toHaveProperty('prefer');
    expect(request?.body).toEqual({ id: expect.any(String), input: FOX });
  });

  test('is judged by its status, as failures are answered with 200', async () => {
    server.inject('fail');
    expect(await failure(finish(upstream, aRun(FOX).run))).toMatchObject({ name: 'TerminalError', message: 'CUDA out of memory' });
  });

  test('is cancelled by the container when its worker leaves', async () => {
    await using endless = await startEndless();
    const leaving = new AbortController();
    const { run } = aRun(FOX, { signal: leaving.signal });
    const finished = failure(finish(endless.upstream, run));
    await expect.poll(() => endless.server.submitted, { interval: 5 }).toBe(1);
    leaving.abort(new Error('the worker stops'));
    expect(await finished).toBe(leaving.signal.reason);
    await expect
      .poll(async () => (await fetch(`${endless.server.url}/health-check`)).json(), { interval: 5 })
      .toMatchObject({ status: 'READY' });
  });

  test('fails for good when it takes longer than a connection can be kept, with the way out', async () => {
    await using endless = await startEndless();
    const clock = leaping();
    const error = await failure(finish(endless.upstream, aRun(FOX, { clock }).run));
    expect(error).toMatchObject({ name: 'TerminalError', code: 'timeout', message: expect.stringContaining('PUBLIC_URL') });
  });
});

describe('a container without a free slot', () => {
  test('is no failure: the run waits and asks for the state, not with its input, and longer each time', async () => {
    await using endless = await startEndless();
    await submit(called().run, endless.upstream);
    const second = called();
    let step = await submit(second.run, endless.upstream);
    const pauses = [step.checkAfterMs];
    for (let look = 0; look < 6; look += 1) {
      const next = await endless.upstream.check(second.run, step.handle);
      step = next.kind === 'running' ? next : expect.unreachable();
      pauses.push(step.checkAfterMs);
    }
    expect(pauses).toEqual([1000, 2000, 3000, 4000, 5000, 5000, 5000]);
    expect(endless.server.requests.filter(({ method }) => method === 'PUT')).toHaveLength(2);
    endless.server.restart();
    expect(await endless.upstream.check(second.run, step.handle)).toMatchObject({ handle: { isTaken: true, looks: 0 } });
  });

  test.each(['UNKNOWN', 'STARTING', 'UNHEALTHY'] as const)('because it is %s is waited for', async (health) => {
    server.setHealth(health);
    const { run } = called();
    const { handle } = await submit(run);
    expect(await upstream.check(run, handle)).toMatchObject({ kind: 'running', handle: { isTaken: false } });
    server.setHealth(undefined);
    expect(await upstream.check(run, handle)).toMatchObject({ kind: 'running', handle: { isTaken: true } });
  });

  test.each([
    ['SETUP_FAILED', { name: 'TerminalError', isProvidersOnly: true }],
    ['DEFUNCT', { name: 'RetryableError' }],
  ] as const)('because it is %s ends the attempt', async (health, error) => {
    server.setHealth(health);
    const { run } = called();
    const { handle } = await submit(run);
    expect(await failure(upstream.check(run, handle))).toMatchObject(error);
  });
});

describe('errors', () => {
  test.each([
    ['by the schema', { prompt: 7 }, 'The model refused the input: prompt: Input should be a valid string'],
    ['by the runner', { prompt: 'a fox', steps: 51 }, 'The model refused the input: steps must be 50 at most'],
  ])('an input that is refused %s is not sent again', async (_by, parameters, message) => {
    expect(await failure(submit(called(parameters).run))).toMatchObject({ name: 'TerminalError', code: 'invalid_input', message });
  });

  test.each([
    ['429', { name: 'RetryableError', retryAfterMs: 1000 }],
    ['500', { name: 'RetryableError', mayHaveStarted: false }],
  ] as const)('%s ends the attempt, which can be tried again', async (fault, error) => {
    server.inject(fault);
    expect(await failure(submit(called().run))).toMatchObject(error);
  });

  test.each(['truncated', 'html'] as const)(
    'an answer to the submission that is %s is asked for again under the same id',
    async (fault) => {
      await using endless = await startEndless();
      endless.server.inject(fault);
      const { run } = called();
      const { handle } = await submit(run, endless.upstream).catch(() => expect.unreachable('it ended the attempt'));
      expect(handle).toMatchObject({ isTaken: false, breaks: 1 });
      expect(await endless.upstream.check(run, handle)).toMatchObject({ kind: 'running', handle: { isTaken: true } });
      expect(endless.server.submitted).toBe(1);
    },
  );

  test('a third broken connection ends the attempt', async () => {
    server.inject('truncated', 3);
    const { run } = called();
    const { handle } = await submit(run);
    const step = await upstream.check(run, handle);
    expect(await failure(upstream.check(run, step.kind === 'running' ? step.handle : null))).toBeInstanceOf(RetryableError);
  });

  test('an answer that takes too long is one that broke', async () => {
    server.inject('slow');
    expect(await submit(called(FOX).run, withClock(leaping()))).toMatchObject({ handle: { breaks: 1 } });
  });

  test('a server that is away ends the attempt, which can be tried again', async () => {
    await server[Symbol.asyncDispose]();
    expect(await failure(submit(called().run))).toMatchObject({ name: 'RetryableError', mayHaveStarted: false });
    server = await simulator.start({ port: 0, runMs: RUN_MS });
  });

  test('an address that is no Cog server is not asked again', async () => {
    upstream = open({ COG_BASE_URL: `${server.baseUrl}/elsewhere` });
    expect(await failure(submit(called().run))).toMatchObject({
      name: 'TerminalError',
      code: 'provider_error',
      isProvidersOnly: true,
    });
  });

  test('cancelling what has ended, or was never sent, harms nobody', async () => {
    const { run } = called();
    const { handle } = await submit(run);
    await receiver.arrival(1);
    expect(await upstream.cancel?.(run, handle)).toBeUndefined();
  });

  test('no error shows the token', async () => {
    server.inject('500');
    const error = await failure(submit(called().run));
    expect(JSON.stringify([error, String(error)])).not.toContain(WEBHOOK_TOKEN);
  });

  /** The upstream of the test with another clock for all its runs. */
  function withClock(clock: Clock): Upstream {
    return { start: (run) => upstream.start({ ...run, clock }), check: (run, handle) => upstream.check({ ...run, clock }, handle) };
  }
});

describe('settings', () => {
  test('without an address it is off', () => {
    expect(openProviders([cog], {}).off.get('cog')).toBe('COG_BASE_URL is not set');
  });

  test('slashes at the end of the address are dropped', async () => {
    upstream = open({ COG_BASE_URL: `${server.baseUrl}//` });
    await submit(called().run);
    expect(server.requests[0]?.path).toMatch(/^\/predictions\//);
  });

  test.each([
    ['COG_BASE_URL', 'ftp://127.0.0.1'],
    ['COG_CONCURRENCY', '0'],
  ])('a %s of %s is refused at the start', (name, value) => {
    expect(() => openProviders([cog], { COG_BASE_URL: 'http://127.0.0.1', [name]: value })).toThrow(name);
  });
});

/** A clock on which every wait is over at once, once the call that it limits is under way. */
function leaping(): Clock {
  let now = 0;
  return {
    now: () => now,
    async sleep(ms, signal) {
      await systemClock.sleep(10, signal);
      now += ms;
    },
  };
}

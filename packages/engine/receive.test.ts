import { type Callback, type Model, RetryableError, type Run, type Step, TerminalError, type Upstream } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Receive } from './index.ts';
import { aCatalog, aModel, anUpstream, aSubmission, OUTPUT, PROVIDER, type RecordingUpstream, running } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;
const PUBLIC_URL = 'https://queue.example';
const FINISHED: Step = { kind: 'finished', output: OUTPUT };
const MODEL: Model = { ...aModel, routes: [...aModel.routes, { provider: 'other', model: 'other/model' }] };

let owned: TestEngine;
let upstream: RecordingUpstream;
let receive: Receive;
/** What the adapter makes of a call: told by its body, as `{"secret":"right","tell":…}`. */
async function read(_run: Run, { body, handle }: Callback): Promise<Step | undefined> {
  const { secret, tell } = JSON.parse(Buffer.from(body).toString());
  if (secret !== 'right' || handle === undefined) return undefined;
  if (tell === 'retry') throw new RetryableError('The run broke.');
  if (tell === 'final') throw new TerminalError('The run was refused.', { code: 'content_refused' });
  return tell === 'half' ? { kind: 'running', handle, checkAfterMs: 1, progress: 0.5 } : FINISHED;
}

beforeEach(async () => {
  owned = await createTestEngine();
  owned.startSweep();
  upstream = anUpstream({ start: () => Promise.resolve(running('a run')), receive: read });
  receive = startWith(upstream);
});
afterEach(() => owned[Symbol.asyncDispose]());

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

function startWith(testing: Upstream, other: Upstream = anUpstream()): Receive {
  const upstreams = new Map([
    [PROVIDER, testing],
    ['other', other],
  ]);
  const catalog = aCatalog(MODEL);
  const worker = owned.engine.startWorker({ workerId: 'a worker', upstreams, catalog, publicUrl: PUBLIC_URL });
  stops.push(() => worker.stop());
  return owned.engine.openReceiver({ upstreams, catalog, sandbox: 'off' });
}

const submit = async () => (await owned.engine.submit(aSubmission(owned.callerId))).id;
const end = (id: string) => owned.engine.wait({ id, callerId: owned.callerId }, WAIT);
const call = (token: string, body: object, provider = PROVIDER) => {
  const readBody = () => Promise.resolve(Buffer.from(JSON.stringify(body)));
  return receive({ provider, token, header: () => undefined, readBody }, new AbortController().signal);
};

/** A job whose run is under way; its token and its number of calls. */
async function underWay() {
  const id = await submit();
  const handleOf = async () =>
    (await owned.sql<{ handle: string }[]>`select handle from attempts where job_id = ${id} order by number desc`)[0]?.handle;
  await expect.poll(handleOf).toBe('"a run"');
  const { run } = upstream.calls.find((one) => one.run.jobId === id) ?? {};
  return { id, url: run?.callbackUrl ?? '', token: run?.callbackUrl?.split('/').at(-1) ?? '' };
}

test('a run is given an address of its own to be told of', async () => {
  const one = await underWay();
  const another = await underWay();
  expect(one.url).toMatch(/^https:\/\/queue\.example\/callbacks\/testing\/[A-Za-z0-9_-]{43}$/);
  expect(another.token).not.toBe(one.token);
});

test('a call ends its job at once, and the worker lets go without stopping the run', async () => {
  const { id, token } = await underWay();
  expect(await call(token, { secret: 'right' })).toBe('taken');
  expect(await end(id)).toMatchObject({ state: 'COMPLETED', output: OUTPUT, attempt: 1 });
  await expect
    .poll(() => owned.logged.some(({ message, fields }) => message === 'attempt stopped' && 'reason' in fields && fields.reason === 'lost'))
    .toBe(true);
  expect(upstream.verbs(id)).toEqual(['start']);
});

test('calls that come twice, late or from strangers change nothing', async () => {
  const { id, token } = await underWay();
  expect(await call(token, { secret: 'wrong' })).toBe('ignored');
  expect(await call(token, { secret: 'right' }, 'other')).toBe('unknown');
  expect(await call('x'.repeat(43), { secret: 'right' })).toBe('unknown');
  expect(await call('..', { secret: 'right' })).toBe('unknown');
  expect((await owned.engine.read({ id, callerId: owned.callerId }))?.state).toBe('PROCESSING');
  expect(await Promise.all([call(token, { secret: 'right' }), call(token, { secret: 'right', tell: 'final' })])).toContain('taken');
  const ended = await end(id);
  expect(await call(token, { secret: 'right', tell: 'half' })).toBe('ignored');
  expect(await owned.engine.read({ id, callerId: owned.callerId })).toEqual(ended);
  const events =
    await owned.sql`select state from job_events where job_id = ${id} and type = 'status' and state in ('COMPLETED', 'FAILED')`;
  expect(events).toHaveLength(1);
});

test('a call that races with a look has one winner', async () => {
  for (const stop of stops.splice(0)) await stop();
  upstream = anUpstream({ start: () => Promise.resolve(running('a run', 0)), check: () => Promise.resolve(FINISHED), receive: read });
  receive = startWith(upstream);
  const ids = await Promise.all(Array.from({ length: 20 }, submit));
  const calls = ids.map(async (id) => {
    await expect.poll(() => upstream.verbs(id)).toContain('start');
    const token =
      upstream.calls
        .find(({ run }) => run.jobId === id)
        ?.run.callbackUrl?.split('/')
        .at(-1) ?? '';
    return call(token, { secret: 'right' });
  });
  for (const answer of await Promise.all(calls)) expect(['taken', 'ignored', 'later']).toContain(answer);
  for (const id of ids) expect(await end(id)).toMatchObject({ state: 'COMPLETED', attempt: 1 });
  const ends = await owned.sql`select job_id from job_events where type = 'status' and state = 'COMPLETED'`;
  expect(ends).toHaveLength(20);
});

test('progress is heard', async () => {
  const { id, token } = await underWay();
  expect(await call(token, { secret: 'right', tell: 'half' })).toBe('taken');
  expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ state: 'PROCESSING', progress: 0.5 });
});

describe('a run that failed', () => {
  test('for good fails its job', async () => {
    const { id, token } = await underWay();
    expect(await call(token, { secret: 'right', tell: 'final' })).toBe('taken');
    expect(await end(id)).toMatchObject({ state: 'FAILED', failure: { code: 'content_refused', message: 'The run was refused.' } });
  });

  test('for now is tried again elsewhere, and its worker lets go', async () => {
    const { id, token } = await underWay();
    expect(await call(token, { secret: 'right', tell: 'retry' })).toBe('taken');
    expect(await end(id)).toMatchObject({ state: 'COMPLETED', provider: 'other', attempt: 2 });
    expect(await call(token, { secret: 'right' })).toBe('ignored');
    expect(upstream.verbs(id)).toEqual(['start']);
  });
});

test('a call between two attempts is asked for again, and the next attempt is told at the same address', async () => {
  const { id, token } = await underWay();
  for (const stop of stops.splice(0)) await stop();
  expect((await owned.engine.read({ id, callerId: owned.callerId }))?.state).toBe('QUEUED');
  expect(await call(token, { secret: 'right' })).toBe('later');
  upstream = anUpstream({ check: () => Promise.resolve(running('a run')), receive: read });
  receive = startWith(upstream);
  await expect.poll(() => upstream.verbs(id)).toEqual(['check']);
  expect(upstream.calls[0]?.run.callbackUrl).toContain(token);
  expect(await call(token, { secret: 'right' })).toBe('taken');
  expect(await end(id)).toMatchObject({ state: 'COMPLETED', attempt: 2 });
});

test('nobody is asked to call a service that has no public address, or an adapter that hears nothing', async () => {
  for (const stop of stops.splice(0)) await stop();
  const deaf = anUpstream();
  startWith(deaf);
  await end(await submit());
  expect(deaf.calls[0]?.run.callbackUrl).toBeUndefined();
  expect(await owned.sql`select callback_token from attempts where callback_token is not null`).toEqual([]);
});

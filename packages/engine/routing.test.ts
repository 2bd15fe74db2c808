import { type Model, RetryableError, type Run, type Step, TerminalError, type Upstream } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aCatalog, aModel, anUpstream, aSubmission, OUTPUT, type RecordingUpstream, running } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;
const busy = () => Promise.reject(new RetryableError('It is busy.'));
const MODEL: Model = {
  ...aModel,
  routes: ['first', 'second', 'third'].map((provider) => ({ provider, model: `${provider}/model` })),
  retry: { ...aModel.retry, attempts: 5 },
};

const twice: Model = { ...MODEL, retry: { ...MODEL.retry, attempts: 2 } };

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine({ queue: 'postgres' });
  owned.startSweep();
});
afterEach(() => owned[Symbol.asyncDispose]());

interface Started {
  readonly upstreams: ReadonlyMap<string, RecordingUpstream>;
  /** The providers that were asked to start a job, in order. */
  startedAt(jobId: string): string[];
}

/** A worker with these providers; those that are told nothing finish at once. */
function start(behaviours: Readonly<Record<string, Partial<Upstream>>>, model: Model = MODEL): Started {
  const asked: { jobId: string; provider: string }[] = [];
  const upstreams = new Map(
    Object.entries(behaviours).map(([provider, behaviour]) => {
      const start = (run: Run): Promise<Step> => {
        asked.push({ jobId: run.jobId, provider });
        return behaviour.start?.(run) ?? Promise.resolve({ kind: 'finished', output: OUTPUT });
      };
      return [provider, anUpstream({ ...behaviour, start })];
    }),
  );
  const worker = owned.engine.startWorker({ workerId: 'a worker', upstreams, catalog: aCatalog(model) });
  disposers.push(() => worker.stop());
  return { upstreams, startedAt: (jobId) => asked.filter((one) => one.jobId === jobId).map(({ provider }) => provider) };
}
const disposers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const dispose of disposers.splice(0)) await dispose();
});

const submit = (set = {}) => owned.engine.submit(aSubmission(owned.callerId, { provider: 'first', ...set }));
const end = (id: string) => owned.engine.wait({ id, callerId: owned.callerId }, WAIT);
const healthOf = async (provider: string) =>
  (
    await owned.sql`select failures, out_reason, out_seconds, out_until > db_now() as is_out from provider_health where provider = ${provider}`
  )[0];
/** As if the time for which a provider is left alone had passed. */
const endOutage = (provider: string) => owned.sql`
  with changed as (update provider_health set out_until = db_now() - interval '1 second' where provider = ${provider} returning provider)
  select pg_notify('claimcheck_providers', provider) from changed`;
/** Lets the breaker of a provider open. */
async function shutOut(provider: string) {
  await owned.sql`insert into provider_health (provider, failures, out_reason, out_until, out_seconds)
    values (${provider}, 5, 'failing', db_now() + interval '1 hour', 60)`;
  await owned.sql`select pg_notify('claimcheck_providers', ${provider})`;
  const router = owned.engine.openRouter({
    catalog: aCatalog(MODEL),
    available: new Set(['first', 'second', 'third']),
    off: new Map(),
    sandbox: 'off',
  });
  await expect.poll(() => router.list(MODEL).find(({ route }) => route.provider === provider)?.isAvailable).toBe(false);
}

describe('a failed attempt', () => {
  test('that can be retried falls over to the next route, and every attempt is told', async () => {
    const { startedAt } = start({ first: { start: busy }, second: {}, third: {} });
    const { id } = await submit();
    const job = await end(id);
    expect(startedAt(id)).toEqual(['first', 'second']);
    expect(job).toMatchObject({
      state: 'COMPLETED',
      provider: 'second',
      attempts: [
        {
          number: 1,
          provider: 'first',
          model: 'first/model',
          outcome: 'failed',
          failure: { code: 'provider_error', message: 'It is busy.' },
        },
        { number: 2, provider: 'second', model: 'second/model', outcome: 'succeeded' },
      ],
    });
  });

  test('comes back to the routes that failed once all have, until its attempts are used up', async () => {
    const { startedAt } = start({ first: { start: busy }, second: { start: busy }, third: { start: busy } });
    const { id } = await submit();
    expect(await end(id)).toMatchObject({ state: 'FAILED', attempt: 5, failure: { message: 'It is busy.' } });
    expect(startedAt(id)).toEqual(['first', 'second', 'third', 'first', 'second']);
  });

  test('that is final ends the job', async () => {
    const { startedAt } = start({
      first: { start: () => Promise.reject(new TerminalError('No.', { code: 'content_refused' })) },
      second: {},
    });
    const { id } = await submit();
    expect(await end(id)).toMatchObject({ state: 'FAILED', failure: { code: 'content_refused' } });
    expect(startedAt(id)).toEqual(['first']);
  });

  test('for which only the provider is to blame falls over once to each of the others', async () => {
    const refuse = () => Promise.reject(new TerminalError('It refused the key.', { isProvidersOnly: true }));
    const { startedAt } = start({ first: { start: refuse }, second: { start: refuse } });
    const { id } = await submit();
    expect(await end(id)).toMatchObject({ state: 'FAILED', failure: { message: 'It refused the key.' } });
    expect(startedAt(id)).toEqual(['first', 'second']);
  });

  test('of a client who insists on the provider stays there', async () => {
    const { startedAt } = start({ first: { start: busy }, second: {} }, twice);
    const { id } = await submit({ isPinned: true });
    expect(await end(id)).toMatchObject({ state: 'FAILED', provider: 'first' });
    expect(startedAt(id)).toEqual(['first', 'first']);
  });

  test('whose run may go on somewhere is counted when another provider is asked', async () => {
    start({ first: { start: () => Promise.reject(new RetryableError('It broke.', { mayHaveStarted: true })) }, second: {} });
    const { id } = await submit();
    expect(await end(id)).toMatchObject({ state: 'COMPLETED', provider: 'second', resubmits: 1 });
  });
});

describe('a provider that keeps failing', () => {
  test('is left alone, tried by one attempt when its time is over, and used again', async () => {
    let isDown = true;
    const { startedAt } = start({
      first: { start: () => (isDown ? busy() : Promise.resolve({ kind: 'finished', output: OUTPUT })) },
      second: {},
    });
    for (const { id } of await Promise.all(Array.from({ length: 5 }, () => submit()))) await end(id);
    await expect.poll(() => healthOf('first')).toMatchObject({ out_reason: 'failing', is_out: true });
    const { id: away } = await submit();
    expect(await end(away)).toMatchObject({ state: 'COMPLETED', provider: 'second', attempt: 1 });
    expect(startedAt(away)).toEqual(['second']);
    isDown = false;
    await endOutage('first');
    await expect.poll(async () => (await end((await submit()).id))?.provider).toBe('first');
    await expect.poll(() => healthOf('first')).toMatchObject({ failures: 0, out_reason: null });
  });

  test('that fails the one that tries it is left alone for longer', async () => {
    const { startedAt } = start({ first: { start: busy }, second: {} });
    await shutOut('first');
    await owned.sql`update provider_health set out_seconds = 10`;
    await endOutage('first');
    const ids = await Promise.all(Array.from({ length: 10 }, async () => (await submit()).id));
    for (const id of ids) expect(await end(id)).toMatchObject({ state: 'COMPLETED', provider: 'second' });
    expect(ids.flatMap(startedAt).filter((provider) => provider === 'first')).toHaveLength(1);
    await expect.poll(() => healthOf('first')).toMatchObject({ out_reason: 'failing', out_seconds: 20, is_out: true });
  });

  test('keeps the jobs that only it can serve waiting, without using up their attempts', async () => {
    start({ first: {} });
    await shutOut('first');
    const { id } = await submit();
    await expect
      .poll(async () => (await owned.sql`select available_at > db_now() + interval '30 minutes' as waits from jobs where id = ${id}`)[0])
      .toEqual({ waits: true });
    expect((await owned.engine.read({ id, callerId: owned.callerId }))?.attempt).toBe(0);
    await endOutage('first');
    await owned.sql`update jobs set available_at = db_now()`;
    await owned.sql`update jobs set rung_at = available_at - interval '1 second'`;
    expect(await end(id)).toMatchObject({ state: 'COMPLETED', attempt: 1 });
  });

  test('is still asked about the runs that it has', async () => {
    const { upstreams } = start({ first: { start: () => Promise.resolve(running('a run')) }, second: {} });
    const { id } = await submit();
    await expect.poll(async () => (await owned.sql`select handle from attempts where job_id = ${id}`)[0]?.handle).toBe('"a run"');
    for (const dispose of disposers.splice(0)) await dispose();
    expect(upstreams.get('first')?.verbs(id)).toEqual(['start']);
    await shutOut('first');
    const again = start({ first: {}, second: {} });
    expect(await end(id)).toMatchObject({ state: 'COMPLETED', provider: 'first' });
    expect(again.upstreams.get('first')?.verbs(id)).toEqual(['check']);
  });
});

test('a provider that asks for a pause gets it, and nobody counts that against it', async () => {
  const { startedAt } = start({
    first: { start: () => Promise.reject(new RetryableError('Too many requests.', { retryAfterMs: 60_000 })) },
    second: {},
  });
  const { id } = await submit();
  expect(await end(id)).toMatchObject({ state: 'COMPLETED', provider: 'second' });
  await expect.poll(() => healthOf('first')).toMatchObject({ failures: 0, out_reason: 'asked', is_out: true });
  const { id: next } = await submit();
  await end(next);
  expect(startedAt(next)).toEqual(['second']);
  await endOutage('first');
  await expect
    .poll(async () => {
      const { id: last } = await submit();
      await end(last);
      return startedAt(last);
    })
    .toEqual(['first', 'second']);
});

test('a provider whose failures are made on purpose is never left alone', async () => {
  const failing = { ...anUpstream({ start: busy }), isSimulated: true };
  const worker = owned.engine.startWorker({ workerId: 'a worker', upstreams: new Map([['first', failing]]), catalog: aCatalog(twice) });
  disposers.push(() => worker.stop());
  const submitted = await Promise.all([submit(), submit(), submit()]);
  for (const { id } of submitted) expect(await end(id)).toMatchObject({ state: 'FAILED', attempt: 2 });
  expect(await healthOf('first')).toBeUndefined();
});

describe('the route of a new job', () => {
  const available = new Set(['first', 'second', 'third', 'sandbox']);
  const routerOf = (set: Partial<Parameters<TestEngine['engine']['openRouter']>[0]> = {}) =>
    owned.engine.openRouter({ catalog: aCatalog(), available, off: new Map(), sandbox: 'auto', ...set });
  const choose = async (model: Model, set = {}) => (await routerOf(set).choose({ model, parameters: {} })).provider;
  const weighted = (weights: readonly number[]) => ({
    ...MODEL,
    routes: MODEL.routes.map((route, index) => ({ ...route, weight: weights[index] ?? 1 })),
  });

  test('is the first of the file, or the one that weighs most', async () => {
    expect(await choose(MODEL)).toBe('first');
    expect(await choose(weighted([1, 3, 2]))).toBe('second');
    expect(await choose(MODEL, { available: new Set(['second', 'third']) })).toBe('second');
  });

  test('is the cheapest, and one without a price the last', async () => {
    const usd = { first: 0.02, second: 0.01 };
    const estimateUsd = (_model: Model, { provider }: { provider: string }) => Promise.resolve(usd[provider as keyof typeof usd]);
    const catalog = { ...aCatalog(), estimateUsd };
    expect(await choose({ ...MODEL, routing: 'price' }, { catalog })).toBe('second');
    expect(await choose({ ...MODEL, routing: 'price' }, { catalog, available: new Set(['first', 'third']) })).toBe('first');
  });

  test('is the one that was fastest lately, once all were measured', async () => {
    const model: Model = { ...MODEL, routing: 'latency', routes: MODEL.routes.slice(0, 2) };
    await owned.sql`insert into route_times (model, provider, seconds) values (${model.name}, 'first', 2)`;
    expect(await choose(model)).toBe('second');
    await using later = await owned.sibling();
    await owned.sql`insert into route_times (model, provider, seconds) values (${model.name}, 'second', 3)`;
    const router = later.engine.openRouter({ catalog: aCatalog(), available, off: new Map(), sandbox: 'auto' });
    expect(await router.choose({ model, parameters: {} })).toMatchObject({ provider: 'first' });
  });

  test('is measured by the workers', async () => {
    start({ first: {}, second: {} }, { ...MODEL, routing: 'latency' });
    await end((await submit()).id);
    await expect
      .poll(() => owned.sql`select model, provider, seconds >= 0 as measured from route_times`)
      .toEqual([{ model: MODEL.name, provider: 'first', measured: true }]);
  });

  test('is the sandbox where nobody else is on, always behind the others, or never', async () => {
    const none = { available: new Set(['sandbox']) };
    expect(await choose(MODEL, none)).toBe('sandbox');
    const failed = ['first', 'second', 'third'];
    const again = (sandbox: 'auto' | 'on') => routerOf({ sandbox }).chooseAgain({ model: MODEL, parameters: {} }, failed);
    expect(await again('on')).toMatchObject({ provider: 'sandbox' });
    expect(await again('auto')).toMatchObject({ provider: 'first' });
    await expect(choose(MODEL, { ...none, sandbox: 'off' })).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('is none where all are off, and the refusal says what to set', async () => {
    const off = new Map([
      ['first', 'FIRST_KEY is not set'],
      ['second', 'SECOND_KEY is not set'],
    ]);
    await expect(choose(MODEL, { available: new Set(), off, sandbox: 'off' })).rejects.toThrow(
      'The model "test-model" cannot run: none of its providers is switched on (first: FIRST_KEY is not set; second: SECOND_KEY is not set).',
    );
  });

  test('is one that can express the parameters, or the refusal of the first', async () => {
    const express = (_model: Model, { provider }: { provider: string }) =>
      provider === 'third' ? Promise.resolve({}) : Promise.reject(new TerminalError(`${provider} cannot`));
    expect(await choose(MODEL, { catalog: { ...aCatalog(), express } })).toBe('third');
    await expect(choose(MODEL, { catalog: { ...aCatalog(), express }, available: new Set(['first', 'second']) })).rejects.toThrow(
      'first cannot',
    );
  });

  test('is a healthy one', async () => {
    await shutOut('first');
    expect(await choose(MODEL)).toBe('second');
    const [first, second] = routerOf().list(MODEL);
    expect(first).toMatchObject({ isAvailable: false, reason: expect.stringMatching(/^it keeps failing; it is tried again in \d+ s$/) });
    expect(second).toMatchObject({ isAvailable: true });
  });
});

/** Limits of providers and of single routes hold for the workers of all processes, and are given back when workers die or stores forget. */
import { type LimitedRoute, type Limits, type Model, type Run, systemClock, type Upstream } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openQueue } from './queue.ts';
import { aModel, anUpstream, aSubmission, MODEL, OUTPUT, PROVIDER, running, untilAborted } from './testing/fixtures.ts';
import { redisUrl } from './testing/index.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

const POLL = { timeout: 60_000, interval: 10 } as const;
const OTHER = 'other/model';
const otherModel: Model = { ...aModel, name: OTHER, routes: [{ provider: PROVIDER, model: OTHER }] };

/** Runs that last until they are told to end, whichever worker looks at them. */
interface BusyUpstream extends Upstream {
  /** Models of the runs that somebody works on. */
  running(model?: string): number;
  /** The most there were at once. */
  most(model?: string): number;
  readonly started: readonly string[];
  endOne(): void;
  /** From now on every run ends at once. */
  endAll(): void;
}

function aBusyUpstream(limits: Limits = {}): BusyUpstream {
  const active = new Map<string, { readonly model: string; readonly end: PromiseWithResolvers<void> }>();
  const most = new Map<string | undefined, number>();
  const started: string[] = [];
  let isEnding = false;
  const count = (model?: string) => [...active.values()].filter((run) => model === undefined || run.model === model).length;
  const enter = ({ jobId, model, signal }: Run) => {
    const known = active.get(jobId);
    if (known) return known;
    const entered = { model, end: Promise.withResolvers<void>() };
    active.set(jobId, entered);
    signal.addEventListener('abort', () => active.delete(jobId));
    if (isEnding) entered.end.resolve();
    for (const counted of [undefined, model]) most.set(counted, Math.max(most.get(counted) ?? 0, count(counted)));
    return entered;
  };
  const upstream = anUpstream({
    limits,
    start(run) {
      started.push(run.jobId);
      enter(run);
      return Promise.resolve(running('a run', 0));
    },
    async check(run) {
      await Promise.race([enter(run).end.promise, untilAborted(run.signal)]);
      active.delete(run.jobId);
      return { kind: 'finished', output: OUTPUT };
    },
  });
  return {
    ...upstream,
    running: count,
    most: (model) => most.get(model) ?? 0,
    started,
    endOne: () => active.values().next().value?.end.resolve(),
    endAll() {
      isEnding = true;
      for (const { end } of active.values()) end.resolve();
    },
  };
}

const routeOf = (limits: Limits): readonly LimitedRoute[] => [{ model: MODEL, provider: PROVIDER, limits }];
const ROUTE_MODEL = aModel.routes[0]?.model ?? '';

describe.each(QUEUES)('on %s', (queue) => {
  let owned: TestEngine;
  let opened: AsyncDisposableStack;
  beforeEach(() => {
    opened = new AsyncDisposableStack();
  });
  afterEach(() => opened.disposeAsync());

  /** An engine with this route limit, and another process of the same installation. */
  async function open(options: Parameters<typeof createTestEngine>[0] = {}): Promise<TestEngine> {
    owned = opened.use(await createTestEngine({ queue, ...options }));
    return opened.use(await owned.sibling());
  }

  const submit = (set = {}) => owned.engine.submit(aSubmission(owned.callerId, set));
  const submitMany = (count: number, set = {}) => Promise.all(Array.from({ length: count }, () => submit(set)));
  const ended = async () => {
    const [row] = await owned.sql<{ count: number }[]>`select count(*)::integer as count from jobs where state = 'COMPLETED'`;
    return row?.count;
  };

  test('two workers together run as many as the provider allows, and never more', async () => {
    const sibling = await open();
    const upstream = aBusyUpstream({ concurrency: 3 });
    owned.startWorker(upstream, 'here');
    sibling.startWorker(upstream, 'there');
    await submitMany(12);
    for (let over = 0; over < 12; over++) {
      await expect.poll(() => upstream.started.length, POLL).toBe(Math.min(over + 3, 12));
      upstream.endOne();
      await expect.poll(ended, POLL).toBe(over + 1);
    }
    expect(upstream.most()).toBe(3);
  });

  test('two workers together start as many per time as the provider allows', async () => {
    const sibling = await open();
    const startedMs: number[] = [];
    // In windows of half a second, five starts each.
    const perWindow = 5;
    const upstream = anUpstream({
      limits: { rate: { max: 600, perMs: 60_000 } },
      start() {
        startedMs.push(performance.now());
        return Promise.resolve({ kind: 'finished', output: OUTPUT });
      },
    });
    owned.startWorker(upstream, 'here');
    sibling.startWorker(upstream, 'there');
    const windows = 11;
    await submitMany(windows * perWindow);
    await expect.poll(() => startedMs.length, POLL).toBe(windows * perWindow);
    // Over eight windows, from the second on and from the third: what another test does to this machine for a moment may spoil one of them.
    const rates = [1, 2].map((window) => {
      const [from = 0, to = 0] = [startedMs[window * perWindow], startedMs[(window + 8) * perWindow]];
      return (8 * perWindow * 1000) / (to - from);
    });
    expect(Math.min(...rates)).toBeLessThan(10 * 1.05);
    expect(Math.max(...rates)).toBeGreaterThan(10 * 0.95);
  });

  test('a route runs as many as it allows itself, within what its provider allows', async () => {
    const sibling = await open({ limitedRoutes: routeOf({ concurrency: 2 }) });
    const upstream = aBusyUpstream({ concurrency: 5 });
    for (const [engine, name] of [[owned, 'here'] as const, [sibling, 'there'] as const]) {
      engine.startWorker(upstream, name, [aModel, otherModel]);
    }
    await submitMany(6);
    await expect.poll(() => upstream.running(), POLL).toBe(2);
    await submitMany(6, { model: OTHER });
    await expect.poll(() => upstream.running(), POLL).toBe(5);
    for (let over = 1; over <= 12; over++) {
      await expect.poll(() => upstream.running(), POLL).toBeGreaterThan(0);
      upstream.endOne();
      await expect.poll(ended, POLL).toBe(over);
    }
    expect([upstream.most(ROUTE_MODEL), upstream.most(OTHER), upstream.most()]).toEqual([2, expect.any(Number), 5]);
    await expect.poll(() => owned.doorbells(`${PROVIDER}~${MODEL}`)).toEqual([]);
  });

  test('a route that limits its starts only has any number of runs under way', async () => {
    const sibling = await open({ limitedRoutes: routeOf({ rate: { max: 2, perMs: 1_000 } }) });
    const upstream = aBusyUpstream();
    const startedMs = performance.now();
    owned.startWorker(upstream, 'here');
    sibling.startWorker(upstream, 'there');
    await submitMany(4);
    await expect.poll(() => upstream.running(), POLL).toBe(4);
    expect(performance.now() - startedMs).toBeGreaterThan(3 * 500 * 0.95);
    await expect.poll(() => owned.heldAtGate(PROVIDER, MODEL), POLL).toBe(0);
    upstream.endAll();
    await expect.poll(ended, POLL).toBe(4);
  });

  test('a doorbell of a route that rings many times, and at the provider as well, counts and runs once', async () => {
    const sibling = await open({ limitedRoutes: routeOf({ concurrency: 2 }) });
    const upstream = aBusyUpstream();
    owned.startWorker(upstream, 'here');
    sibling.startWorker(upstream, 'there');
    const jobs = await submitMany(8);
    await expect.poll(() => upstream.running(), POLL).toBe(2);
    const unaware = await openDoorbells();
    for (let attempt = 0; attempt < 3; attempt++) {
      await unaware.ring(jobs.map(({ id, provider, model, priority }) => ({ jobId: id, provider, model, attempt, priority })));
    }
    for (let over = 1; over <= 8; over++) {
      await expect.poll(() => upstream.running(), POLL).toBe(Math.min(2, 9 - over));
      upstream.endOne();
      await expect.poll(ended, POLL).toBe(over);
    }
    expect(upstream.most()).toBe(2);
    expect(upstream.started.toSorted()).toEqual(jobs.map(({ id }) => id).toSorted());
  });

  test('limits that the store has lost are set again, and hold', async () => {
    const clock = createTestClock();
    await open({ clock, limitedRoutes: routeOf({ concurrency: 4, rate: { max: 100, perMs: 1_000 } }) });
    const upstream = aBusyUpstream({ concurrency: 3 });
    owned.startWorker(upstream);
    const limits = () => Promise.all([owned.limitsOf(PROVIDER), owned.limitsOf(PROVIDER, MODEL)]);
    const all = [{ concurrency: 3 }, { concurrency: 4, max: 25, duration: 250 }];
    await expect.poll(limits, POLL).toEqual(all);
    await owned.loseDoorbells();
    expect(await limits()).toEqual([{}, {}]);
    await expect.poll(() => clock.sleeping.filter((ms) => ms === 5_000).length, POLL).toBe(2);
    clock.advance(5_000);
    await expect.poll(limits, POLL).toEqual(all);
  });

  test('limits that are no longer wanted are lifted, and others changed', async () => {
    const sibling = await open();
    const before = owned.startWorker(aBusyUpstream({ concurrency: 1, rate: { max: 100, perMs: 60_000 } }));
    await expect.poll(() => owned.limitsOf(PROVIDER), POLL).toEqual({ concurrency: 1, max: 1, duration: 600 });
    await before.stop();
    const less = owned.startWorker(aBusyUpstream({ concurrency: 2 }));
    await expect.poll(() => owned.limitsOf(PROVIDER), POLL).toEqual({ concurrency: 2 });
    await less.stop();
    const upstream = aBusyUpstream();
    sibling.startWorker(upstream);
    await submitMany(5);
    await expect.poll(() => upstream.running(), POLL).toBe(5);
    expect(await owned.limitsOf(PROVIDER)).toEqual({});
    upstream.endAll();
    await expect.poll(ended, POLL).toBe(5);
  });

  test('what a worker held that died is taken by another, at gates and at providers', async () => {
    const limits = { concurrency: 1 };
    await open({ limitedRoutes: routeOf(limits) });
    const dead = await openDoorbells();
    const taken: string[] = [];
    const end = Promise.withResolvers<'answered'>();
    const hold = ({ jobId }: { readonly jobId: string }) => {
      taken.push(jobId);
      return end.promise;
    };
    const held = [
      dead.consume({ provider: PROVIDER, model: MODEL, concurrency: 1, limits }, hold),
      dead.consume({ provider: PROVIDER, concurrency: 1, limits }, hold),
    ];
    opened.defer(async () => {
      end.resolve('answered');
      await Promise.all(held.map((consumer) => consumer.close()));
    });
    const jobs = [await submit(), await submit({ model: OTHER })];
    await expect.poll(() => taken.toSorted(), POLL).toEqual(jobs.map(({ id }) => id).toSorted());
    await owned.loseWorkers();
    const upstream = aBusyUpstream(limits);
    upstream.endAll();
    owned.startWorker(upstream, 'another', [aModel, otherModel]);
    await expect.poll(ended, POLL).toBe(2);
    expect(upstream.most()).toBe(1);
  });

  test('what a stopping worker holds at a gate is taken by another at once, before others', async () => {
    const sibling = await open({ limitedRoutes: routeOf({ concurrency: 1 }) });
    const upstream = aBusyUpstream({ concurrency: 2 });
    const models = [aModel, otherModel];
    const stopping = owned.startWorker(upstream, 'stops', models);
    await submitMany(2, { model: OTHER });
    await expect.poll(() => upstream.running(), POLL).toBe(2);
    // It is let through, and waits for the provider.
    const first = await submit();
    await expect.poll(() => owned.doorbells(), POLL).toEqual([`${first.id}-0`]);
    const second = await submit();
    await expect.poll(() => owned.doorbells(`${PROVIDER}~${MODEL}`), POLL).toEqual([`${second.id}-0`]);
    sibling.startWorker(upstream, 'goes on', models);
    const stoppedMs = performance.now();
    await stopping.stop();
    for (let over = 1; over <= 4; over++) {
      await expect.poll(() => upstream.running(), POLL).toBeGreaterThan(0);
      upstream.endOne();
      await expect.poll(ended, POLL).toBe(over);
    }
    // A worker that had died would be missed after ten seconds.
    expect(performance.now() - stoppedMs).toBeLessThan(9_500);
    expect([upstream.most(ROUTE_MODEL), upstream.most(), upstream.started.length]).toEqual([1, 2, 4]);
  });

  test('jobs that end while they wait use up nothing of the rate', async () => {
    await open({ limitedRoutes: [] });
    const upstream = aBusyUpstream({ rate: { max: 1, perMs: 1_000 } });
    owned.startWorker(upstream);
    const jobs = await submitMany(40);
    await expect.poll(() => upstream.running(), POLL).toBeGreaterThan(0);
    const last = jobs.at(-1)?.id ?? '';
    for (const { id } of jobs) if (id !== last) await owned.engine.cancel({ id, callerId: owned.callerId });
    upstream.endAll();
    const state = async () => (await owned.engine.read({ id: last, callerId: owned.callerId }))?.state;
    await expect.poll(state, POLL).toBe('COMPLETED');
  });

  /** Another process that knows of no limits. */
  async function openDoorbells() {
    const doorbells = openQueue({
      databaseUrl: owned.databaseUrl,
      ...(queue === 'redis' && { redisUrl: redisUrl() }),
      prefix: owned.queuePrefix,
      log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    });
    opened.defer(() => doorbells.close());
    const answers = () =>
      doorbells.ping().then(
        () => true,
        () => false,
      );
    await expect.poll(answers, POLL).toBe(true);
    return doorbells;
  }
});

test('on postgres, a worker that finds the provider full looks again without haste', async () => {
  await using owned = await createTestEngine({ queue: 'postgres' });
  await using sibling = await owned.sibling();
  const upstream = aBusyUpstream({ concurrency: 1 });
  owned.startWorker(upstream, 'busy');
  await owned.engine.submit(aSubmission(owned.callerId));
  await expect.poll(() => upstream.running(), POLL).toBe(1);
  await owned.engine.submit(aSubmission(owned.callerId));
  sibling.startWorker(upstream, 'finds it full');
  const statements = async () => {
    const [row] = await owned.sql<{ count: number }[]>`
      select xact_commit::integer as count from pg_stat_database where datname = current_database()`;
    return row?.count ?? 0;
  };
  const [beforeMs, before] = [systemClock.now(), await statements()];
  await expect.poll(() => systemClock.now() - beforeMs, POLL).toBeGreaterThan(3_000);
  expect((await statements()) - before).toBeLessThan(300);
  upstream.endAll();
});

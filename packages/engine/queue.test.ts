/** Doorbells may be lost, doubled, or have nowhere to ring: no job minds. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type Log, newId, systemClock } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import { type DoorbellQueue, openQueue } from './queue.ts';
import { openDatabase } from './storage/connection.ts';
import { anUpstream, aSubmission, OUTPUT, PROVIDER, untilAborted } from './testing/fixtures.ts';
import { createTestDatabase, redisUrl } from './testing/index.ts';
import { startTcpProxy } from './testing/tcp-proxy.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;
const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function reach(queue: DoorbellQueue): Promise<string> {
  return queue.ping().then(
    () => 'reached',
    () => 'not yet',
  );
}

describe.each(QUEUES)('on %s', (queue) => {
  let owned: TestEngine;
  beforeEach(async () => {
    owned = await createTestEngine({ queue });
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  const submit = (set = {}) => owned.engine.submit(aSubmission(owned.callerId, set));
  const waitForEnd = (id: string) => owned.engine.wait({ id, callerId: owned.callerId }, WAIT);

  test('jobs whose doorbells were lost are rung again by the sweep, and run', async () => {
    const started = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const upstream = anUpstream({
      concurrency: 1,
      async start() {
        started.resolve();
        await gate.promise;
        return { kind: 'finished', output: OUTPUT };
      },
    });
    owned.startWorker(upstream);
    const first = await submit();
    await started.promise;
    const second = await submit();
    await expect.poll(() => owned.doorbells()).toEqual([`${second.id}-0`]);
    await owned.loseDoorbells();
    gate.resolve();
    expect((await waitForEnd(first.id))?.state).toBe('COMPLETED');
    expect(await owned.engine.sweep.once()).toMatchObject({ rungAgain: 0 });
    expect(upstream.verbs(second.id)).toEqual([]);
    await owned.setClockAhead(20);
    expect(await owned.engine.sweep.once()).toMatchObject({ rungAgain: 1 });
    expect((await waitForEnd(second.id))?.state).toBe('COMPLETED');
  });

  test('a job whose doorbell rings many times, for several workers, runs once', async () => {
    const upstream = anUpstream();
    owned.startWorker(upstream, 'here');
    await using other = await owned.sibling();
    other.startWorker(upstream, 'there');
    const queues = openQueue({
      databaseUrl: owned.databaseUrl,
      ...(queue === 'redis' && { redisUrl: redisUrl() }),
      prefix: owned.queuePrefix,
      log: silent,
    });
    await expect.poll(() => reach(queues)).toBe('reached');
    const jobs = await Promise.all(Array.from({ length: 20 }, () => submit()));
    // Other attempts' numbers, because the same entry twice is one.
    for (let attempt = 1; attempt <= 3; attempt++) {
      await queues.ring(jobs.map(({ id, provider, model, priority }) => ({ jobId: id, provider, model, attempt, priority })));
    }
    for (const { id } of jobs) expect(await waitForEnd(id)).toMatchObject({ state: 'COMPLETED', attempt: 1 });
    await expect.poll(() => owned.doorbells()).toEqual([]);
    for (const { id } of jobs) expect(upstream.verbs(id)).toEqual(['start']);
    await queues.close();
  });

  test('of jobs that wait those of high priority go first, and within a priority the oldest', async () => {
    const order: string[] = [];
    const started = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    owned.startWorker(
      anUpstream({
        concurrency: 1,
        async start(run) {
          order.push(run.jobId);
          started.resolve();
          await gate.promise;
          return { kind: 'finished', output: OUTPUT };
        },
      }),
    );
    const blocker = await submit();
    await started.promise;
    const waiting: { readonly id: string }[] = [];
    for (const priority of ['low', 'normal', 'high', 'normal', 'high'] as const) {
      waiting.push(await submit({ priority }));
      await expect.poll(() => owned.doorbells()).toHaveLength(waiting.length);
    }
    gate.resolve();
    for (const { id } of waiting) await waitForEnd(id);
    expect(order).toEqual([blocker, ...[2, 4, 1, 3, 0].map((index) => waiting[index])].map((job) => job?.id));
  });

  test('what a consumer leaves is the next that another hears, also where only one may be heard at a time', async () => {
    const queues = openQueue({
      databaseUrl: owned.databaseUrl,
      ...(queue === 'redis' && { redisUrl: redisUrl() }),
      prefix: owned.queuePrefix,
      log: silent,
    });
    await using _queues = { [Symbol.asyncDispose]: () => queues.close() };
    await expect.poll(() => reach(queues)).toBe('reached');
    const ring = (jobId: string, priority: 'high' | 'low') =>
      queues.ring([{ provider: PROVIDER, model: 'm', jobId, attempt: 0, priority }]);
    const options = { provider: PROVIDER, concurrency: 2, limits: { concurrency: 1 } };
    const taken = Promise.withResolvers<void>();
    const left = Promise.withResolvers<'left'>();
    const leaving = queues.consume(options, () => {
      taken.resolve();
      return left.promise;
    });
    await ring('taken', 'low');
    await taken.promise;
    const heard: string[] = [];
    const staying = queues.consume(options, async ({ jobId }) => {
      heard.push(jobId);
      return 'answered';
    });
    await ring('next', 'high');
    await expect.poll(() => owned.doorbells()).toEqual(['next-0']);
    left.resolve('left');
    await leaving.close();
    await expect.poll(() => heard).toEqual(['taken', 'next']);
    await staying.close();
    expect(await owned.doorbells()).toEqual([]);
  });

  test('nothing is left in the queue of jobs that have ended', async () => {
    owned.startWorker(anUpstream());
    const jobs = await Promise.all(Array.from({ length: 10 }, () => submit()));
    for (const { id } of jobs) await waitForEnd(id);
    await expect.poll(() => owned.doorbells()).toEqual([]);
  });
});

describe('a Redis that is away', () => {
  test('keeps nobody from handing in jobs, which run when it is back', async () => {
    await using proxy = await startTcpProxy(redisUrl(), 6379);
    await using owned = await createTestEngine({ queue: 'redis', redisUrl: proxy.through(redisUrl()) });
    owned.startWorker(anUpstream());
    await proxy.refuse();
    await expect.poll(() => owned.engine.health()).toMatchObject({ queue: 'unreachable' });
    const jobs = await Promise.all(Array.from({ length: 5 }, () => owned.engine.submit(aSubmission(owned.callerId))));
    expect(jobs.map(({ state }) => state)).toEqual(Array.from(jobs, () => 'QUEUED'));
    expect(await owned.engine.health()).toEqual({ database: 'ok', migrations: 'ok', queue: 'unreachable' });
    await proxy.accept();
    await expect.poll(() => owned.engine.health(), { timeout: 60_000 }).toMatchObject({ queue: 'ok' });
    await owned.setClockAhead(20);
    expect(await owned.engine.sweep.once()).toMatchObject({ rungAgain: 5 });
    for (const { id } of jobs) {
      expect((await owned.engine.wait({ id, callerId: owned.callerId }, WAIT))?.state).toBe('COMPLETED');
    }
  });

  test('keeps no worker from stopping, though it can tell nobody what it has done', async () => {
    await using proxy = await startTcpProxy(redisUrl(), 6379);
    await using owned = await createTestEngine({ queue: 'redis', redisUrl: proxy.through(redisUrl()) });
    const started = Promise.withResolvers<void>();
    const worker = owned.startWorker(
      anUpstream({
        start({ signal }) {
          started.resolve();
          return untilAborted(signal);
        },
      }),
    );
    await owned.engine.submit(aSubmission(owned.callerId));
    await started.promise;
    await proxy.refuse();
    await expect.poll(() => owned.engine.health()).toMatchObject({ queue: 'unreachable' });
    await worker.stop();
    expect(owned.logged.map(({ message }) => message)).toContain('worker closed without redis, its doorbells ring again');
  });

  test('that accepts connections and says nothing does not hold up submissions', async () => {
    await using proxy = await startTcpProxy(redisUrl(), 6379);
    await using owned = await createTestEngine({ queue: 'redis', redisUrl: proxy.through(redisUrl()) });
    proxy.silence();
    expect((await owned.engine.submit(aSubmission(owned.callerId))).state).toBe('QUEUED');
    expect((await owned.engine.health()).queue).toBe('unreachable');
  });

  test('whose connections died without a word is reached again over new ones', async () => {
    await using proxy = await startTcpProxy(redisUrl(), 6379);
    await using owned = await createTestEngine({ queue: 'redis', redisUrl: proxy.through(redisUrl()) });
    proxy.silence();
    expect((await owned.engine.health()).queue).toBe('unreachable');
    proxy.revive();
    await expect.poll(() => owned.engine.health(), { timeout: 60_000 }).toMatchObject({ queue: 'ok' });
    await owned.engine.submit(aSubmission(owned.callerId));
    await expect.poll(() => owned.doorbells()).toHaveLength(1);
  });
});

/** A process that rings and hears, `queue-process.ts`, whose store is behind a proxy. It is killed when the test is over. */
async function startQueueProcess({ expect }: TestContext, name: 'redis' | 'postgres', cutAfter?: (connection: number) => number) {
  await using owned = new AsyncDisposableStack();
  const database = owned.use(await createTestDatabase());
  const store = name === 'redis' ? redisUrl() : database.url;
  const proxy = owned.use(await startTcpProxy(store, name === 'redis' ? 6379 : 5432, cutAfter));
  const prefix = `test-${newId(systemClock)}`;
  const stores = name === 'redis' ? [database.url, proxy.through(store), prefix] : [proxy.through(store)];
  const child = owned.adopt(
    spawn(process.execPath, [fileURLToPath(new URL('testing/queue-process.ts', import.meta.url)), ...stores]),
    (running) => {
      running.kill('SIGKILL');
    },
  );
  let heard = '';
  let complaints = '';
  child.stdout.on('data', (chunk) => {
    heard += chunk;
  });
  child.stderr.on('data', (chunk) => {
    complaints += chunk;
  });
  const queue = openQueue({ databaseUrl: database.url, ...(name === 'redis' && { redisUrl: store, prefix }), log: silent });
  owned.defer(() => queue.close());
  const { sql, close } = openDatabase({ url: database.url, applicationName: 'test', poolSize: 1 });
  owned.defer(close);
  const running = owned.move();
  return {
    proxy,
    exited: once(child, 'exit'),
    complaints: () => complaints,
    async hears(jobId: string) {
      await expect.poll(() => reach(queue)).toBe('reached');
      await queue.ring([{ provider: 'heard', model: 'm', jobId, attempt: 0, priority: 'normal' }]);
      await expect.poll(() => heard, { timeout: 60_000 }).toContain(`${jobId}\n`);
    },
    /** The connections of the server on which somebody listens for entries. */
    async listeners(): Promise<readonly number[]> {
      const rows = await sql<{ pid: number }[]>`
        select pid from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and query like '%LISTEN bullmq_jobs%'`;
      return rows.map(({ pid }) => pid);
    },
    /** Tells it to end; it has to do so by itself. */
    async ends() {
      child.stdin.end();
      await expect.poll(() => child.exitCode).toBe(0);
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/**
 * How often the server speaks in the part of a connection's life in which it may be cut: to let the client in, to tell what it is, to listen, to
 * give an entry. Redis is tried less often, as its client waits longer and longer between its tries.
 */
const CUT_POINTS = { redis: 6, postgres: 14 };
const ROUNDS = { redis: 4, postgres: 6 };

// Most of the time they wait for connections that are lost, or that nobody has lost yet.
describe.concurrent('a process', () => {
  test.for(QUEUES)(
    'whose connections to %s are cut at any moment goes on, hears doorbells when they hold, and ends',
    async ([name], context) => {
      const lastCut = CUT_POINTS[name] * ROUNDS[name];
      const cutAfter = (connection: number) => (connection <= lastCut ? 1 + (connection % CUT_POINTS[name]) : Number.POSITIVE_INFINITY);
      await using started = await startQueueProcess(context, name, cutAfter);
      const isCut = context.expect.poll(() => started.proxy.connections, { timeout: 60_000 }).toBeGreaterThan(lastCut);
      await Promise.race([isCut, started.exited.then(() => Promise.reject(new Error(started.complaints().slice(-2_000))))]);
      await started.hears('the-job');
      await started.ends();
    },
  );

  test.for(QUEUES)('whose %s is away ends when it is told to', async ([name], context) => {
    await using started = await startQueueProcess(context, name);
    await started.hears('the-job');
    await started.proxy.refuse();
    await context.expect.poll(started.complaints).toContain('not rung');
    await started.ends();
  });

  test('whose connections to postgres died without a word hears doorbells over new ones', async (context) => {
    await using started = await startQueueProcess(context, 'postgres');
    await started.hears('the-job');
    const before = await started.listeners();
    started.proxy.silence();
    // Both what waits for doorbells and what fetches them have failed then.
    await context.expect
      .poll(() => started.complaints().match(/worker failed/g)?.length ?? 0, { timeout: 60_000 })
      .toBeGreaterThanOrEqual(2);
    started.proxy.revive();
    await started.hears('another-job');
    // Else it would look for what waits every few seconds.
    await context.expect.poll(async () => (await started.listeners()).filter((pid) => !before.includes(pid))).toHaveLength(1);
    await started.ends();
  });
});

/** Doorbells may be lost, doubled, or have nowhere to ring: no job minds. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openQueue } from './queue.ts';
import { anUpstream, aSubmission, OUTPUT } from './testing/fixtures.ts';
import { redisUrl } from './testing/index.ts';
import { startTcpProxy } from './testing/tcp-proxy.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;

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
      log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    });
    await expect
      .poll(() =>
        queues.ping().then(
          () => 'ok',
          () => 'not yet',
        ),
      )
      .toBe('ok');
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

import { RetryableError, type Step } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { aCatalog, aModel, anUpstream, aSubmission, OUTPUT, running, untilAborted } from './testing/fixtures.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

const POLL = { timeout: 60_000, interval: 10 };
const submitTo = (owned: TestEngine, set = {}) => owned.engine.submit(aSubmission(owned.callerId, set));
const stateOf = async (owned: TestEngine, id: string) => (await owned.engine.read({ id, callerId: owned.callerId }))?.state;

describe.each(QUEUES)('on %s', (queue) => {
  test('a job with a delay rings no doorbell before its time, and runs after it', async () => {
    await using owned = await createTestEngine({ queue });
    const { id } = await submitTo(owned, { delaySeconds: 600 });
    const upstream = anUpstream();
    owned.startWorker(upstream);
    expect(await owned.engine.sweep.once()).toMatchObject({ rung: 0, rungAgain: 0 });
    // Even a doorbell that is rung by mistake starts nothing.
    expect(await stateOf(owned, id)).toBe('QUEUED');
    await owned.setClockAhead(601);
    expect(await owned.engine.sweep.once()).toMatchObject({ rung: 1 });
    await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
  });

  test('a job that is to run at an instant waits for it', async () => {
    await using owned = await createTestEngine({ queue });
    const { id } = await submitTo(owned, { runAt: new Date(Date.now() + 3_600_000) });
    const { id: past } = await submitTo(owned, { runAt: new Date(Date.now() - 3_600_000) });
    owned.startWorker(anUpstream());
    await owned.engine.sweep.once();
    await expect.poll(() => stateOf(owned, past), POLL).toBe('QUEUED');
    await owned.setClockAhead(3_700);
    await owned.engine.sweep.once();
    await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
  });

  test('a job of higher priority runs before older ones of lower, and positions say so', async () => {
    await using owned = await createTestEngine({ queue });
    const low = await submitTo(owned, { priority: 'low' });
    const normal = await submitTo(owned);
    const high = await submitTo(owned, { priority: 'high' });
    expect([low, normal, high].map(({ queuePosition }) => queuePosition)).toEqual([0, 0, 0]);
    const positions = async () =>
      Promise.all([low, normal, high].map(async ({ id }) => (await owned.engine.read({ id, callerId: owned.callerId }))?.queuePosition));
    expect(await positions()).toEqual([2, 1, 0]);
    await expect.poll(() => owned.doorbells(), POLL).toHaveLength(3);
    const order: string[] = [];
    const upstream = {
      ...anUpstream({
        start: (run) => {
          order.push(run.jobId);
          return Promise.resolve<Step>({ kind: 'finished', output: OUTPUT });
        },
      }),
      concurrency: 1,
    };
    owned.startWorker(upstream);
    await expect.poll(() => order, POLL).toEqual([high.id, normal.id, low.id]);
  });

  test('a job past its deadline fails, whether it waits or runs, and its upstream is told to stop', async () => {
    await using owned = await createTestEngine({ queue });
    const upstream = anUpstream({ start: () => Promise.resolve(running('handle')) });
    owned.startWorker(upstream);
    const { id } = await submitTo(owned, { timeoutSeconds: 30 });
    await expect.poll(() => upstream.verbs(id), POLL).toEqual(['start']);
    await expect.poll(async () => owned.sql`select handle from attempts where job_id = ${id}`, POLL).toEqual([{ handle: '"handle"' }]);
    const { id: waiting } = await submitTo(owned, { timeoutSeconds: 30, delaySeconds: 5 });
    await owned.setClockAhead(31);
    expect(await owned.engine.sweep.once()).toMatchObject({ timedOut: 1 });
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ state: 'FAILED', failure: { code: 'timeout' } });
    await expect.poll(() => upstream.verbs(id), POLL).toEqual(['start', 'cancel']);
    expect(await stateOf(owned, waiting)).not.toBe('FAILED');
  });
});

describe('a run whose handle was lost with its worker', () => {
  /** A job whose first attempt had asked the upstream, or was about to, when its worker vanished. */
  async function anUnknownRun(owned: TestEngine): Promise<string> {
    const { id } = await submitTo(owned, { provider: 'testing' });
    await owned.sql`
      with lost as (
        update jobs set state = 'PROCESSING', attempt = 1, lease_until = db_now() - interval '1 second' where id = ${id} returning id
      ) insert into attempts (job_id, number, provider, worker_id) select id, 1, 'testing', 'a dead worker' from lost`;
    expect(await owned.engine.sweep.once()).toMatchObject({ rescued: 1 });
    return id;
  }
  const start = (owned: TestEngine, onUnknown: 'resubmit' | 'fail', isIdempotent = false) => {
    const upstream = { ...anUpstream(), isIdempotent };
    const worker = owned.engine.startWorker({
      workerId: 'a worker',
      upstreams: new Map([['testing', upstream]]),
      catalog: aCatalog({ ...aModel, onUnknown }),
    });
    return { upstream, worker };
  };

  test('is started anew, and counted, where the model says so', async () => {
    await using owned = await createTestEngine();
    const id = await anUnknownRun(owned);
    const { upstream, worker } = start(owned, 'resubmit');
    await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
    expect(upstream.verbs(id)).toEqual(['start']);
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ resubmits: 1 });
    await worker.stop();
  });

  test('fails without being asked for again, where the model says so', async () => {
    await using owned = await createTestEngine();
    const id = await anUnknownRun(owned);
    const { upstream, worker } = start(owned, 'fail');
    await expect.poll(() => stateOf(owned, id), POLL).toBe('FAILED');
    expect(upstream.verbs(id)).toEqual([]);
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ failure: { code: 'outcome_unknown' } });
    await worker.stop();
  });

  test('is asked for again in any case where the upstream recognises it', async () => {
    await using owned = await createTestEngine();
    const id = await anUnknownRun(owned);
    const { upstream, worker } = start(owned, 'fail', true);
    await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
    expect(upstream.verbs(id)).toEqual(['start']);
    await worker.stop();
  });
});

describe('a start whose answer never came', () => {
  const broken = () => Promise.reject(new RetryableError('The connection broke.', { mayHaveStarted: true }));
  const startAWorker = (owned: TestEngine, onUnknown: 'resubmit' | 'fail', isIdempotent = false) => {
    let starts = 0;
    const recording = anUpstream({
      start: () => {
        starts += 1;
        return starts === 1 ? broken() : Promise.resolve({ kind: 'finished', output: { media: [] } });
      },
    });
    const upstream = { ...recording, isIdempotent };
    const worker = owned.engine.startWorker({
      workerId: 'a worker',
      upstreams: new Map([['testing', upstream]]),
      catalog: aCatalog({ ...aModel, onUnknown }),
    });
    owned.startSweep();
    return { upstream, worker };
  };
  const submit = async (owned: TestEngine) => (await submitTo(owned, { provider: 'testing' })).id;

  test('is made again, and counted, where the model says so', async () => {
    await using owned = await createTestEngine();
    const { upstream, worker } = startAWorker(owned, 'resubmit');
    const id = await submit(owned);
    await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
    expect(upstream.verbs(id)).toEqual(['start', 'start']);
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ resubmits: 1 });
    await worker.stop();
  });

  test('is not made again where the model would rather fail than pay twice', async () => {
    await using owned = await createTestEngine();
    const { upstream, worker } = startAWorker(owned, 'fail');
    const id = await submit(owned);
    await expect.poll(() => stateOf(owned, id), POLL).toBe('FAILED');
    expect(upstream.verbs(id)).toEqual(['start']);
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ failure: { code: 'outcome_unknown' }, resubmits: 0 });
    await worker.stop();
  });

  test('is made again in any case where the upstream recognises it', async () => {
    await using owned = await createTestEngine();
    const { worker } = startAWorker(owned, 'fail', true);
    const id = await submit(owned);
    await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ resubmits: 0 });
    await worker.stop();
  });
});

test('a worker that stops lets a run that is starting tell its handle, and the next resumes it without a second start', async () => {
  await using owned = await createTestEngine();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Step>();
  const upstream = anUpstream({
    start: (run) => {
      asked.resolve();
      return Promise.race([answer.promise, untilAborted(run.signal)]);
    },
  });
  const worker = owned.startWorker(upstream);
  const { id } = await submitTo(owned);
  await asked.promise;
  const stopped = worker.stop();
  answer.resolve(running('handle'));
  await stopped;
  expect(await owned.sql`select outcome, handle from attempts where job_id = ${id}`).toEqual([{ outcome: 'released', handle: '"handle"' }]);
  owned.startWorker(upstream, 'the next');
  await expect.poll(() => stateOf(owned, id), POLL).toBe('COMPLETED');
  expect(upstream.verbs(id)).toEqual(['start', 'check']);
});

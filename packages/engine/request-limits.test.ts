/** What a client may set for one request: how long it may wait for its first attempt, how often it is tried, and how many may be ahead of it. */
import { type Model, RetryableError, type Submission } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claimJobs } from './storage/transitions.ts';
import { aJob, aModel, anUpstream, aSubmission, PROVIDER, running } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine();
});
afterEach(() => owned[Symbol.asyncDispose]());

const referenceTo = (id: string) => ({ id, callerId: owned.callerId });
const submit = (set: Partial<Submission>) => owned.engine.submit(aSubmission(owned.callerId, set));
const read = (id: string) => owned.engine.read(referenceTo(id));
const sweep = () => owned.engine.sweep.once();

describe('a request that must start within a time', () => {
  test('ends FAILED when no attempt has begun by then, and not before', async () => {
    const { id, startBy, createdAt } = await submit({ startTimeoutSeconds: 60 });
    expect((startBy?.getTime() ?? 0) - createdAt.getTime()).toBe(60_000);
    await owned.setClockAhead(58);
    expect(await sweep()).toMatchObject({ timedOut: 0 });
    await owned.setClockAhead(61);
    expect(await sweep()).toMatchObject({ timedOut: 1 });
    const failure = { code: 'timeout', message: 'The request was not started within the time that was set for it.' };
    expect(await read(id)).toMatchObject({ state: 'FAILED', attempt: 0, failure });
    expect(await sweep()).toMatchObject({ timedOut: 0 });
  });

  test('has that time from the moment on from which it may start', async () => {
    const { id } = await submit({ startTimeoutSeconds: 60, delaySeconds: 100 });
    await owned.setClockAhead(150);
    await sweep();
    expect(await read(id)).toMatchObject({ state: 'QUEUED' });
    await owned.setClockAhead(161);
    await sweep();
    expect(await read(id)).toMatchObject({ state: 'FAILED', failure: { code: 'timeout' } });
  });

  test('may take as long as it likes once it has begun, also while it waits for another attempt', async () => {
    const [runs, waits] = await Promise.all([submit({ startTimeoutSeconds: 1 }), submit({ startTimeoutSeconds: 1 })]);
    await claimJobs(
      owned.sql,
      [runs, waits].map(({ id: jobId }) => ({ jobId, workerId: 'w' })),
      600,
    );
    await owned.sql`update jobs set state = 'QUEUED', lease_until = null, available_at = db_now() + interval '1 hour' where id = ${waits.id}`;
    await owned.setClockAhead(100);
    expect(await sweep()).toMatchObject({ timedOut: 0 });
    expect([(await read(runs.id))?.state, (await read(waits.id))?.state]).toEqual(['PROCESSING', 'QUEUED']);
  });

  test('either starts or ends, however close the two come', async () => {
    const jobs = await Promise.all(Array.from({ length: 40 }, () => submit({ startTimeoutSeconds: 1 })));
    await owned.setClockAhead(2);
    const claims = jobs.map(({ id: jobId }) => ({ jobId, workerId: 'w' }));
    const [report, ...claimed] = await Promise.all([sweep(), ...claims.map((claim) => claimJobs(owned.sql, [claim], 60))]);
    const states = await Promise.all(jobs.map(async ({ id }) => (await read(id))?.state));
    expect(states).toEqual(claimed.map(([attempt]) => (attempt ? 'PROCESSING' : 'FAILED')));
    expect(report.timedOut).toBe(states.filter((state) => state === 'FAILED').length);
  });

  test('is told of to its webhook like any other end', async () => {
    const { id } = await submit({ startTimeoutSeconds: 1, webhookUrl: 'http://127.0.0.1:1/' });
    await owned.setClockAhead(2);
    await sweep();
    expect(await owned.sql`select job_id, body from deliveries`).toEqual([{ job_id: id, body: JSON.stringify({ id, state: 'FAILED' }) }]);
  });
});

describe('the attempts of a request', () => {
  const countAttempts = async (model: Model, attemptsMax?: number) => {
    owned.startSweep();
    const upstream = anUpstream({ start: () => Promise.reject(new RetryableError('busy')) });
    owned.startWorker(upstream, 'a worker', [model]);
    const { id, attemptsMax: kept } = await submit({ ...(attemptsMax !== undefined && { attemptsMax }) });
    expect(kept).toBe(attemptsMax);
    const job = await owned.engine.wait(referenceTo(id), WAIT);
    expect(job).toMatchObject({ state: 'FAILED', failure: { message: 'busy' } });
    expect(job?.attempts).toHaveLength(upstream.verbs(id).length);
    return upstream.verbs(id).length;
  };

  test.each([
    [1, 1],
    [2, 2],
    [9, 3],
    [undefined, 3],
  ])('limited to %j are %i where the model allows 3', async (attemptsMax, made) => {
    expect(await countAttempts(aModel, attemptsMax)).toBe(made);
  });

  test('are not used up by workers that vanish: one attempt goes on with the run of the other', async () => {
    const { id } = await submit({ attemptsMax: 1 });
    await claimJobs(owned.sql, [{ jobId: id, workerId: 'dead' }], 1);
    await owned.sql`update attempts set handle = '"a run"' where job_id = ${id}`;
    await owned.setClockAhead(2);
    expect(await sweep()).toMatchObject({ rescued: 1 });
    const upstream = anUpstream({ start: () => Promise.resolve(running('another run')) });
    owned.startWorker(upstream);
    expect(await owned.engine.wait(referenceTo(id), WAIT)).toMatchObject({ state: 'COMPLETED', attempt: 2 });
    expect(upstream.verbs(id)).toEqual(['check']);
  });
});

test('how many requests wait for a provider is counted as far as it matters', async () => {
  const aJobIn = (fields: object) => aJob(owned.sql, { callerId: owned.callerId, ...fields });
  expect(await owned.engine.countWaiting(PROVIDER, 10)).toBe(0);
  for (const fields of [{}, {}, {}, { provider: 'other' }, { state: 'PROCESSING' }, { state: 'COMPLETED' }]) await aJobIn(fields);
  expect(await Promise.all([10, 2, 0].map((limit) => owned.engine.countWaiting(PROVIDER, limit)))).toEqual([3, 2, 0]);
  expect(await owned.engine.countWaiting('other', 10)).toBe(1);
  expect(await owned.engine.countWaiting('nobody', 10)).toBe(0);
});

import { type JobEvent, newId, systemClock } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claimJobs, endJobs, recordProgress } from './storage/transitions.ts';
import { aCaller, aJob, aSubmission, OUTPUT } from './testing/fixtures.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

/** Far longer than a test may take: what comes back earlier came by a signal. */
const LONG_MS = 60_000;
/** Waits look again after five seconds, signal or not. */
const BY_SIGNAL_MS = 4_800;

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine();
});
afterEach(() => owned[Symbol.asyncDispose]());

const referenceTo = (id: string) => ({ id, callerId: owned.callerId });
const end = (jobId: string) => endJobs(owned.sql, [{ jobId, state: 'FAILED', failure: { code: 'internal', message: 'x' } }], 3600);
const claim = (jobId: string) => claimJobs(owned.sql, [{ jobId, workerId: 'w' }], 10);

async function collect(events: AsyncIterable<JobEvent>): Promise<JobEvent[]> {
  const all = [];
  for await (const event of events) all.push(event);
  return all;
}

/** Resolves when this process listens, so that a test of signals does not pass by looking again. */
async function listening(): Promise<void> {
  const listeners = () => owned.sql`
    select from pg_stat_activity where datname = current_database() and application_name = 'claimcheck-signals' and query like 'listen%deliveries'`;
  await expect.poll(listeners, { interval: 5 }).toHaveLength(1);
}

describe('a job of another caller', () => {
  test('is unknown to every verb, exactly as an id that never was', async () => {
    const stranger = await aCaller(owned.sql);
    const { engine } = owned;
    const states = ['QUEUED', 'PROCESSING', 'COMPLETED'] as const;
    const foreign = await Promise.all(states.map((state) => aJob(owned.sql, { callerId: stranger, state })));
    for (const id of [...foreign, newId(systemClock)]) {
      expect(await engine.read(referenceTo(id))).toBeUndefined();
      expect(await engine.wait(referenceTo(id), { until: 'end', timeoutMs: LONG_MS })).toBeUndefined();
      expect(await collect(engine.follow(referenceTo(id), 0, AbortSignal.timeout(LONG_MS)))).toEqual([]);
      expect(await engine.cancel(referenceTo(id))).toBeUndefined();
      expect(await engine.purge(referenceTo(id))).toBeUndefined();
    }
    expect(await engine.list({ callerId: owned.callerId, limit: 10 })).toEqual({ jobs: [] });
    for (const [index, id] of foreign.entries()) {
      expect(await engine.read({ id, callerId: stranger })).toMatchObject({ state: states[index] });
    }
  });
});

describe('an expired job', () => {
  test('is unknown from that moment, though its rows are still there', async () => {
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'COMPLETED', expiresInSeconds: 30 });
    expect(await owned.engine.read(referenceTo(id))).toBeDefined();
    await owned.setClockAhead(31);
    expect(await owned.engine.read(referenceTo(id))).toBeUndefined();
    expect(await owned.engine.wait(referenceTo(id), { until: 'end', timeoutMs: LONG_MS })).toBeUndefined();
    expect(await collect(owned.engine.follow(referenceTo(id), 0, AbortSignal.timeout(LONG_MS)))).toEqual([]);
    expect(await owned.engine.list({ callerId: owned.callerId, limit: 10 })).toEqual({ jobs: [] });
    expect(await owned.sql`select from jobs where id = ${id}`).toHaveLength(1);
  });
});

describe.each(QUEUES)('on %s, a wait', (queue) => {
  test('for the end comes back when the job has ended, and not before', async () => {
    await using other = await createTestEngine({ queue });
    const { id } = await other.engine.submit(aSubmission(other.callerId));
    const waiting = other.engine.wait({ id, callerId: other.callerId }, { until: 'end', timeoutMs: LONG_MS });
    await claimJobs(other.sql, [{ jobId: id, workerId: 'w' }], 10);
    await endJobs(other.sql, [{ jobId: id, attempt: 1, state: 'COMPLETED', output: OUTPUT }], 3600);
    expect(await waiting).toMatchObject({ state: 'COMPLETED', output: OUTPUT });
  });
});

describe('a wait', () => {
  test('is woken by the change itself and does not wait for its next look', async () => {
    await listening();
    const id = await aJob(owned.sql, { callerId: owned.callerId });
    const startedMs = performance.now();
    const waits = (['change', 'end'] as const).map((until) => owned.engine.wait(referenceTo(id), { until, timeoutMs: LONG_MS }));
    // Travels with their first looks, so these are over.
    await owned.engine.read(referenceTo(id));
    await claim(id);
    expect((await waits[0])?.state).toBe('PROCESSING');
    await end(id);
    expect((await waits[1])?.state).toBe('FAILED');
    expect(performance.now() - startedMs).toBeLessThan(BY_SIGNAL_MS);
  });

  test('for a change is not over when only progress was made', async () => {
    await listening();
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    let isOver = false;
    const waiting = owned.engine.wait(referenceTo(id), { until: 'change', timeoutMs: LONG_MS }).finally(() => {
      isOver = true;
    });
    const following = owned.engine.follow(referenceTo(id), 2, AbortSignal.timeout(LONG_MS));
    await recordProgress(owned.sql, [{ jobId: id, attempt: 1, progress: 0.5 }]);
    expect((await following.next()).value).toMatchObject({ type: 'progress' });
    expect(isOver).toBe(false);
    await end(id);
    expect((await waiting)?.state).toBe('FAILED');
    await following.return(undefined);
  });

  test('for a job that has ended comes back at once', async () => {
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'CANCELLED' });
    for (const until of ['change', 'end'] as const) {
      expect((await owned.engine.wait(referenceTo(id), { until, timeoutMs: LONG_MS }))?.state).toBe('CANCELLED');
    }
  });

  test.each([
    ['its time is up', { timeoutMs: 50 }],
    ['its client has gone', { timeoutMs: LONG_MS, signal: AbortSignal.timeout(50) }],
  ])('is over with the job as it is when %s', async (_, limit) => {
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    expect((await owned.engine.wait(referenceTo(id), { until: 'end', ...limit }))?.state).toBe('PROCESSING');
  });

  test('ends without a signal as well, at the next look', async () => {
    const clock = createTestClock();
    await using deaf = await owned.sibling({ clock });
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const waiting = deaf.engine.wait(referenceTo(id), { until: 'end', timeoutMs: LONG_MS });
    await expect.poll(() => clock.sleeping).toContain(5_000);
    // Behind the back of every channel.
    await owned.sql`
      update jobs set state = 'CANCELLED', failure_code = 'cancelled', failure_message = 'x', lease_until = null, finished_at = now(),
        expires_at = now() + interval '1 hour' where id = ${id}`;
    clock.advance(5_000);
    expect((await waiting)?.state).toBe('CANCELLED');
  });

  test('is told to look again when the connection of the signals comes back', async () => {
    await listening();
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const startedMs = performance.now();
    const waiting = owned.engine.wait(referenceTo(id), { until: 'end', timeoutMs: LONG_MS });
    await owned.sql.begin(async (sql) => {
      await sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'claimcheck-signals' and datname = current_database()`;
      await sql`select set_config('application_name', 'test', true)`;
    });
    await end(id);
    expect((await waiting)?.state).toBe('FAILED');
    expect(performance.now() - startedMs).toBeLessThan(BY_SIGNAL_MS);
  });
});

describe('following a job', () => {
  test('tells every event once and in order, and ends with the one that ends the job', async () => {
    const id = await aJob(owned.sql, { callerId: owned.callerId });
    const collecting = collect(owned.engine.follow(referenceTo(id), 0, AbortSignal.timeout(LONG_MS)));
    await claim(id);
    for (let step = 1; step <= 20; step++) await recordProgress(owned.sql, [{ jobId: id, attempt: 1, progress: step / 20 }]);
    await end(id);
    const events = await collecting;
    expect(events.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 23 }, (_, index) => index + 1));
    expect(events.map(({ type }) => type)).toEqual(['status', 'status', ...Array.from({ length: 20 }, () => 'progress'), 'status']);
    expect(events.at(-1)).toMatchObject({ jobId: id, state: 'FAILED', data: { code: 'internal', error: 'x' } });
    expect(events[0]?.at).toBeInstanceOf(Date);
  });

  test.each([0, 1, 3, 250, 501])('from number %i on goes on where it was, without loss or repeats', async (after) => {
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    await owned.sql`
      insert into job_events (job_id, sequence, type, state, progress)
      select ${id}, number, 'progress', 'PROCESSING', 0.5 from generate_series(3, 500) as number`;
    await owned.sql`update jobs set event_count = 500 where id = ${id}`;
    await end(id);
    const events = await collect(owned.engine.follow(referenceTo(id), after, AbortSignal.timeout(LONG_MS)));
    expect(events.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 501 - after }, (_, index) => after + index + 1));
  });

  test('ends when its client has gone', async () => {
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const gone = new AbortController();
    const events = owned.engine.follow(referenceTo(id), 2, gone.signal);
    const next = events.next();
    gone.abort();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  test('ends when the job is purged', async () => {
    const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const collecting = collect(owned.engine.follow(referenceTo(id), 2, AbortSignal.timeout(LONG_MS)));
    await owned.engine.purge(referenceTo(id));
    // Depending on who is faster, with the event that ended it or without.
    expect((await collecting).length).toBeLessThanOrEqual(1);
  });
});

describe('a list', () => {
  test('comes in pages, the newest first, each job once, until there is no cursor', async () => {
    const ids = [];
    for (let made = 0; made < 7; made++) ids.unshift((await owned.engine.submit(aSubmission(owned.callerId))).id);
    ids.sort().reverse();
    const seen: string[][] = [];
    let cursor: string | undefined;
    do {
      const page = await owned.engine.list({ callerId: owned.callerId, limit: 3, ...(cursor !== undefined && { cursor }) });
      seen.push(page.jobs.map(({ id }) => id));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    expect(seen).toEqual([ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)]);
  });

  test('whose last page is full has no cursor behind it', async () => {
    for (let made = 0; made < 4; made++) await aJob(owned.sql, { callerId: owned.callerId });
    const first = await owned.engine.list({ callerId: owned.callerId, limit: 2 });
    const second = await owned.engine.list({ callerId: owned.callerId, limit: 2, cursor: first.nextCursor ?? '' });
    expect(second.jobs).toHaveLength(2);
    expect(second.nextCursor).toBeUndefined();
  });

  test('can be of one state', async () => {
    await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const failed = await aJob(owned.sql, { callerId: owned.callerId, state: 'FAILED' });
    const page = await owned.engine.list({ callerId: owned.callerId, limit: 10, state: 'FAILED' });
    expect(page.jobs.map(({ id }) => id)).toEqual([failed]);
  });
});

test('a place in the queue counts down as those ahead are taken', async () => {
  const first = await owned.engine.submit(aSubmission(owned.callerId));
  const second = await owned.engine.submit(aSubmission(owned.callerId));
  expect([first.queuePosition, second.queuePosition]).toEqual([0, 1]);
  expect((await owned.engine.read(referenceTo(second.id)))?.queuePosition).toBe(1);
  await claim(first.id);
  expect((await owned.engine.read(referenceTo(second.id)))?.queuePosition).toBe(0);
  expect(await owned.engine.read(referenceTo(first.id))).not.toHaveProperty('queuePosition');
});

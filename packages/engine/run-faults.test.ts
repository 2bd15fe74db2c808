/** What happens to a run when its worker, its caller or the network does something in the middle of it. */

import type { JsonText, Run } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claimJobs, endJobs, rescueJobs, saveHandles } from './storage/transitions.ts';
import { anUpstream, aSubmission, OUTPUT, running, untilAborted } from './testing/fixtures.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;
const LEASE_SECONDS = 10;

/** Its run, `endless`, goes on until it is cancelled. The promises resolve when it is looked at, and when it is told to cancel. */
function anEndlessUpstream() {
  const checked = Promise.withResolvers<void>();
  const cancelled = Promise.withResolvers<void>();
  const upstream = anUpstream({
    start: () => Promise.resolve(running('endless', 0)),
    check(run) {
      checked.resolve();
      return untilAborted(run.signal);
    },
    async cancel() {
      cancelled.resolve();
    },
  });
  return { upstream, checked: checked.promise, cancelled: cancelled.promise };
}

describe.each(QUEUES)('on %s', (queue) => {
  let owned: TestEngine;
  beforeEach(async () => {
    owned = await createTestEngine({ queue });
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  const submit = (set = {}) => owned.engine.submit(aSubmission(owned.callerId, set));
  const referenceTo = (id: string) => ({ id, callerId: owned.callerId });
  const waitForEnd = (id: string) => owned.engine.wait(referenceTo(id), WAIT);

  /** What a worker leaves behind that was killed right after it saved a handle. */
  async function claimAndDie(jobId: string, handle?: string): Promise<void> {
    const [claimed] = await claimJobs(owned.sql, [{ jobId, workerId: 'a dead worker' }], LEASE_SECONDS);
    const attempt = claimed?.job.attempt ?? 0;
    if (handle !== undefined) await saveHandles(owned.sql, [{ jobId, attempt, handle: JSON.stringify(handle) as JsonText }]);
  }

  test('a job of a worker that died is rescued when its lease is over, and resumed by its handle without a second start', async () => {
    const { id } = await submit();
    await claimAndDie(id, 'run 9');
    expect(await owned.engine.sweep.once()).toMatchObject({ rescued: 0 });
    await owned.setClockAhead(LEASE_SECONDS + 1);
    expect(await owned.engine.sweep.once()).toMatchObject({ rescued: 1, quarantined: 0 });
    const upstream = anUpstream();
    owned.startWorker(upstream);
    expect(await waitForEnd(id)).toMatchObject({ state: 'COMPLETED', attempt: 2 });
    expect(upstream.calls.map(({ verb, handle }) => ({ verb, handle }))).toEqual([{ verb: 'check', handle: 'run 9' }]);
    expect(await owned.sql`select outcome from attempts where job_id = ${id} order by number`).toEqual([
      { outcome: 'lost' },
      { outcome: 'succeeded' },
    ]);
  });

  test('a job whose worker died before it had a handle is started again', async () => {
    const { id } = await submit();
    await claimAndDie(id);
    await owned.setClockAhead(LEASE_SECONDS + 1);
    await owned.engine.sweep.once();
    const upstream = anUpstream();
    owned.startWorker(upstream);
    await waitForEnd(id);
    expect(upstream.verbs(id)).toEqual(['start']);
  });

  test('a job that lost three workers fails and is not run again', async () => {
    const { id } = await submit({ webhookUrl: 'https://hooks.example/' });
    for (let lost = 1; lost <= 3; lost++) {
      await claimAndDie(id, 'run');
      await owned.setClockAhead(lost * (LEASE_SECONDS + 1));
      expect(await owned.engine.sweep.once()).toMatchObject(lost < 3 ? { rescued: 1, quarantined: 0 } : { rescued: 0, quarantined: 1 });
    }
    expect(await owned.engine.read(referenceTo(id))).toMatchObject({ state: 'FAILED', attempt: 3, failure: { code: 'worker_crashed' } });
    expect(await owned.sql`select count(*)::int as count from deliveries where job_id = ${id}`).toEqual([{ count: 1 }]);
  });

  test('a cancellation reaches the worker, and the upstream is told with the handle', async () => {
    const { upstream, checked, cancelled } = anEndlessUpstream();
    owned.startWorker(upstream);
    const { id } = await submit();
    await checked;
    expect(await owned.engine.cancel(referenceTo(id))).toMatchObject({ state: 'CANCELLED', failure: { code: 'cancelled' } });
    await cancelled;
    expect(upstream.calls.at(-1)).toMatchObject({ verb: 'cancel', handle: 'endless', run: { jobId: id } });
    expect(await owned.engine.read(referenceTo(id))).toMatchObject({ state: 'CANCELLED' });
  });

  test('a cancellation while a run is being started still reaches the run', async () => {
    const starting = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const cancelled = Promise.withResolvers<void>();
    const upstream = anUpstream({
      async start() {
        starting.resolve();
        await started.promise;
        return running('paid for', 0);
      },
      async cancel() {
        cancelled.resolve();
      },
    });
    owned.startWorker(upstream);
    const { id } = await submit();
    await starting.promise;
    await owned.engine.cancel(referenceTo(id));
    started.resolve();
    await cancelled.promise;
    expect(upstream.calls.map(({ verb, handle }) => ({ verb, handle }))).toEqual([
      { verb: 'start', handle: undefined },
      { verb: 'cancel', handle: 'paid for' },
    ]);
  });

  test('a job that is cancelled while it waits is never started', async () => {
    const { id } = await submit();
    await owned.engine.cancel(referenceTo(id));
    const upstream = anUpstream();
    owned.startWorker(upstream);
    const { id: next } = await submit();
    expect((await waitForEnd(next))?.state).toBe('COMPLETED');
    expect(upstream.verbs(id)).toEqual([]);
    expect((await owned.engine.read(referenceTo(id)))?.state).toBe('CANCELLED');
  });

  test('of a completion and a cancellation at once one wins, with one delivery that tells it', async () => {
    const gates = new Map<string, PromiseWithResolvers<void>>();
    const gateOf = (id: string) => {
      const gate = gates.get(id) ?? Promise.withResolvers<void>();
      gates.set(id, gate);
      return gate;
    };
    const upstream = anUpstream({
      async start(run) {
        await gateOf(run.jobId).promise;
        return { kind: 'finished', output: OUTPUT };
      },
    });
    owned.startWorker(upstream);
    await using other = await owned.sibling();
    const jobs = await Promise.all(Array.from({ length: 60 }, () => submit({ webhookUrl: 'https://hooks.example/' })));
    await expect.poll(() => upstream.calls.length).toBe(jobs.length);
    await Promise.all(
      jobs.map(async ({ id }, index) => {
        // Half of them a turn later, so that either side is first now and then.
        if (index % 2) gateOf(id).resolve();
        const cancelled = other.engine.cancel(referenceTo(id));
        gateOf(id).resolve();
        await cancelled;
      }),
    );
    for (const { id } of jobs) {
      const job = await waitForEnd(id);
      const deliveries = await owned.sql<{ body: string }[]>`select body from deliveries where job_id = ${id}`;
      expect(deliveries.map(({ body }) => JSON.parse(body))).toEqual([{ id, state: job?.state }]);
      const ends = await owned.sql`select state from job_events where job_id = ${id} and state in ('COMPLETED', 'FAILED', 'CANCELLED')`;
      expect(ends).toEqual([{ state: job?.state }]);
    }
  });
});

describe('a lease', () => {
  test('that is renewed in time is kept for as long as the run takes', async () => {
    const clock = createTestClock();
    await using owned = await createTestEngine({ clock });
    owned.startWorker(anUpstream({ start: () => Promise.resolve(running('run')) }));
    const { id } = await owned.engine.submit(aSubmission(owned.callerId));
    const lease = async () =>
      (await owned.sql<{ lease: Date | null }[]>`select lease_until as lease from jobs where id = ${id}`)[0]?.lease ?? null;
    await expect.poll(lease).not.toBeNull();
    const before = await lease();
    await expect.poll(() => clock.sleeping).toContain(3_000);
    clock.advance(3_000);
    await expect.poll(async () => Number(await lease())).toBeGreaterThan(Number(before));
  });

  test('that was lost ends the attempt, and leaves the upstream run to the one who resumed it', async () => {
    const clock = createTestClock();
    await using owned = await createTestEngine({ clock });
    const checking = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    const upstream = anUpstream({
      start: () => Promise.resolve(running('shared run', 0)),
      check(run) {
        checking.resolve();
        run.signal.addEventListener('abort', () => aborted.resolve());
        return untilAborted(run.signal);
      },
    });
    const worker = owned.startWorker(upstream);
    const { id } = await owned.engine.submit(aSubmission(owned.callerId));
    // The step between start and check is a sleep of no length.
    await expect.poll(() => clock.sleeping).toContain(0);
    clock.advance(0);
    await checking.promise;
    await owned.setClockAhead(60);
    // Without the sweep, which would ring for this worker as well.
    await rescueJobs(owned.sql, { crashesMax: 3, limit: 1 });
    const [taken] = await claimJobs(owned.sql, [{ jobId: id, workerId: 'another' }], LEASE_SECONDS);
    expect(taken).toMatchObject({ handle: '"shared run"', job: { attempt: 2 } });
    clock.advance(3_000);
    await aborted.promise;
    await expect.poll(() => worker.running).toBe(0);
    expect(upstream.verbs(id)).toEqual(['start', 'check']);
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ state: 'PROCESSING', attempt: 2 });
  });

  test('that was lost to the same worker ends the old attempt, and the new one is kept alive', async () => {
    const clock = createTestClock();
    await using owned = await createTestEngine({ clock });
    const checks: Run[] = [];
    const aborted = Promise.withResolvers<number>();
    const upstream = anUpstream({
      start: () => Promise.resolve(running('shared run', 0)),
      check(run) {
        checks.push(run);
        run.signal.addEventListener('abort', () => aborted.resolve(run.attempt));
        return untilAborted(run.signal);
      },
    });
    const worker = owned.startWorker(upstream);
    const { id } = await owned.engine.submit(aSubmission(owned.callerId));
    await expect.poll(() => clock.sleeping).toContain(0);
    clock.advance(0);
    await expect.poll(() => checks.length).toBe(1);
    await owned.setClockAhead(60);
    await owned.engine.sweep.once();
    expect(await aborted.promise).toBe(1);
    await expect.poll(() => checks.map(({ attempt }) => attempt)).toEqual([1, 2]);
    expect(worker.running).toBe(1);
    expect(upstream.verbs(id)).toEqual(['start', 'check', 'check']);
    await owned.setClockAhead(65);
    clock.advance(3_000);
    const leaseSeconds = async () => {
      const [row] = await owned.sql<{ left: number }[]>`
        select extract(epoch from lease_until - db_now())::double precision as left from jobs where id = ${id}`;
      return row?.left;
    };
    await expect.poll(leaseSeconds).toBeGreaterThan(8);
  });

  test('that a cancellation ended, unheard, tells the upstream as well', async () => {
    const clock = createTestClock();
    await using owned = await createTestEngine({ clock });
    const { upstream, checked, cancelled } = anEndlessUpstream();
    owned.startWorker(upstream);
    const { id } = await owned.engine.submit(aSubmission(owned.callerId));
    await expect.poll(() => clock.sleeping).toContain(0);
    clock.advance(0);
    await checked;
    // Cut the signals, and cancel before they are back: they wait half a second of a clock that stands still.
    await owned.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'claimcheck-signals' and datname = current_database()`;
    await expect.poll(() => clock.sleeping).toContain(500);
    const failure = { code: 'cancelled', message: 'x' } as const;
    await endJobs(owned.sql, [{ jobId: id, state: 'CANCELLED', failure }], 3600);
    clock.advance(3_000);
    await cancelled;
    expect(upstream.calls.at(-1)).toMatchObject({ verb: 'cancel', handle: 'endless' });
  });
});

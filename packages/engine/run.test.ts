import { RetryableError, type Run, type Step, TerminalError } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { anUpstream, aSubmission, OUTPUT, running, sha256, untilAborted } from './testing/fixtures.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

const WAIT = { until: 'end', timeoutMs: 60_000 } as const;

describe.each(QUEUES)('on %s', (queue) => {
  let owned: TestEngine;
  beforeEach(async () => {
    owned = await createTestEngine({ queue });
    owned.startSweep();
  });
  afterEach(() => owned[Symbol.asyncDispose]());

  const submit = (set = {}) => owned.engine.submit(aSubmission(owned.callerId, set));
  const waitForEnd = (id: string) => owned.engine.wait({ id, callerId: owned.callerId }, WAIT);
  const attemptsOf = (id: string) => owned.sql`select number, outcome, failure_message from attempts where job_id = ${id} order by number`;

  test('a run that finishes at once completes its job', async () => {
    const upstream = anUpstream();
    owned.startWorker(upstream, 'worker one');
    const { id } = await submit();
    const job = await waitForEnd(id);
    expect(job).toMatchObject({ state: 'COMPLETED', output: OUTPUT, progress: 1, attempt: 1 });
    expect(job?.failure).toBeUndefined();
    expect(upstream.verbs(id)).toEqual(['start']);
    expect(await owned.sql`select number, outcome, worker_id from attempts where job_id = ${id}`).toEqual([
      { number: 1, outcome: 'succeeded', worker_id: 'worker one' },
    ]);
  });

  test('an upstream is given the parameters, its own name of the model, and one key for all attempts', async () => {
    const upstream = anUpstream({
      start: (run) =>
        run.attempt === 1 ? Promise.reject(new RetryableError('busy')) : Promise.resolve({ kind: 'finished', output: OUTPUT }),
    });
    owned.startWorker(upstream);
    const { id } = await submit();
    await waitForEnd(id);
    const runs = upstream.calls.map(({ run }) => run);
    expect(runs.map(({ attempt }) => attempt)).toEqual([1, 2]);
    for (const run of runs) {
      expect(run).toMatchObject({ jobId: id, model: 'upstream/test-model', parameters: { prompt: 'a lighthouse' } });
      expect(run.idempotencyKey).toBe(`${id}-testing`);
    }
  });

  test('a handle is saved before the first check', async () => {
    let saved: unknown;
    owned.startWorker(
      anUpstream({
        start: () => Promise.resolve(running({ run: 'abc' }, 0)),
        async check(run, handle) {
          [saved] = await owned.sql`select handle from attempts where job_id = ${run.jobId}`;
          expect(handle).toEqual({ run: 'abc' });
          return { kind: 'finished', output: OUTPUT };
        },
      }),
    );
    const { id } = await submit();
    expect((await waitForEnd(id))?.state).toBe('COMPLETED');
    expect(saved).toEqual({ handle: '{"run":"abc"}' });
  });

  test('progress becomes events, in order and never backwards', async () => {
    const steps: Step[] = [0.25, 0.1, 0.75].map((progress) => ({ ...running('run', 0), progress }) as Step);
    const reported = async (run: Run) => owned.sql`select progress from job_events where job_id = ${run.jobId} and type = 'progress'`;
    owned.startWorker(
      anUpstream({
        start: () => Promise.resolve(steps[0] as Step),
        async check(run) {
          // The first report is on its way in the background.
          await expect.poll(() => reported(run)).toHaveLength(1);
          return { kind: 'finished', output: OUTPUT };
        },
      }),
    );
    const { id } = await submit();
    await waitForEnd(id);
    const events = await owned.sql`select type, state, progress from job_events where job_id = ${id} order by sequence`;
    expect(events).toEqual([
      { type: 'status', state: 'QUEUED', progress: 0 },
      { type: 'status', state: 'PROCESSING', progress: 0 },
      { type: 'progress', state: 'PROCESSING', progress: 0.25 },
      { type: 'status', state: 'COMPLETED', progress: 1 },
    ]);
  });

  test('an upstream that is flaky twice succeeds at the third attempt', async () => {
    const upstream = anUpstream({
      start: (run) =>
        run.attempt < 3 ? Promise.reject(new RetryableError(`busy ${run.attempt}`)) : Promise.resolve({ kind: 'finished', output: OUTPUT }),
    });
    owned.startWorker(upstream);
    const { id } = await submit();
    expect(await waitForEnd(id)).toMatchObject({ state: 'COMPLETED', attempt: 3 });
    expect(await attemptsOf(id)).toEqual([
      { number: 1, outcome: 'failed', failure_message: 'busy 1' },
      { number: 2, outcome: 'failed', failure_message: 'busy 2' },
      { number: 3, outcome: 'succeeded', failure_message: null },
    ]);
  });

  test('a failed attempt is started anew and not resumed', async () => {
    const upstream = anUpstream({
      start: () => Promise.resolve(running('run', 0)),
      check: (run) =>
        run.attempt === 1 ? Promise.reject(new RetryableError('gone')) : Promise.resolve({ kind: 'finished', output: OUTPUT }),
    });
    owned.startWorker(upstream);
    const { id } = await submit();
    await waitForEnd(id);
    expect(upstream.verbs(id)).toEqual(['start', 'check', 'start', 'check']);
  });

  test('a job whose attempts are used up fails with what the last one said', async () => {
    const upstream = anUpstream({ start: (run) => Promise.reject(new RetryableError(`busy ${run.attempt}`, { code: 'timeout' })) });
    owned.startWorker(upstream);
    const { id } = await submit();
    expect(await waitForEnd(id)).toMatchObject({ state: 'FAILED', attempt: 3, failure: { code: 'timeout', message: 'busy 3' } });
    expect(upstream.verbs(id)).toHaveLength(3);
  });

  test('a terminal error fails the job at once, with its message', async () => {
    const upstream = anUpstream({ start: () => Promise.reject(new TerminalError('No nudity, please.', { code: 'content_refused' })) });
    owned.startWorker(upstream);
    const { id } = await submit();
    expect(await waitForEnd(id)).toMatchObject({
      state: 'FAILED',
      attempt: 1,
      failure: { code: 'content_refused', message: 'No nudity, please.' },
    });
    expect(upstream.verbs(id)).toHaveLength(1);
  });

  test('an error that an adapter did not mean fails the job without telling the client what it said', async () => {
    owned.startWorker(anUpstream({ start: () => Promise.reject(new Error('password=hunter2')) }));
    const { id } = await submit();
    const job = await waitForEnd(id);
    expect(job).toMatchObject({ state: 'FAILED', failure: { code: 'internal' } });
    expect(JSON.stringify(job)).not.toContain('hunter2');
    expect(await owned.sql`select from attempts where failure_message like '%hunter2%'`).toEqual([]);
  });

  test('a model that has left the catalog fails its jobs', async () => {
    const upstream = anUpstream();
    owned.startWorker(upstream);
    const { id } = await submit({ model: 'forgotten' });
    expect(await waitForEnd(id)).toMatchObject({
      state: 'FAILED',
      failure: { message: 'The model forgotten is no longer in the catalog.' },
    });
    expect(upstream.calls).toEqual([]);
  });

  test('a file that a run produces is an asset with the same bytes', async () => {
    const bytes = Buffer.from('not really a picture');
    owned.startWorker(
      anUpstream({
        start: async (run) => ({
          kind: 'finished',
          output: { media: [await run.storeFile({ bytes, contentType: 'image/webp', fileName: 'a.webp', width: 4, height: 2 })] },
        }),
      }),
    );
    const { id } = await submit();
    const job = await waitForEnd(id);
    const [media] = job?.output?.media ?? [];
    expect(media).toMatchObject({ contentType: 'image/webp', fileName: 'a.webp', bytes: bytes.length, width: 4, height: 2 });
    const token = media && 'asset' in media.location ? media.location.asset : '';
    expect(await owned.engine.assets.find(token)).toMatchObject({ bytes: bytes.length, sha256: sha256(bytes) });
    expect(Buffer.from(await new Response(owned.engine.assets.read(token)).arrayBuffer())).toEqual(bytes);
  });

  test('a worker that stops gives its attempts back, and another resumes them by their handles', async () => {
    const started = Promise.withResolvers<void>();
    const first = anUpstream({
      start: () => Promise.resolve(running('run 7', 0)),
      check(run) {
        started.resolve();
        return untilAborted(run.signal);
      },
    });
    const worker = owned.startWorker(first, 'first');
    const { id } = await submit();
    await started.promise;
    expect(worker.running).toBe(1);
    await worker.stop();
    expect(worker.running).toBe(0);
    expect(first.verbs(id)).toEqual(['start', 'check']);
    expect(await attemptsOf(id)).toEqual([{ number: 1, outcome: 'released', failure_message: null }]);

    const second = anUpstream();
    owned.startWorker(second, 'second');
    expect(await waitForEnd(id)).toMatchObject({ state: 'COMPLETED', attempt: 2 });
    expect(second.calls.map(({ verb, handle }) => ({ verb, handle }))).toEqual([{ verb: 'check', handle: 'run 7' }]);
  });

  test('a worker that stops while a run is being started waits for its handle, so that the run is not started twice', async () => {
    const starting = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const first = anUpstream({
      async start() {
        starting.resolve();
        await started.promise;
        return running('just in time', 0);
      },
    });
    const worker = owned.startWorker(first);
    const { id } = await submit();
    await starting.promise;
    const stopped = worker.stop();
    started.resolve();
    await stopped;
    expect(first.verbs(id)).toEqual(['start']);
    const second = anUpstream();
    owned.startWorker(second);
    expect(await waitForEnd(id)).toMatchObject({ state: 'COMPLETED', attempt: 2, resubmits: 0 });
    expect(second.calls.map(({ verb, handle }) => ({ verb, handle }))).toEqual([{ verb: 'check', handle: 'just in time' }]);
  });

  test('a worker runs no more of a provider than it allows', async () => {
    const gate = Promise.withResolvers<void>();
    let now = 0;
    let most = 0;
    const upstream = anUpstream({
      concurrency: 2,
      async start() {
        now += 1;
        most = Math.max(most, now);
        if (upstream.calls.length >= 2) gate.resolve();
        await gate.promise;
        now -= 1;
        return { kind: 'finished', output: OUTPUT };
      },
    });
    owned.startWorker(upstream);
    const jobs = await Promise.all(Array.from({ length: 6 }, () => submit()));
    for (const { id } of jobs) expect((await waitForEnd(id))?.state).toBe('COMPLETED');
    expect(most).toBe(2);
  });
});

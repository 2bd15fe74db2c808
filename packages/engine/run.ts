/**
 * The worker: claims jobs when their doorbell rings and runs each attempt at its provider.
 *
 * 1. A claim makes an attempt with a lease; from then on the upstream may have been asked to work (the intent).
 * 2. `start` hands the work in; its handle is saved before anything else happens. A resumed attempt skips this.
 * 3. `check` is called, with waits in between, until the run has finished.
 * 4. The result, the failure or the next try is written, if the attempt is still ours.
 *
 * An attempt ends early when somebody else ends the job, when its lease is lost, or when the worker stops: then the job goes
 * back into the queue and another worker resumes it by its handle.
 */
import { randomBytes } from 'node:crypto';
import {
  type Catalog,
  type Job,
  type JsonText,
  ProviderError,
  type Run,
  type Step,
  TerminalError,
  toJsonText,
  type Upstream,
} from '@claimcheck/core';
import { makeAttemptEnd, type OpenAttempt } from './attempt-end.ts';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { openGates } from './gates.ts';
import { makeHandOver } from './hand-over.ts';
import { owe } from './owe.ts';
import { waitOf } from './provider-health.ts';
import type { Consumer } from './queue.ts';
import { makeRouter, type RouterOptions } from './route.ts';
import type { Settle } from './settle.ts';
import { listWaiting } from './storage/due-jobs.ts';
import {
  type Claim,
  type ClaimedAttempt,
  claimJobs,
  findWaiting,
  type HandleRecord,
  listLive,
  type Move,
  moveJobs,
  type Ownership,
  type ProgressReport,
  recordProgress,
  renewLeases,
  saveHandles,
} from './storage/transitions.ts';
import { doorbellOf, type Ring } from './submit.ts';
import { makeTell, type Telling } from './tell.ts';
import type { Heard } from './untold.ts';
import { callbackUrlOf, makeUpstreamRun } from './upstream-run.ts';

export interface WorkerOptions {
  /** Names this worker in its attempts. */
  readonly workerId: string;
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly catalog: Pick<Catalog, 'find' | 'express' | 'estimateUsd' | 'costUsd'>;
  /** As RouterOptions; `auto` unless given. */
  readonly sandbox?: RouterOptions['sandbox'];
  /** Where upstreams can reach the API, without a trailing slash; unset, they are not asked to call back. */
  readonly publicUrl?: string;
}

export interface RunningWorker {
  /** Takes no new work, gives running attempts back to the queue, and resolves when all are given back. */
  stop(): Promise<void>;
  /** Attempts under way. */
  readonly running: number;
}

/** A worker that dies is noticed after this; its jobs run again one sweep later. */
export const LEASE_SECONDS = 10;
/** Three renewals fit into a lease, so one lost statement does not lose attempts. */
const RENEW_MS = 3_000;
/** Larger statements would be slower than several: the planner does not know how many rows a parameter brings. */
const RENEW_BATCH = 200;
/** Runs of one provider in one worker, unless the provider says otherwise: they mostly wait. */
const CONCURRENCY = 500;
const PROGRESS_EVERY_MS = 500;
const UPSTREAM_CANCEL_MS = 10_000;
/** A worker that stops gives starting runs this long to tell their handle. */
const START_GRACE_MS = 3_000;
const WRITE_AGAIN_MS = 500;

/** Somebody else ended the job; the attempt is another's now; this worker stops. */
type StopReason = 'ended' | 'lost' | 'stopping';

/** Why an attempt ended before its run did. */
class AttemptStopped extends Error {
  readonly reason: StopReason;
  constructor(reason: StopReason) {
    super(reason);
    this.reason = reason;
  }
}

interface HeldAttempt extends Ownership {
  readonly control: AbortController;
  /** True while the upstream is asked to start: interrupting that would leave a run whose handle nobody knows. */
  isStarting: boolean;
}

export function startWorker(context: EngineContext, settle: Settle, ring: Ring, options: WorkerOptions): RunningWorker {
  const { clock, database, health, log, queue, signals } = context;
  const { catalog, publicUrl, sandbox = 'auto', upstreams } = options;
  const router = makeRouter(context, { catalog, available: new Set(upstreams.keys()), off: new Map(), sandbox });
  const end = makeAttemptEnd(context, { catalog, router, settle, ring });
  const tell = makeTell(context);
  const handOver = makeHandOver(context, publicUrl);
  const held = new Map<string, HeldAttempt>();
  const stopping = new AbortController();
  /** Jobs that were given back: rung for when this worker takes no more doorbells, lest it swallow them itself. */
  const givenBack = new Set<string>();
  const byJob = { keyOf: ({ jobId }: { readonly jobId: string }) => jobId };
  const claim = coalesce(
    (claims: readonly Claim[]) =>
      database.sql.begin(async (sql) => {
        const claimed = await claimJobs(sql, claims, LEASE_SECONDS);
        // Later attempts are nobody else's business.
        const started = claimed.map((attempt) => (attempt?.job.attempt === 1 ? attempt.job : undefined));
        await owe(context, sql, 'started', started);
        return claimed;
      }),
    byJob,
  );
  const move = coalesce((moves: readonly Move[]) => moveJobs(database.sql, moves), byJob);
  const saveHandle = coalesce(async (records: readonly HandleRecord[]) => {
    const saved = new Set((await saveHandles(database.sql, records)).map(({ jobId }) => jobId));
    return records.map(({ jobId }) => saved.has(jobId));
  }, byJob);
  const report = coalesce(async (reports: readonly ProgressReport[]) => {
    await database.sql.begin(async (sql) => owe(context, sql, 'progress', await recordProgress(sql, reports)));
    return reports.map(() => undefined);
  }, byJob);

  const consumers: Consumer[] = Array.from(upstreams, ([provider, upstream]) =>
    queue.consume({ provider, concurrency: upstream.concurrency ?? CONCURRENCY, limits: upstream.limits ?? {} }, async ({ jobId }) => {
      if (stopping.signal.aborted) return 'left';
      try {
        await answerDoorbell(jobId, provider, upstream);
      } catch (error) {
        // The lease runs out and the sweep gives the job to somebody else.
        log.error({ error, jobId, provider }, 'attempt abandoned');
      }
      return 'answered';
    }),
  );
  const gates = openGates(context, new Set(upstreams.keys()));
  const unsubscribeEnded = signals.on('ended', (changed) => {
    if (changed === 'all') return;
    for (const id of changed) held.get(id)?.control.abort(new AttemptStopped('ended'));
  });
  const unsubscribeConcluded = signals.on('concluded', (changed) => {
    if (changed === 'all') return;
    for (const concluded of changed) {
      const [id = '', number] = concluded.split(':');
      const attempt = held.get(id);
      // Its run is over: there is nothing to cancel.
      if (attempt?.attempt === Number(number)) attempt.control.abort(new AttemptStopped('lost'));
    }
  });
  const renewing = keepLeases();

  async function answerDoorbell(jobId: string, provider: string, upstream: Upstream): Promise<void> {
    const admission = await admit(jobId, provider);
    if (admission === 'sent away') return;
    const callbackToken = publicUrl !== undefined && upstream.receive ? newCallbackToken() : undefined;
    const claimed = await claim({ jobId, workerId: options.workerId, ...(callbackToken !== undefined && { callbackToken }) });
    if (!claimed) {
      if (admission === 'probe') health.returnProbe(provider);
      return;
    }
    const { job } = claimed;
    log.info({ jobId, attempt: job.attempt, provider, resumed: claimed.handle !== undefined }, 'attempt started');
    const attempt: HeldAttempt = { jobId, attempt: job.attempt, control: new AbortController(), isStarting: false };
    // It was lost to ourselves, as when the database was away for longer than a lease.
    held.get(jobId)?.control.abort(new AttemptStopped('lost'));
    held.set(jobId, attempt);
    // Stopping may have begun while the claim was under way.
    if (stopping.signal.aborted) attempt.control.abort(new AttemptStopped('stopping'));
    try {
      await runAttempt(claimed, upstream, attempt);
    } finally {
      if (held.get(jobId) === attempt) held.delete(jobId);
    }
  }

  /**
   * Keeps jobs away from a provider that is not well: to another that can serve them, or to wait until it is. `probe` is the one attempt that
   * may try it. A run that goes on there is only looked at, whatever the provider's state.
   */
  async function admit(jobId: string, provider: string): Promise<'free' | 'probe' | 'sent away'> {
    const state = health.stateOf(provider);
    if (state === undefined) return 'free';
    if (state === 'probing' && (await health.takeProbe(provider))) return 'probe';
    const waiting = await findWaiting(database.sql, jobId);
    if (!waiting) return 'sent away';
    if (waiting.hasRun) return 'free';
    const { job, failedProviders } = waiting;
    const model = catalog.find(job.model);
    // The attempt will say what is wrong with it.
    if (!model) return 'free';
    const request = { model, parameters: JSON.parse(job.input), ...(job.isPinned && { pinned: provider }) };
    const choice = await router.chooseAgain(request, failedProviders);
    const next = choice ?? { provider, waitMs: waitOf(state) };
    if (next.provider === provider && next.waitMs === 0) return 'free';
    const moved = await move({ jobId, from: provider, to: next.provider, delayMs: next.waitMs });
    if (moved && next.waitMs === 0) ring(doorbellOf(moved));
    if (moved) log.info({ jobId, provider, next: next.provider, waitMs: Math.round(next.waitMs) }, 'provider is not well, job sent on');
    return 'sent away';
  }

  async function runAttempt(claimed: ClaimedAttempt, upstream: Upstream, attempt: HeldAttempt): Promise<void> {
    const { job, callbackToken } = claimed;
    const { signal } = attempt.control;
    let handle: JsonText | undefined = claimed.handle;
    const open = (): OpenAttempt => ({ ...claimed, upstream, hasHandle: handle !== undefined });
    const writeFor = <Result>(statement: () => Promise<Result>) => write(attempt, statement);
    /** Only for a run that tells something: most do not, and shall cost nothing. */
    let telling: Telling | undefined;
    const hear = (heard: Heard): void => {
      if (!heard.logs && heard.partialText === undefined) return;
      const before = claimed.handle !== undefined ? 'this run' : job.attempt > 1 ? 'another run' : 'nobody';
      telling ??= tell({ ...owner(attempt), before, signal });
      telling.take(heard);
    };
    try {
      const callbackUrl = callbackToken && publicUrl !== undefined ? callbackUrlOf(publicUrl, job.provider, callbackToken) : undefined;
      const run = await makeUpstreamRun(context, { catalog, job, callbackUrl, signal, tell: hear });
      if (claimed.isUnknown && !upstream.isIdempotent && catalog.find(job.model)?.onUnknown === 'fail') {
        throw new TerminalError('A worker was lost while it handed the request to the provider; whether the provider ran it is unknown.', {
          code: 'outcome_unknown',
        });
      }
      let step = await (handle === undefined ? startRun(upstream, run, attempt, job) : upstream.check(run, JSON.parse(handle)));
      if (step.kind === 'running' && handle === undefined) health.accepted(job.provider);
      let reported = { progress: job.progress, atMs: Number.NEGATIVE_INFINITY };
      while (step.kind === 'running') {
        const known = handle;
        // Even if it cannot be saved: when the job has ended meanwhile, the upstream must be told of this run.
        handle = toJsonText(step.handle);
        if (handle !== known) await keepHandle(attempt, handle);
        // Asked to stop while the upstream was being asked to start: now somebody else can resume.
        if (stopping.signal.aborted) attempt.control.abort(new AttemptStopped('stopping'));
        reported = reportProgress(attempt, reported, step);
        hear(step);
        await clock.sleep(step.checkAfterMs, signal);
        step = await upstream.check(run, step.handle);
      }
      hear(step);
      await writeFor(async () => telling?.flush());
      const output = await end.keep(open(), step.output, signal);
      const ended = await end.succeed(open(), output, writeFor);
      log.info({ jobId: job.id, attempt: job.attempt, provider: job.provider, ended: ended !== undefined }, 'attempt succeeded');
    } catch (error) {
      const stopped = signal.aborted ? signal.reason : undefined;
      const isOurs = !(stopped instanceof AttemptStopped) || stopped.reason === 'stopping';
      if (isOurs && error instanceof ProviderError && error.logs) hear({ logs: error.logs });
      if (isOurs)
        await telling?.flush().catch((cause: unknown) => log.warn({ error: cause, jobId: job.id }, 'last words of a run not written'));
      if (stopped instanceof AttemptStopped) await stopAttempt(claimed, upstream, handle, stopped);
      else await end.fail(open(), error, writeFor);
    }
  }

  function startRun(upstream: Upstream, run: Run, attempt: HeldAttempt, { baseUrl }: Job): Promise<Step> {
    // What is handed over is needed for this alone, and too large to be kept while the run goes on.
    return handOver(run, { baseUrl, isSimulated: upstream.isSimulated ?? false }, async (handed) => {
      attempt.isStarting = true;
      try {
        return await upstream.start(handed);
      } finally {
        attempt.isStarting = false;
      }
    });
  }

  /** Saves a handle; without it a crash would pay twice. @throws AttemptStopped when the attempt is no longer ours. */
  async function keepHandle(attempt: HeldAttempt, handle: JsonText): Promise<void> {
    if (await write(attempt, () => saveHandle({ ...owner(attempt), handle }))) return;
    await write(attempt, () => letGo([attempt]));
    throw attempt.control.signal.reason;
  }

  /**
   * Stops attempts that are not ours any more. Where the job goes on, the upstream's run belongs to the attempt that took over; where it
   * has ended, unheard, nobody needs the run.
   */
  async function letGo(attempts: readonly HeldAttempt[]): Promise<void> {
    const ids = attempts.map(({ jobId }) => jobId);
    const live = new Set(await listLive(database.sql, ids));
    for (const { jobId, control } of attempts) control.abort(new AttemptStopped(live.has(jobId) ? 'lost' : 'ended'));
  }

  /** Reports progress in the background, at most every half second and only forwards: a missed report harms nobody. */
  function reportProgress(
    attempt: HeldAttempt,
    last: { readonly progress: number; readonly atMs: number },
    { progress }: Extract<Step, { kind: 'running' }>,
  ): { progress: number; atMs: number } {
    const now = clock.now();
    if (progress === undefined || progress <= last.progress || now - last.atMs < PROGRESS_EVERY_MS) return last;
    report({ ...owner(attempt), progress: Math.min(progress, 1) }).catch((error: unknown) => {
      log.warn({ error, jobId: attempt.jobId }, 'progress not recorded');
    });
    return { progress, atMs: now };
  }

  async function stopAttempt(
    { job }: ClaimedAttempt,
    upstream: Upstream,
    handle: JsonText | undefined,
    { reason }: AttemptStopped,
  ): Promise<void> {
    log.info({ jobId: job.id, attempt: job.attempt, provider: job.provider, reason }, 'attempt stopped');
    if (reason === 'stopping') {
      const released = await end.release(job);
      if (released) givenBack.add(released.id);
    }
    if (reason === 'ended' && handle !== undefined && upstream.cancel) {
      try {
        const signal = AbortSignal.timeout(UPSTREAM_CANCEL_MS);
        await upstream.cancel(await makeUpstreamRun(context, { catalog, job, signal }), JSON.parse(handle));
      } catch (error) {
        log.warn({ error, jobId: job.id, provider: job.provider }, 'upstream not cancelled');
      }
    }
  }

  /** A write that must not be lost to a database that is away for a moment: tried until it works or the attempt is over. */
  async function write<Result>(attempt: HeldAttempt, statement: () => Promise<Result>): Promise<Result> {
    for (;;) {
      try {
        return await statement();
      } catch (error) {
        log.warn({ error, jobId: attempt.jobId }, 'write failed, trying again');
        await clock.sleep(WRITE_AGAIN_MS, attempt.control.signal);
      }
    }
  }

  async function keepLeases(): Promise<void> {
    while (!stopping.signal.aborted) {
      await clock.sleep(RENEW_MS, stopping.signal).catch(() => {});
      await renewOnce().catch((error: unknown) => log.warn({ error }, 'leases not renewed'));
    }
  }

  async function renewOnce(): Promise<void> {
    const asked = [...held.values()];
    for (let first = 0; first < asked.length; first += RENEW_BATCH) {
      const batch = asked.slice(first, first + RENEW_BATCH);
      const kept = new Set((await renewLeases(database.sql, batch.map(owner), LEASE_SECONDS)).map(({ jobId }) => jobId));
      const gone = batch.filter((attempt) => !kept.has(attempt.jobId) && held.get(attempt.jobId) === attempt);
      if (gone.length > 0) await letGo(gone);
    }
  }

  return {
    get running() {
      return held.size;
    },
    async stop() {
      stopping.abort();
      unsubscribeEnded();
      unsubscribeConcluded();
      const interrupt = (attempts: Iterable<HeldAttempt>) => {
        for (const { control } of attempts) control.abort(new AttemptStopped('stopping'));
      };
      interrupt(Array.from(held.values()).filter(({ isStarting }) => !isStarting));
      const closed = new AbortController();
      const late = clock.sleep(START_GRACE_MS, closed.signal).then(
        () => interrupt(held.values()),
        () => {},
      );
      await Promise.all([gates.close(), ...consumers.map((consumer) => consumer.close())]);
      closed.abort();
      const waiting = await listWaiting(database.sql, [...givenBack]).catch(() => []);
      // If it fails the sweep rings.
      await queue.ring(waiting.map(doorbellOf)).catch((error: unknown) => log.warn({ error }, 'doorbells not rung'));
      await Promise.all([late, renewing]);
    },
  };
}

/** 256 random bits: who knows the address may tell of the run, where the upstream signs nothing. */
function newCallbackToken(): string {
  return randomBytes(32).toString('base64url');
}

function owner({ jobId, attempt }: Ownership): Ownership {
  return { jobId, attempt };
}

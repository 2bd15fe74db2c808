/**
 * Time and the safety net, ticked by every worker: starts scheduled jobs and retries, ends those past their deadline, rescues jobs of
 * dead workers, rings doorbells that were lost, and removes what has expired. Each duty works in small batches, may run in several processes at once, and is quiet when there is nothing to do.
 */
import { removeJobs } from './cancel.ts';
import type { EngineContext } from './context.ts';
import type { Settle } from './settle.ts';
import { expireDeliveries } from './storage/deliveries.ts';
import { listDue, listExpired, listOverdue, listPoisonous, listSilent, listUnstarted, nextDueInMs } from './storage/due-jobs.ts';
import { deleteExpiredKeys } from './storage/submissions.ts';
import { rescueJobs } from './storage/transitions.ts';
import { doorbellOf, type Ring } from './submit.ts';
import type { Uploads } from './uploads.ts';

export interface Sweep {
  /** Runs every duty once and says how often each acted. */
  once(): Promise<SweepReport>;
  /** Runs every duty each second, and when a scheduled job is due, until stopped. */
  start(): RunningSweep;
}

export interface RunningSweep {
  stop(): Promise<void>;
}

export interface SweepReport {
  /** Jobs whose worker had vanished, back in the queue. */
  readonly rescued: number;
  /** Jobs that ended FAILED because they lost too many workers. */
  readonly quarantined: number;
  /** Jobs that ended FAILED because their deadline had passed, or the time in which they had to start. */
  readonly timedOut: number;
  /** Scheduled jobs whose time had come. */
  readonly rung: number;
  readonly rungAgain: number;
  readonly purged: number;
}

const TICK_MS = 1_000;
const BATCH = 500;
/** One statement names all the jobs it rescued in one signal, which has room for no more. */
const RESCUE_BATCH = 200;
/** A job that lost this many workers is likely what kills them. */
const CRASHES_MAX = 3;
/** A due job that nobody claimed for this long may have lost its doorbell; ringing one that still waits is harmless. */
const SILENT_SECONDS = 15;

export function makeSweep(context: EngineContext, settle: Settle, ring: Ring, uploads: Pick<Uploads, 'purgeOnce'>): Sweep {
  const { database, clock, log, settings } = context;

  async function rescue(): Promise<number> {
    const jobs = await rescueJobs(database.sql, { crashesMax: CRASHES_MAX, limit: RESCUE_BATCH });
    for (const job of jobs) ring(doorbellOf(job));
    return jobs.length;
  }

  async function quarantine(): Promise<number> {
    const poisonous = await listPoisonous(database.sql, { crashesMax: CRASHES_MAX, limit: BATCH });
    const message = `The request was given up: its worker vanished ${CRASHES_MAX} times while running it.`;
    const ended = await Promise.all(
      poisonous.map((attempt) => settle({ ...attempt, state: 'FAILED', failure: { code: 'worker_crashed', message } })),
    );
    return ended.filter((job) => job !== undefined).length;
  }

  async function timeOut(): Promise<number> {
    const overdue = await listOverdue(database.sql, BATCH);
    const message = 'The request did not end before its deadline.';
    const unstarted = await listUnstarted(database.sql, BATCH);
    const unstartedMessage = 'The request was not started within the time that was set for it.';
    const ended = await Promise.all([
      ...overdue.map((jobId) => settle({ jobId, state: 'FAILED', failure: { code: 'timeout', message } })),
      // Not one that a worker has taken meanwhile.
      ...unstarted.map((jobId) => settle({ jobId, attempt: 0, state: 'FAILED', failure: { code: 'timeout', message: unstartedMessage } })),
    ]);
    return ended.filter((job) => job !== undefined).length;
  }

  async function ringDue(): Promise<number> {
    const due = await listDue(database.sql, BATCH);
    for (const job of due) ring(doorbellOf(job));
    return due.length;
  }

  async function ringAgain(): Promise<number> {
    const silent = await listSilent(database.sql, { silentSeconds: SILENT_SECONDS, limit: BATCH });
    for (const job of silent) ring(doorbellOf(job));
    return silent.length;
  }

  async function purge(): Promise<number> {
    const expired = await listExpired(database.sql, BATCH);
    await removeJobs(context, expired);
    await uploads.purgeOnce();
    await deleteExpiredKeys(database.sql, BATCH);
    const { resultTtlSeconds, webhookLogSeconds } = settings;
    await expireDeliveries(database.sql, { messageSeconds: resultTtlSeconds, logSeconds: webhookLogSeconds, limit: BATCH });
    return expired.length;
  }

  async function once(): Promise<SweepReport> {
    const report = {
      // Before the rescue: what is past its deadline must not be handed to another worker.
      timedOut: await timeOut(),
      rescued: await rescue(),
      quarantined: await quarantine(),
      rung: await ringDue(),
      rungAgain: await ringAgain(),
      purged: await purge(),
    };
    if (report.rescued + report.quarantined + report.timedOut + report.rungAgain > 0) log.warn(report, 'sweep acted');
    return report;
  }

  return {
    once,
    start() {
      const stopping = new AbortController();
      const running = (async () => {
        while (!stopping.signal.aborted) {
          await once().catch((error: unknown) => log.warn({ error }, 'sweep failed'));
          const dueMs = await nextDueInMs(database.sql).catch(() => undefined);
          await clock.sleep(Math.min(dueMs ?? TICK_MS, TICK_MS), stopping.signal).catch(() => {});
        }
      })();
      return {
        async stop() {
          stopping.abort();
          await running;
        },
      };
    },
  };
}

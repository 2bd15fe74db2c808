/** Takes submissions in: acknowledged after their commit, then the doorbell of their provider's queue is rung. */
import { AppError, type Job, newId, type Submission } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { isTold, owe } from './owe.ts';
import type { Doorbell } from './queue.ts';
import { type Insertion, insertJobs } from './storage/submissions.ts';

/** The job that was made; for a replay, as it was when its request came first. */
export interface Submitted extends Job {
  /** True when the request had been handed in before, under the same idempotency key. */
  readonly isReplay: boolean;
}

/**
 * Makes a job of a submission. When it resolves the job is durable; when it rejects there is none.
 * @throws AppError `idempotency_mismatch` when its key stands for another request, `conflict` while the same key is being handed in.
 */
export type Submit = (submission: Submission) => Promise<Submitted>;

/** How long a request is recognised by its idempotency key. */
const IDEMPOTENCY_TTL_SECONDS = 24 * 3600;

export function makeSubmit(context: EngineContext, ring: Ring): Submit {
  interface Call {
    readonly id: string;
    readonly submission: Submission;
  }
  const { database } = context;
  const insertBatch = async (calls: readonly Call[]): Promise<readonly Insertion[]> => {
    // One statement is a transaction already.
    if (!calls.some(({ submission }) => isTold(submission, 'queued'))) return insertJobs(database.sql, calls, IDEMPOTENCY_TTL_SECONDS);
    return database.sql.begin(async (sql) => {
      const insertions = await insertJobs(sql, calls, IDEMPOTENCY_TTL_SECONDS);
      const created = insertions.map((insertion) => (insertion.kind === 'created' ? insertion.job : undefined));
      await owe(context, sql, 'queued', created);
      return insertions;
    });
  };
  const insert = coalesce<Call, Insertion>(insertBatch, {
    keyOf: ({ id, submission }) => (submission.idempotency ? `${submission.callerId} ${submission.idempotency.keyHash}` : id),
  });
  return async (submission) => {
    const insertion = await insert({ id: newId(context.clock), submission });
    switch (insertion.kind) {
      case 'created': {
        const { job } = insertion;
        // A scheduled one is rung by the sweep when the database says that it is due.
        if (submission.runAt === undefined && submission.delaySeconds === undefined) ring(doorbellOf(job));
        return { ...job, isReplay: false };
      }
      case 'replayed':
        return { ...insertion.job, isReplay: true };
      case 'mismatch':
        throw new AppError('idempotency_mismatch', 'This Idempotency-Key was used for another request: send a new key with a new request.');
      case 'in_flight':
        throw new AppError('conflict', 'A request with this Idempotency-Key is being taken in at this moment: try again.', {
          retryAfterSeconds: 1,
        });
    }
  };
}

/** The doorbell of a job as it stands. */
export function doorbellOf({
  id,
  provider,
  model,
  attempt,
  priority,
}: Pick<Job, 'id' | 'provider' | 'model' | 'attempt' | 'priority'>): Doorbell {
  return { jobId: id, provider, model, attempt, priority };
}

/** Rings a doorbell in the background. One that fails is only logged: the sweep rings for every job that stays silent. */
export type Ring = (doorbell: Doorbell) => void;

export function makeRing({ queue, log }: Pick<EngineContext, 'queue' | 'log'>): Ring {
  const ring = coalesce(async (doorbells: readonly Doorbell[]) => {
    await queue.ring(doorbells);
    return doorbells.map(() => undefined);
  });
  return (doorbell) => {
    ring(doorbell).catch((error: unknown) => log.warn({ error, jobId: doorbell.jobId }, 'doorbell not rung'));
  };
}

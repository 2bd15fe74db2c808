/** Takes submissions in: acknowledged after their commit, then the doorbell of their provider's queue is rung. */
import { type Job, newId, type Submission } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import type { Doorbell } from './queue.ts';
import { insertJobs } from './storage/jobs.ts';

/** Makes a job of a submission. When it resolves the job is durable; when it rejects there is none. */
export type Submit = (submission: Submission) => Promise<Job>;

export function makeSubmit(context: EngineContext, ring: Ring): Submit {
  const insert = coalesce((submissions: readonly Submission[]) =>
    insertJobs(
      context.database.sql,
      submissions.map((submission) => ({ id: newId(context.clock), submission })),
    ),
  );
  return async (submission) => {
    const job = await insert(submission);
    ring({ provider: job.provider, jobId: job.id, attempt: job.attempt });
    return job;
  };
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

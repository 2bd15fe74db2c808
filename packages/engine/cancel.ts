/** Cancels jobs, and removes ended ones before their time. */
import { isTerminal, type Job } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import type { Reading } from './read.ts';
import type { Settle } from './settle.ts';
import { listAssetTokens } from './storage/assets.ts';
import { eraseMessages } from './storage/deliveries.ts';
import { deleteJobs, expireJobs } from './storage/due-jobs.ts';
import type { JobReference } from './storage/jobs.ts';
import { expireUploadsOfJobs } from './storage/uploads.ts';
import { removeUploads } from './uploads.ts';

export interface Cancelling {
  /**
   * Ends a job for its caller at once; its worker is told and stops the upstream. A job that has ended answers unchanged.
   * Undefined for a job the caller does not have.
   */
  cancel(reference: JobReference): Promise<Job | undefined>;
  /** Cancels a job that still runs, then removes it with all it produced. Its last state; undefined as above. */
  purge(reference: JobReference): Promise<Job | undefined>;
}

export function makeCancelling(context: EngineContext, reading: Reading, settle: Settle): Cancelling {
  const cancel = async (reference: JobReference): Promise<Job | undefined> => {
    const job = await reading.read(reference);
    if (!job || isTerminal(job.state)) return job;
    const cancelled = await settle({
      jobId: job.id,
      state: 'CANCELLED',
      failure: { code: 'cancelled', message: 'The request was cancelled by its caller.' },
    });
    // Undefined: it ended in this very moment, and that is the answer.
    return cancelled ?? reading.read(reference);
  };
  return {
    cancel,
    async purge(reference) {
      const job = await cancel(reference);
      if (job) await removeJobs(context, await expireJobs(context.database.sql, [job.id]));
      return job;
    },
  };
}

/** Removes expired jobs, with what their requests brought: files first, so that a crash in between leaves rows that name what is left to do. */
export async function removeJobs({ database, assets }: EngineContext, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await removeUploads({ assets, database }, await expireUploadsOfJobs(database.sql, ids));
  await assets.remove(await listAssetTokens(database, ids));
  await eraseMessages(database.sql, ids);
  await deleteJobs(database.sql, ids);
}

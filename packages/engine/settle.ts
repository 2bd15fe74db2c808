/** Ends jobs. The terminal state and the webhook delivery it owes are one transaction; of several endings the first wins. */
import type { Job } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { owe } from './owe.ts';
import { type Ending, endJobs } from './storage/transitions.ts';
import { doorbellOf } from './submit.ts';

/** Ends one job; undefined when it had ended before, or when `ending.attempt` no longer owns it. */
export type Settle = (ending: Ending) => Promise<Job | undefined>;

export function makeSettle(context: EngineContext): Settle {
  const { database, log, queue, settings } = context;
  return coalesce<Ending, Job | undefined>(
    async (endings) => {
      const jobs = await database.sql.begin(async (sql) => {
        const ended = await endJobs(sql, endings, settings.resultTtlSeconds);
        await owe(context, sql, 'end', ended);
        return ended;
      });
      // Whoever ends a job as its owner has heard the doorbell.
      const unheard = jobs.flatMap((job, index) => (job && !endings[index]?.attempt ? [doorbellOf(job)] : []));
      queue.silence(unheard).catch((error: unknown) => log.debug({ error }, 'doorbells not silenced'));
      return jobs;
    },
    { keyOf: ({ jobId }) => jobId },
  );
}

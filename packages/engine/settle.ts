/** Ends jobs. The terminal state and the webhook delivery it owes are one transaction; of several endings the first wins. */
import type { Job } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { owe } from './owe.ts';
import { type Ending, endJobs } from './storage/transitions.ts';

/** Ends one job; undefined when it had ended before, or when `ending.attempt` no longer owns it. */
export type Settle = (ending: Ending) => Promise<Job | undefined>;

export function makeSettle(context: EngineContext): Settle {
  const { database, settings } = context;
  return coalesce<Ending, Job | undefined>(
    async (endings) =>
      database.sql.begin(async (sql) => {
        const ended = await endJobs(sql, endings, settings.resultTtlSeconds);
        await owe(context, sql, 'end', ended);
        return ended;
      }),
    { keyOf: ({ jobId }) => jobId },
  );
}

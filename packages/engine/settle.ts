/** Ends jobs. The terminal state and the webhook delivery it owes are one transaction; of several endings the first wins. */
import { type Job, newId } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { insertDeliveries, type OwedDelivery } from './storage/deliveries.ts';
import { type Ending, endJobs } from './storage/transitions.ts';

/** Ends one job; undefined when it had ended before, or when `ending.attempt` no longer owns it. */
export type Settle = (ending: Ending) => Promise<Job | undefined>;

export function makeSettle(context: EngineContext): Settle {
  const { database, settings } = context;
  return coalesce<Ending, Job | undefined>(
    async (endings) =>
      database.sql.begin(async (sql) => {
        const ended = await endJobs(sql, endings, settings.resultTtlSeconds);
        const owed = ended.flatMap((job) => (job ? owedDelivery(context, job) : []));
        if (owed.length > 0) await insertDeliveries(sql, owed);
        return ended;
      }),
    { keyOf: ({ jobId }) => jobId },
  );
}

function owedDelivery(context: EngineContext, job: Job): OwedDelivery[] {
  if (job.webhookUrl === undefined) return [];
  const { contentType, body } = context.encodeWebhook(job);
  return [
    {
      id: newId(context.clock),
      callerId: job.callerId,
      jobId: job.id,
      url: job.webhookUrl,
      contentType,
      body,
      schedule: context.settings.webhookSchedule,
    },
  ];
}

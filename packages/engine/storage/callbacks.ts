/** Finds the attempt that an upstream calls back about. */
import type { AttemptOutcome, Job, JsonText } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import { CONCLUDED_CHANNEL, type JobRow, toJob } from './jobs.ts';
import type { Ownership } from './transitions.ts';

export interface CalledAttempt {
  readonly job: Job;
  readonly number: number;
  readonly handle: JsonText | undefined;
  /** Undefined while it is under way. */
  readonly outcome: AttemptOutcome | undefined;
  readonly failedAttempts: number;
  readonly failedProviders: readonly string[];
}

interface CalledRow extends JobRow {
  readonly number: number;
  readonly handle: JsonText | null;
  readonly outcome: AttemptOutcome | null;
  readonly failed_attempts: number;
  readonly failed_providers: string | null;
}

/** The newest attempt with this token at this provider: one that resumed a run has inherited the token of the one before. */
export async function findCallback(sql: SqlLike, provider: string, token: string): Promise<CalledAttempt | undefined> {
  const [row] = await sql<CalledRow[]>`
    select jobs.*, attempts.number, attempts.handle, attempts.outcome,
      (select string_agg(failed.provider, ',' order by failed.number) from attempts as failed
        where failed.job_id = jobs.id and failed.outcome = 'failed') as failed_providers
    from attempts join jobs on jobs.id = attempts.job_id
    where callback_token = ${token} and attempts.provider = ${provider} and (expires_at is null or expires_at > db_now())
    order by number desc limit 1`;
  if (!row) return undefined;
  return {
    job: toJob(row),
    number: row.number,
    handle: row.handle ?? undefined,
    outcome: row.outcome ?? undefined,
    failedAttempts: row.failed_attempts,
    failedProviders: row.failed_providers?.split(',') ?? [],
  };
}

/** Tells the attempt's worker that somebody else has ended it. One who misses it finds out with the next renewal of its lease. */
export async function tellConcluded(sql: SqlLike, { jobId, attempt }: Ownership): Promise<void> {
  await sql`select pg_notify(${CONCLUDED_CHANNEL}, ${`${jobId}:${attempt}`})`;
}

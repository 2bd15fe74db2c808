/** The events of jobs, written by the statements of `jobs.ts` and read here. */
import { fromJsonText, isJsonObject, type JobEvent, type JobEventType, type JsonText, type State } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';

/** Events of a job after number `after`, oldest first, `limit` at most. */
export async function readEvents(
  sql: SqlLike,
  jobId: string,
  options: { readonly after: number; readonly limit: number },
): Promise<readonly JobEvent[]> {
  const rows = await sql<
    { sequence: number; type: JobEventType; state: State; progress: number; data: JsonText | null; created_at: Date }[]
  >`
    select sequence, type, state, progress, data, created_at from job_events
    where job_id = ${jobId} and sequence > ${options.after}
    order by sequence limit ${options.limit}`;
  return rows.map((row) => {
    const data = row.data === null ? undefined : fromJsonText(row.data);
    return {
      jobId,
      sequence: row.sequence,
      type: row.type,
      state: row.state,
      progress: row.progress,
      ...(isJsonObject(data) && { data }),
      at: row.created_at,
    };
  });
}

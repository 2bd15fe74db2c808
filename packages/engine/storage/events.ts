/** The events of jobs, written by the statements of `jobs.ts` and read here. */
import { fromJsonText, isJsonObject, type JobEvent, type JobEventType, type JsonText, type State } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import type { JobReference } from './jobs.ts';

/** Events of a job after number `after`, oldest first, `limit` at most. None of another caller's job, or of an expired one. */
export async function readEvents(
  sql: SqlLike,
  { id, callerId }: JobReference,
  options: { readonly after: number; readonly limit: number },
): Promise<readonly JobEvent[]> {
  const rows = await sql<
    { sequence: number; type: JobEventType; state: State; progress: number; data: JsonText | null; created_at: Date }[]
  >`
    select sequence, type, job_events.state, job_events.progress, data, job_events.created_at
    from job_events join jobs on jobs.id = job_events.job_id
    where job_id = ${id} and caller_id = ${callerId} and (expires_at is null or expires_at > db_now()) and sequence > ${options.after}
    order by sequence limit ${options.limit}`;
  return rows.map((row) => {
    const data = row.data === null ? undefined : fromJsonText(row.data);
    return {
      jobId: id,
      sequence: row.sequence,
      type: row.type,
      state: row.state,
      progress: row.progress,
      ...(isJsonObject(data) && { data }),
      at: row.created_at,
    };
  });
}

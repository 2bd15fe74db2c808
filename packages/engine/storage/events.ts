/** The events of jobs, written by the statements of `jobs.ts` and read here. */
import { fromJsonText, isJsonObject, type JobEvent, type JobEventType, type JsonText, type LogLine, type State } from '@claimcheck/core';
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

/** Lines of logs are kept no longer than their job; this many are read at most, the newest. */
const LOG_LINES_MAX = 1_000;

/** What the runs of a job have printed, oldest first. */
export async function readLogs(sql: SqlLike, { id, callerId }: JobReference): Promise<readonly LogLine[]> {
  const rows = await sql<{ lines: JsonText; at: Date }[]>`
    select lines, at from (
      select data -> 'lines' as lines, job_events.created_at as at, sequence
      from job_events join jobs on jobs.id = job_events.job_id
      where job_id = ${id} and caller_id = ${callerId} and (expires_at is null or expires_at > db_now()) and type = 'log'
      order by sequence desc limit ${LOG_LINES_MAX}
    ) as newest order by sequence`;
  return rows
    .flatMap(({ lines, at }) => {
      const texts = fromJsonText(lines);
      return Array.isArray(texts) ? texts.map((text) => ({ text: String(text), at })) : [];
    })
    .slice(-LOG_LINES_MAX);
}

/** The events of jobs. Those of their states are written by the statements that change these; what runs tell is written here. */
import {
  fromJsonText,
  isJsonObject,
  type JobEvent,
  type JobEventType,
  type JsonObject,
  type JsonText,
  type LogLine,
  type State,
} from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import { JOBS_CHANNEL, type JobReference } from './jobs.ts';
import type { Ownership } from './transitions.ts';

/** What a run has told: `data` as JobEvent says. */
export interface NewEvent {
  readonly type: 'log' | 'partial';
  readonly data: JsonObject;
}

export interface NewEvents extends Ownership {
  /** In their order; at least one. */
  readonly events: readonly NewEvent[];
}

/**
 * Writes what runs have told, each job once in a batch. Returns the jobs of those who still own the attempt: words of anyone else are dropped,
 * because a client would take them for those of the run that goes on.
 */
export async function appendEvents(sql: SqlLike, appended: readonly NewEvents[]): Promise<ReadonlySet<string>> {
  const all = appended.flatMap(({ jobId, events }) => events.map((event, index) => ({ jobId, number: index + 1, ...event })));
  const rows = await sql<{ id: string }[]>`
    with input as (
      select * from unnest(
        ${all.map(({ jobId }) => jobId)}::uuid[], ${all.map(({ number }) => number)}::integer[], ${all.map(({ type }) => type)}::text[],
        ${all.map(({ data }) => JSON.stringify(data))}::text[]
      ) as input (job_id, number, type, data)
    ), owner as (
      select * from unnest(
        ${appended.map(({ jobId }) => jobId)}::uuid[], ${appended.map(({ attempt }) => attempt)}::integer[],
        ${appended.map(({ events }) => events.length)}::integer[]
      ) as owner (job_id, attempt, count)
    ), locked as materialized (
      select id from jobs where id in (select job_id from owner) order by id for no key update
    ), told as (
      update jobs set event_count = event_count + owner.count, updated_at = db_now()
      from locked, owner
      where jobs.id = locked.id and jobs.id = owner.job_id and jobs.attempt = owner.attempt and state = 'PROCESSING'
      returning jobs.*, owner.count
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, data, created_at)
      select id, event_count - told.count + number, input.type, state, progress, input.data::json, updated_at
      from told join input on input.job_id = told.id
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from told having count(*) > 0
    )
    select told.id from told left join notified on true`;
  return new Set(rows.map(({ id }) => id));
}

/** What clients have been told of a job's runs. */
export interface Told {
  /** The newest lines, as many as it takes to know them again. */
  readonly lines: readonly string[];
  /** The text, put together as a client would. */
  readonly text: string;
}

/** Every event of a log has a line at least. */
const NEWEST_EVENTS = 20;

/** What was told of the runs of a job so far, by whichever attempt. */
export async function readTold(sql: SqlLike, jobId: string): Promise<Told> {
  const rows = await sql<{ type: NewEvent['type']; data: JsonText }[]>`
    (
      select type, sequence, data from job_events where job_id = ${jobId} and type = 'log' order by sequence desc limit ${NEWEST_EVENTS}
    ) union all (
      select type, sequence, data from job_events
      where job_id = ${jobId} and type = 'partial' and sequence >= coalesce((
        select max(sequence) from job_events where job_id = ${jobId} and type = 'partial' and data ->> 'isReset' = 'true'
      ), 0)
    ) order by sequence`;
  const told = rows.map(({ type, data }) => ({ type, data: fromJsonText(data) }));
  return {
    lines: told.flatMap(({ type, data }) =>
      type === 'log' && isJsonObject(data) && Array.isArray(data.lines) ? data.lines.map(String) : [],
    ),
    text: told
      .map(({ type, data }) => (type === 'partial' && isJsonObject(data) && typeof data.text === 'string' ? data.text : ''))
      .join(''),
  };
}

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

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
  /** Number of the newest event that told of a run of the job, as far as the writer knows. */
  readonly behind: number;
}

/**
 * What became of events that were to be appended. `over`: the attempt is not the job's any more, and a client would take the words for those of
 * the run that goes on. `outrun`: somebody else has told more than the writer knows.
 */
export type Appended =
  | { readonly kind: 'told' /** Number of the last of them. */; readonly sequence: number }
  | { readonly kind: 'over' | 'outrun' };

/** Writes what runs have told, each job once in a batch: all of its events or none. Results are in the order of `appended`. */
export async function appendEvents(sql: SqlLike, appended: readonly NewEvents[]): Promise<readonly Appended[]> {
  const all = appended.flatMap(({ jobId, events }) => events.map((event, index) => ({ jobId, number: index + 1, ...event })));
  const rows = await sql<{ id: string; sequence: number | null }[]>`
    with input as (
      select * from unnest(
        ${all.map(({ jobId }) => jobId)}::uuid[], ${all.map(({ number }) => number)}::integer[], ${all.map(({ type }) => type)}::text[],
        ${all.map(({ data }) => JSON.stringify(data))}::text[]
      ) as input (job_id, number, type, data)
    ), owner as (
      select * from unnest(
        ${appended.map(({ jobId }) => jobId)}::uuid[], ${appended.map(({ attempt }) => attempt)}::integer[],
        ${appended.map(({ events }) => events.length)}::integer[], ${appended.map(({ behind }) => behind)}::integer[]
      ) as owner (job_id, attempt, count, behind)
    ), locked as materialized (
      select id from jobs where id in (select job_id from owner) order by id for no key update
    ), told as (
      update jobs set event_count = event_count + owner.count, told_sequence = event_count + owner.count, updated_at = db_now()
      from locked, owner
      where jobs.id = locked.id and jobs.id = owner.job_id and jobs.attempt = owner.attempt and state = 'PROCESSING'
        and told_sequence = owner.behind
      returning jobs.*, owner.count
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, data, created_at)
      select id, event_count - told.count + number, input.type, state, progress, input.data::json, updated_at
      from told join input on input.job_id = told.id
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from told having count(*) > 0
    )
    select owner.job_id as id, told.event_count as sequence
    from owner left join told on told.id = owner.job_id
      left join jobs on jobs.id = owner.job_id and jobs.attempt = owner.attempt and jobs.state = 'PROCESSING'
      left join notified on true
    where told.id is not null or jobs.id is not null`;
  const owned = new Map(rows.map(({ id, sequence }) => [id, sequence]));
  return appended.map(({ jobId }) => {
    const sequence = owned.get(jobId);
    if (sequence === undefined) return { kind: 'over' };
    return sequence === null ? { kind: 'outrun' } : { kind: 'told', sequence };
  });
}

/** What clients have been told of a run. */
export interface Told {
  /** The newest lines, as many as it takes to know them again. */
  readonly lines: readonly string[];
  /** How many there are in all. */
  readonly lineCount: number;
  /** The text, put together as a client would. */
  readonly text: string;
  /** Of all that was told of the run's text, also of what was replaced. */
  readonly textCharacters: number;
  /** Number of the newest event that told of a run of the job; 0 when there is none. */
  readonly sequence: number;
}

/** Every event of a log has a line at least. */
const NEWEST_EVENTS = 20;

/**
 * What was told of a run so far, by whoever did. `after`: number of the last event from before that run; undefined for a run of which nothing
 * was told. Its lines are its own, while a text takes the place of the one before. Nothing of a job that is gone.
 */
export async function readTold(sql: SqlLike, jobId: string, after: number | undefined): Promise<Told> {
  const [job] = await sql<{ sequence: number; line_count: number; text_characters: number; lines: JsonText; text: string }[]>`
    with told as (
      select type, sequence, data, sequence > ${after ?? null}::integer as is_own from job_events
      where job_id = ${jobId} and type in ('log', 'partial')
    ), newest as (
      select sequence, data from told where type = 'log' and is_own order by sequence desc limit ${NEWEST_EVENTS}
    ), since as (
      select coalesce(max(sequence), 0) as reset from told where type = 'partial' and data ->> 'isReset' = 'true'
    )
    select told_sequence as sequence,
      (select coalesce(sum(json_array_length(data -> 'lines')), 0)::integer from told where type = 'log' and is_own) as line_count,
      (select coalesce(sum(length(data ->> 'text')), 0)::integer from told where type = 'partial' and is_own) as text_characters,
      (select coalesce(json_agg(line order by sequence, number), '[]') from newest, json_array_elements_text(data -> 'lines')
        with ordinality as element (line, number)) as lines,
      (select coalesce(string_agg(data ->> 'text', '' order by sequence), '') from told, since where type = 'partial' and sequence >= reset) as text
    from jobs where id = ${jobId}`;
  if (!job) return { lines: [], lineCount: 0, text: '', textCharacters: 0, sequence: 0 };
  const lines = fromJsonText(job.lines);
  return {
    lines: Array.isArray(lines) ? lines.map(String) : [],
    lineCount: job.line_count,
    text: job.text,
    textCharacters: job.text_characters,
    sequence: job.sequence,
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

/** What the runs of a job have printed, oldest first. Nothing of another caller's job, or of an expired one. */
export async function readLogs(sql: SqlLike, { id, callerId }: JobReference): Promise<readonly LogLine[]> {
  return (await readLogsOf(sql, [id], LOG_LINES_MAX, callerId)).get(id) ?? [];
}

/**
 * The newest `linesMax` lines that the runs of each of these jobs have printed, oldest first. A job without any is left out, and one that
 * `callerId` may not read where that is given.
 */
export async function readLogsOf(
  sql: SqlLike,
  jobIds: readonly string[],
  linesMax: number,
  callerId?: string,
): Promise<ReadonlyMap<string, readonly LogLine[]>> {
  const rows = await sql<{ id: string; lines: JsonText; at: Date }[]>`
    select jobs.id, newest.lines, newest.at
    from jobs, lateral (
      select data -> 'lines' as lines, created_at as at, sequence from job_events
      where job_id = jobs.id and type = 'log' order by sequence desc limit ${linesMax}
    ) as newest
    where jobs.id = any(${jobIds}::uuid[])
      and (${callerId ?? null}::uuid is null or (caller_id = ${callerId ?? null}::uuid and (expires_at is null or expires_at > db_now())))
    order by jobs.id, newest.sequence`;
  const lines = rows.flatMap(({ id, lines: told, at }) => {
    const texts = fromJsonText(told);
    return Array.isArray(texts) ? texts.map((text) => ({ id, line: { text: String(text), at } })) : [];
  });
  const byJob = Map.groupBy(lines, ({ id }) => id);
  return new Map(Array.from(byJob, ([id, ofJob]) => [id, ofJob.slice(-linesMax).map(({ line }) => line)]));
}

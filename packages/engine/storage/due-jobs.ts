/** What the sweep looks for: jobs whose time has come, to be rung, ended or removed. Small batches, which several sweeps may share. */
import { PRIORITIES, type Priority, type State } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import type { Ownership } from './transitions.ts';

/** Attempts with an expired lease whose job has now lost `crashesMax` workers. */
export async function listPoisonous(
  sql: SqlLike,
  options: { readonly crashesMax: number; readonly limit: number },
): Promise<readonly Ownership[]> {
  return sql<{ jobId: string; attempt: number }[]>`
    select id as "jobId", attempt from jobs
    where state = 'PROCESSING' and lease_until < db_now() and crashed_attempts >= ${options.crashesMax - 1}
    limit ${options.limit}`;
}

/** What ringing a job's doorbell takes. */
export interface Waiting {
  readonly id: string;
  readonly provider: string;
  readonly model: string;
  readonly attempt: number;
  readonly priority: Priority;
}

/** Jobs that are due and whose doorbell was not rung since: scheduled starts and retries. Marks them as rung. */
export async function listDue(sql: SqlLike, limit: number): Promise<readonly Waiting[]> {
  const rows = await sql<WaitingRow[]>`
    with due as materialized (
      select id from jobs where state = 'QUEUED' and rung_at < available_at and available_at <= db_now()
      order by available_at limit ${limit} for no key update skip locked
    )
    update jobs set rung_at = db_now() from due where jobs.id = due.id
    returning jobs.id, jobs.provider, jobs.model, jobs.attempt, jobs.priority`;
  return rows.map(toWaiting);
}

/** Milliseconds until the next scheduled job is due; undefined when there is none. */
export async function nextDueInMs(sql: SqlLike): Promise<number | undefined> {
  const [row] = await sql<{ wait: number }[]>`
    select greatest(extract(epoch from min(available_at) - db_now()) * 1000, 0)::double precision as wait
    from jobs where state = 'QUEUED' and rung_at < available_at
    -- No row when there is none: greatest() takes null for less than 0.
    having count(*) > 0`;
  return row?.wait;
}

interface WaitingRow {
  readonly id: string;
  readonly provider: string;
  readonly model: string;
  readonly attempt: number;
  readonly priority: number;
}

function toWaiting({ priority, ...job }: WaitingRow): Waiting {
  return { ...job, priority: PRIORITIES[priority] ?? 'normal' };
}

/** Of these jobs, those that wait. */
export async function listWaiting(sql: SqlLike, ids: readonly string[]): Promise<readonly Waiting[]> {
  const rows = await sql<WaitingRow[]>`
    select id, provider, model, attempt, priority from jobs where id = any(${ids}::uuid[]) and state = 'QUEUED' and available_at <= db_now()`;
  return rows.map(toWaiting);
}

/** The attempt that follows the one of this number, of a job at a provider. */
export interface RungAttempt {
  readonly jobId: string;
  readonly provider: string;
  readonly attempt: number;
}

/** `waiting` may start now. Undefined for an attempt that is over, put off, or to be made elsewhere. */
export type RungState = 'waiting' | 'started' | undefined;

/** Where these attempts stand, in their order. */
export async function readRungStates(sql: SqlLike, rung: readonly RungAttempt[]): Promise<readonly RungState[]> {
  const rows = await sql<{ position: number; state: State }[]>`
    select position::integer, state
    from unnest(
      ${rung.map(({ jobId }) => jobId)}::uuid[], ${rung.map(({ provider }) => provider)}::text[], ${rung.map(({ attempt }) => attempt)}::integer[]
    ) with ordinality as rung (job_id, provider, attempt, position)
    join jobs on jobs.id = rung.job_id and jobs.provider = rung.provider
    where (state = 'QUEUED' and jobs.attempt = rung.attempt and available_at <= db_now())
      or (state = 'PROCESSING' and jobs.attempt = rung.attempt + 1)`;
  const states = new Map(rows.map(({ position, state }) => [position, state === 'QUEUED' ? 'waiting' : 'started'] as const));
  return rung.map((_, index) => states.get(index + 1));
}

/** Jobs that wait although they are due and whose doorbell may have been lost; marks them as rung. */
export async function listSilent(
  sql: SqlLike,
  options: { readonly silentSeconds: number; readonly limit: number },
): Promise<readonly Waiting[]> {
  const rows = await sql<WaitingRow[]>`
    with silent as materialized (
      select id from jobs
      where state = 'QUEUED' and available_at <= db_now()
        and greatest(rung_at, available_at) < db_now() - make_interval(secs => ${options.silentSeconds})
      order by id limit ${options.limit} for no key update skip locked
    )
    update jobs set rung_at = db_now() from silent where jobs.id = silent.id
    returning jobs.id, jobs.provider, jobs.model, jobs.attempt, jobs.priority`;
  return rows.map(toWaiting);
}

/** Jobs that have not ended although their deadline has passed. */
export async function listOverdue(sql: SqlLike, limit: number): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    select id from jobs where finished_at is null and deadline_at <= db_now() order by deadline_at limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** Jobs of which no attempt has begun by the time that their client set for it. */
export async function listUnstarted(sql: SqlLike, limit: number): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    select id from jobs where state = 'QUEUED' and started_at is null and start_by <= db_now() order by start_by limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** Ids of jobs whose time is over, the longest expired first. */
export async function listExpired(sql: SqlLike, limit: number): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    select id from jobs where expires_at <= db_now() order by expires_at limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** Makes ended jobs unreadable at once; what is left of them is purged later. Returns the ids that were ended. */
export async function expireJobs(sql: SqlLike, ids: readonly string[]): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    with locked as materialized (
      select id from jobs where id = any(${ids}::uuid[]) and finished_at is not null order by id for no key update
    )
    update jobs set expires_at = db_now() from locked where jobs.id = locked.id and finished_at is not null returning jobs.id`;
  return rows.map(({ id }) => id);
}

/** Deletes expired jobs with their attempts, events and asset rows. */
export async function deleteJobs(sql: SqlLike, ids: readonly string[]): Promise<void> {
  await sql`
    delete from jobs where id in (
      select id from jobs where id = any(${ids}::uuid[]) and expires_at <= db_now() order by id for update
    )`;
}

/**
 * The transitions of jobs: one function each, one statement for a whole batch, guarded by the states the transition table allows and,
 * where an owner acts, by the attempt's number. A job that is missing from an answer was somebody else's.
 *
 * A batch names each job once. Every statement locks its rows in the order of their ids first, so that overlapping batches cannot deadlock.
 */
import { type Failure, type Job, type JsonText, type Output, STATES, type State, type TerminalState, TRANSITIONS } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import { ENDED_CHANNEL, JOBS_CHANNEL, type JobRow, toJob } from './jobs.ts';

export interface Claim {
  readonly jobId: string;
  readonly workerId: string;
  /** Of the address at which the upstream may tell of a run that this attempt starts. */
  readonly callbackToken?: string;
}

/** An attempt that its worker owns until the lease runs out or the job ends. */
export interface ClaimedAttempt {
  readonly job: Job;
  /** Handle of the run that an earlier attempt started and could not finish: resume it instead of starting anew. */
  readonly handle: JsonText | undefined;
  readonly failedAttempts: number;
  /** The providers at which they failed, oldest first. */
  readonly failedProviders: readonly string[];
  /** Of the address at which the upstream may tell of the run. */
  readonly callbackToken: string | undefined;
  /** True when an earlier attempt may have started a run whose handle was lost. */
  readonly isUnknown: boolean;
}

/** QUEUED → PROCESSING. Undefined for a job that is not waiting: somebody was first, it ended, or it is not due yet. */
export async function claimJobs(
  sql: SqlLike,
  claims: readonly Claim[],
  leaseSeconds: number,
): Promise<readonly (ClaimedAttempt | undefined)[]> {
  const rows = await sql<ClaimRow[]>`
    with input as (
      select * from unnest(
        ${claims.map(({ jobId }) => jobId)}::uuid[], ${claims.map(({ workerId }) => workerId)}::text[],
        ${claims.map(({ callbackToken }) => callbackToken ?? null)}::text[]
      ) as input (job_id, worker_id, callback_token)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) and state = any(${statesFor('PROCESSING')}) and available_at <= db_now()
      order by id for no key update
    ), previous as (
      -- Only a run that was given up half-way is resumed; one that failed is started anew.
      select job_id, handle, callback_token from attempts join jobs on jobs.id = attempts.job_id
      where job_id in (select id from locked) and number = jobs.attempt and attempts.provider = jobs.provider and outcome in ('released', 'lost')
    ), claimed as (
      update jobs set state = 'PROCESSING',
        resubmits = resubmits + (select count(*) from previous where previous.job_id = jobs.id and handle is null), attempt = attempt + 1, event_count = event_count + 1, updated_at = db_now(),
        started_at = coalesce(started_at, db_now()), attempt_started_at = db_now(),
        lease_until = db_now() + make_interval(secs => ${leaseSeconds})
      from locked where jobs.id = locked.id and state = any(${statesFor('PROCESSING')})
      returning jobs.*
    ), attempt as (
      insert into attempts (job_id, number, provider, worker_id, handle, callback_token, started_at)
      select claimed.id, claimed.attempt, claimed.provider, input.worker_id, previous.handle,
        -- A run that is resumed goes on telling at the address that it was given.
        case when previous.handle is null then input.callback_token else previous.callback_token end, db_now()
      from claimed
      join input on input.job_id = claimed.id
      left join previous on previous.job_id = claimed.id
      returning job_id, handle, callback_token
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, created_at)
      select id, event_count, 'status', state, progress, updated_at from claimed
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from claimed having count(*) > 0
    )
    select claimed.*, attempt.handle, attempt.callback_token,
      case when failed_attempts > 0 then (
        select string_agg(provider, ',' order by number) from attempts as earlier where earlier.job_id = claimed.id and outcome = 'failed'
      ) end as failed_providers,
      exists (select from previous where previous.job_id = claimed.id and previous.handle is null) as is_unknown
    from claimed join attempt on attempt.job_id = claimed.id left join notified on true`;
  const byId = new Map(rows.map((row) => [row.id, row]));
  return claims.map(({ jobId }) => {
    const row = byId.get(jobId);
    return (
      row && {
        job: toJob(row),
        handle: row.handle ?? undefined,
        failedAttempts: row.failed_attempts,
        failedProviders: row.failed_providers?.split(',') ?? [],
        callbackToken: row.callback_token ?? undefined,
        isUnknown: row.is_unknown,
      }
    );
  });
}

interface ClaimRow extends JobRow {
  readonly handle: JsonText | null;
  readonly callback_token: string | null;
  readonly failed_attempts: number;
  readonly failed_providers: string | null;
  readonly is_unknown: boolean;
}

/** The owner of an attempt; writes of anyone else change nothing. */
export interface Ownership {
  readonly jobId: string;
  readonly attempt: number;
}

/** How a job ends. Without `attempt` it ends whoever owns it: a cancellation by the caller. With 0, unless its first attempt has begun. */
export interface Ending {
  readonly jobId: string;
  readonly attempt?: number;
  readonly state: TerminalState;
  readonly output?: Output;
  readonly failure?: Failure;
  /** Of the route of the attempt that ends with it: what the provider calls the model. */
  readonly routeModel?: string;
  /** What that attempt cost, in US dollars. */
  readonly costUsd?: number;
}

const ATTEMPT_OUTCOME = { COMPLETED: 'succeeded', FAILED: 'failed', CANCELLED: 'cancelled' } as const satisfies Record<
  TerminalState,
  string
>;

/** QUEUED or PROCESSING → a terminal state. Undefined where the job had ended already or has another owner. */
export async function endJobs(sql: SqlLike, endings: readonly Ending[], resultTtlSeconds: number): Promise<readonly (Job | undefined)[]> {
  const rows = await sql<JobRow[]>`
    with input as (
      select * from unnest(
        ${endings.map(({ jobId }) => jobId)}::uuid[], ${endings.map(({ attempt }) => attempt ?? null)}::integer[],
        ${endings.map(({ state }) => state)}::text[], ${endings.map(({ state }) => ATTEMPT_OUTCOME[state])}::text[],
        ${endings.map(({ output }) => (output ? JSON.stringify(output) : null))}::text[],
        ${endings.map(({ failure }) => failure?.code ?? null)}::text[], ${endings.map(({ failure }) => failure?.message ?? null)}::text[],
        ${endings.map(({ routeModel }) => routeModel ?? null)}::text[], ${endings.map(({ costUsd }) => costUsd ?? null)}::double precision[]
      ) as input (job_id, attempt, state, outcome, output, failure_code, failure_message, route_model, cost_usd)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) order by id for no key update
    ), ended as (
      update jobs set state = input.state, output = input.output::json, failure_code = input.failure_code,
        failure_message = input.failure_message, progress = case input.state when 'COMPLETED' then 1 else progress end,
        event_count = event_count + 1, lease_until = null, updated_at = db_now(), finished_at = db_now(),
        expires_at = db_now() + make_interval(secs => ${resultTtlSeconds})
      from locked, input
      where jobs.id = locked.id and jobs.id = input.job_id
        -- Not a join: after a wait for the lock Postgres checks the new state, but does not look for another partner.
        and jobs.state || ' ' || input.state = any(${ALLOWED.map(([from, to]) => `${from} ${to}`)})
        and (input.attempt is null
          or (jobs.attempt = input.attempt and jobs.state = case input.attempt when 0 then 'QUEUED' else 'PROCESSING' end))
      returning jobs.*, input.outcome, input.route_model, input.cost_usd, input.attempt is null as is_foreign
    ), attempt as (
      update attempts set finished_at = db_now(), outcome = ended.outcome, failure_code = ended.failure_code,
        failure_message = ended.failure_message, model = ended.route_model, cost_usd = ended.cost_usd
      from ended
      where attempts.job_id = ended.id and attempts.number = ended.attempt and attempts.finished_at is null
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, data, created_at)
      select id, event_count, 'status', state, progress,
        case when failure_message is not null then json_build_object('error', failure_message, 'code', failure_code) end, updated_at
      from ended
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from ended having count(*) > 0
    ), stopped as (
      select pg_notify(${ENDED_CHANNEL}, string_agg(id::text, ',')) from ended where is_foreign having count(*) > 0
    )
    select ended.* from ended left join notified on true left join stopped on true`;
  return inOrder(endings, rows);
}

export interface Requeue extends Ownership {
  /** Why the attempt is over: it failed and is tried again, or its worker gave it back. */
  readonly outcome: 'failed' | 'released';
  readonly failure?: Failure;
  readonly delayMs: number;
  /** Where the next attempt runs; where this one did unless given. */
  readonly provider?: string;
  /** As of an ending. */
  readonly routeModel?: string;
  /** The next attempt may start a second run of it: counted in `resubmits`. */
  readonly mayHaveStarted?: boolean;
}

/** PROCESSING → QUEUED by the owner. Undefined where it is no longer the owner. */
export async function requeueJobs(sql: SqlLike, requeues: readonly Requeue[]): Promise<readonly (Job | undefined)[]> {
  const rows = await sql<JobRow[]>`
    with input as (
      select * from unnest(
        ${requeues.map(({ jobId }) => jobId)}::uuid[], ${requeues.map(({ attempt }) => attempt)}::integer[],
        ${requeues.map(({ outcome }) => outcome)}::text[], ${requeues.map(({ delayMs }) => delayMs)}::double precision[],
        ${requeues.map(({ failure }) => failure?.code ?? null)}::text[], ${requeues.map(({ failure }) => failure?.message ?? null)}::text[],
        ${requeues.map(({ mayHaveStarted }) => mayHaveStarted === true)}::boolean[], ${requeues.map(({ provider }) => provider ?? null)}::text[],
        ${requeues.map(({ routeModel }) => routeModel ?? null)}::text[]
      ) as input (job_id, attempt, outcome, delay_ms, failure_code, failure_message, may_have_started, next_provider, route_model)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) order by id for no key update
    ), requeued as (
      update jobs set state = 'QUEUED', provider = coalesce(input.next_provider, provider), lease_until = null, event_count = event_count + 1,
        updated_at = db_now(), rung_at = db_now(), available_at = db_now() + make_interval(secs => input.delay_ms / 1000),
        failed_attempts = failed_attempts + case input.outcome when 'failed' then 1 else 0 end,
        resubmits = resubmits + case when may_have_started then 1 else 0 end
      from locked, input
      where jobs.id = locked.id and jobs.id = input.job_id and jobs.attempt = input.attempt and jobs.state = any(${statesFor('QUEUED')})
      returning jobs.*, input.outcome, input.route_model, input.failure_code as attempt_failure_code,
        input.failure_message as attempt_failure_message
    ), attempt as (
      update attempts set finished_at = db_now(), outcome = requeued.outcome, failure_code = requeued.attempt_failure_code,
        failure_message = requeued.attempt_failure_message, model = requeued.route_model
      from requeued where attempts.job_id = requeued.id and attempts.number = requeued.attempt
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, created_at)
      select id, event_count, 'status', state, progress, updated_at from requeued
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from requeued having count(*) > 0
    )
    select requeued.* from requeued left join notified on true`;
  return inOrder(requeues, rows);
}

/** A job that waits for its provider, with what decides whether another may serve it. */
export interface WaitingJob {
  readonly job: Job;
  readonly failedProviders: readonly string[];
  /** True when its last attempt left a run behind that goes on at the provider. */
  readonly hasRun: boolean;
}

/** The job, while it waits; undefined otherwise. */
export async function findWaiting(sql: SqlLike, jobId: string): Promise<WaitingJob | undefined> {
  const [row] = await sql<(JobRow & { failed_providers: string | null; has_run: boolean })[]>`
    select jobs.*,
      (select string_agg(provider, ',' order by number) from attempts where job_id = jobs.id and outcome = 'failed') as failed_providers,
      exists (
        select from attempts where job_id = jobs.id and number = jobs.attempt and attempts.provider = jobs.provider
          and outcome in ('released', 'lost') and handle is not null
      ) as has_run
    from jobs where id = ${jobId} and state = 'QUEUED' and available_at <= db_now()`;
  return row && { job: toJob(row), failedProviders: row.failed_providers?.split(',') ?? [], hasRun: row.has_run };
}

export interface Move {
  readonly jobId: string;
  readonly from: string;
  readonly to: string;
  readonly delayMs: number;
}

/** Sends jobs that wait at one provider to another, or lets them wait on. Undefined for one that does not wait there any more. */
export async function moveJobs(sql: SqlLike, moves: readonly Move[]): Promise<readonly (Job | undefined)[]> {
  const rows = await sql<JobRow[]>`
    with input as (
      select * from unnest(
        ${moves.map(({ jobId }) => jobId)}::uuid[], ${moves.map(({ from }) => from)}::text[], ${moves.map(({ to }) => to)}::text[],
        ${moves.map(({ delayMs }) => delayMs)}::double precision[]
      ) as input (job_id, old_provider, new_provider, delay_ms)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) order by id for no key update
    ), moved as (
      update jobs set provider = new_provider, updated_at = db_now(), rung_at = db_now(),
        available_at = greatest(available_at, db_now() + make_interval(secs => delay_ms / 1000))
      from locked, input
      where jobs.id = locked.id and jobs.id = input.job_id and state = 'QUEUED' and provider = old_provider and available_at <= db_now()
      returning jobs.*
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from moved having count(*) > 0
    )
    select moved.* from moved left join notified on true`;
  return inOrder(moves, rows);
}

/**
 * PROCESSING → QUEUED for attempts whose worker stopped renewing; the next attempt resumes by their handle.
 * Jobs that lost `crashesMax` workers before are left alone: {@link listPoisonous} names them.
 */
export async function rescueJobs(sql: SqlLike, options: { readonly crashesMax: number; readonly limit: number }): Promise<readonly Job[]> {
  const rows = await sql<JobRow[]>`
    with expired as materialized (
      select id from jobs
      where state = 'PROCESSING' and lease_until < db_now() and crashed_attempts < ${options.crashesMax - 1}
      order by id limit ${options.limit} for no key update skip locked
    ), rescued as (
      update jobs set state = 'QUEUED', lease_until = null, event_count = event_count + 1, crashed_attempts = crashed_attempts + 1,
        updated_at = db_now(), available_at = db_now(), rung_at = db_now()
      from expired where jobs.id = expired.id and jobs.state = any(${statesFor('QUEUED')}) and lease_until < db_now()
      returning jobs.*
    ), attempt as (
      update attempts set finished_at = db_now(), outcome = 'lost'
      from rescued where attempts.job_id = rescued.id and attempts.number = rescued.attempt
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, created_at)
      select id, event_count, 'status', state, progress, updated_at from rescued
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from rescued having count(*) > 0
    )
    select rescued.* from rescued left join notified on true`;
  return rows.map(toJob);
}

/**
 * Prolongs leases. Returns those that are still held; the others were lost. A job that somebody has locked is passed over until the next
 * time, because waiting for it would cost the leases of all the others; it counts as held while it looks so.
 */
export async function renewLeases(sql: SqlLike, held: readonly Ownership[], leaseSeconds: number): Promise<readonly Ownership[]> {
  return sql<{ jobId: string; attempt: number }[]>`
    with held as (
      select jobs.id, jobs.attempt
      from unnest(${held.map(({ jobId }) => jobId)}::uuid[], ${held.map(({ attempt }) => attempt)}::integer[]) as asked (job_id, attempt)
      join jobs on jobs.id = asked.job_id and jobs.attempt = asked.attempt and state = 'PROCESSING'
    ), free as materialized (
      select id from jobs where id in (select id from held) order by id for no key update skip locked
    ), renewed as (
      update jobs set lease_until = db_now() + make_interval(secs => ${leaseSeconds})
      from free join held using (id)
      where jobs.id = free.id and jobs.attempt = held.attempt and state = 'PROCESSING'
      returning jobs.id
    )
    -- One that was free and is not renewed has changed meanwhile.
    select id as "jobId", attempt from held where id in (select id from renewed) or id not in (select id from free)`;
}

/** Of these jobs, those that have not ended. */
export async function listLive(sql: SqlLike, ids: readonly string[]): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`select id from jobs where id = any(${ids}::uuid[]) and finished_at is null`;
  return rows.map(({ id }) => id);
}

export interface ProgressReport extends Ownership {
  /** Fraction done, 0 to 1. */
  readonly progress: number;
}

/**
 * Records how far attempts are, with an event each. Returns the jobs that moved: progress never goes back, and strangers' reports are
 * dropped.
 */
export async function recordProgress(sql: SqlLike, reports: readonly ProgressReport[]): Promise<readonly Job[]> {
  const rows = await sql<JobRow[]>`
    with input as (
      select * from unnest(
        ${reports.map(({ jobId }) => jobId)}::uuid[], ${reports.map(({ attempt }) => attempt)}::integer[],
        ${reports.map(({ progress }) => progress)}::real[]
      ) as input (job_id, attempt, progress)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) order by id for no key update
    ), moved as (
      update jobs set progress = input.progress, event_count = event_count + 1, updated_at = db_now()
      from locked, input
      where jobs.id = locked.id and jobs.id = input.job_id and jobs.attempt = input.attempt and state = 'PROCESSING'
        and jobs.progress < input.progress
      returning jobs.*
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, created_at)
      select id, event_count, 'progress', state, progress, updated_at from moved
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from moved having count(*) > 0
    )
    select moved.* from moved left join notified on true`;
  return rows.map(toJob);
}

export interface HandleRecord extends Ownership {
  readonly handle: JsonText;
}

/** Saves handles of started runs. Returns those whose writer still owns the attempt. */
export async function saveHandles(sql: SqlLike, records: readonly HandleRecord[]): Promise<readonly Ownership[]> {
  return sql<{ jobId: string; attempt: number }[]>`
    with locked as materialized (
      select id, attempt from jobs where id = any(${records.map(({ jobId }) => jobId)}::uuid[]) and state = 'PROCESSING'
      order by id for no key update
    )
    update attempts set handle = input.handle::json
    from locked, unnest(
      ${records.map(({ jobId }) => jobId)}::uuid[], ${records.map(({ attempt }) => attempt)}::integer[],
      ${records.map(({ handle }) => handle)}::text[]
    ) as input (job_id, attempt, handle)
    where attempts.job_id = locked.id and attempts.number = locked.attempt and attempts.job_id = input.job_id and attempts.number = input.attempt and attempts.finished_at is null
    returning attempts.job_id as "jobId", attempts.number as attempt`;
}

/** Every transition of the table as a pair, for guards in SQL. */
const ALLOWED = STATES.flatMap((from) => TRANSITIONS[from].map((to) => [from, to] as const));

function statesFor(to: State): State[] {
  return ALLOWED.filter(([, target]) => target === to).map(([from]) => from);
}

function inOrder(calls: readonly { readonly jobId: string }[], rows: readonly JobRow[]): readonly (Job | undefined)[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  return calls.map(({ jobId }) => {
    const row = byId.get(jobId);
    return row && toJob(row);
  });
}

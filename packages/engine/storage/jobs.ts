/**
 * Jobs in Postgres: one function per transition, each one statement for a whole batch, guarded by the states the transition
 * table allows and, where an owner acts, by the attempt's number. A job that is missing from an answer was somebody else's.
 *
 * A batch names each job once. Every statement locks its rows in the order of their ids first, so that overlapping
 * batches cannot deadlock, and notifies {@link JOBS_CHANNEL} of the jobs it changed.
 */
import {
  type Failure,
  type Job,
  type JsonText,
  type Output,
  PRIORITIES,
  type Priority,
  STATES,
  type State,
  type Submission,
  type TerminalState,
  TRANSITIONS,
} from '@claimcheck/core';
import type { SqlLike } from './connection.ts';

/** Payload: ids of changed jobs, separated by commas. 200 ids fit into the 8,000 bytes of a notification. */
export const JOBS_CHANNEL = 'claimcheck_jobs';
/** Payload as above: jobs that somebody else than their worker ended, so that it stops. */
export const ENDED_CHANNEL = 'claimcheck_ended';

/** Jobs ahead are counted no further than this: a position beyond it tells a client nothing more. */
const QUEUE_POSITION_MAX = 10_000;

/** No id is as high: ours begin with the time. */
const BEHIND_ALL_IDS = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

export interface JobReference {
  readonly callerId: string;
  readonly id: string;
}

interface JobRow {
  readonly id: string;
  readonly caller_id: string;
  readonly dialect: string;
  readonly model: string;
  readonly provider: string;
  readonly input: JsonText;
  readonly state: State;
  readonly progress: number;
  readonly attempt: number;
  readonly priority: number;
  readonly resubmits: number;
  readonly output: string | null;
  readonly failure_code: Failure['code'] | null;
  readonly failure_message: string | null;
  readonly webhook_url: string | null;
  readonly base_url: string;
  readonly session_id: string | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly started_at: Date | null;
  readonly attempt_started_at: Date | null;
  readonly finished_at: Date | null;
  readonly queue_position?: string | number | null;
}

/** What came of handing in a submission. */
export type Insertion =
  | { readonly kind: 'created'; readonly job: Job }
  /** The same request was handed in before; `job` is as it was then. */
  | { readonly kind: 'replayed'; readonly job: Job }
  /** Another request was handed in under the same key. */
  | { readonly kind: 'mismatch' }
  /** The same key is being handed in at this very moment. */
  | { readonly kind: 'in_flight' };

interface InsertionRow extends JobRow {
  readonly known_job_id: string | null;
  readonly known_request_hash: string | null;
  readonly known_queue_position: number | null;
  readonly known_created_at: Date | null;
  readonly created_id: string | null;
}

/**
 * Inserts jobs as QUEUED with their first event and, in the same statement, their idempotency keys. Results are in the order of
 * `submissions`, of which no two may have the same key. A job with a key is only inserted together with the key's row:
 * whatever other processes do at the same time, there is one job for it.
 */
export async function insertJobs(
  sql: SqlLike,
  submissions: readonly { readonly id: string; readonly submission: Submission }[],
  idempotencyTtlSeconds: number,
): Promise<readonly Insertion[]> {
  const column = <Value>(pick: (submission: Submission) => Value) => submissions.map(({ submission }) => pick(submission));
  const rows = await sql<InsertionRow[]>`
    with given as (
      select * from unnest(
        ${submissions.map(({ id }) => id)}::uuid[], ${column((s) => s.callerId)}::uuid[], ${column((s) => s.dialect)}::text[],
        ${column((s) => s.model)}::text[], ${column((s) => s.provider)}::text[], ${column((s) => s.input)}::text[],
        ${column((s) => s.webhookUrl ?? null)}::text[], ${column((s) => s.baseUrl)}::text[], ${column((s) => s.sessionId ?? null)}::text[],
        ${column((s) => PRIORITIES.indexOf(s.priority))}::integer[], ${column((s) => s.timeoutSeconds)}::integer[],
        ${column((s) => s.runAt?.toISOString() ?? null)}::text[], ${column((s) => s.delaySeconds ?? 0)}::integer[],
        ${column((s) => s.idempotency?.keyHash ?? null)}::text[], ${column((s) => s.idempotency?.requestHash ?? null)}::text[]
      ) with ordinality as given (
        id, caller_id, dialect, model, provider, input, webhook_url, base_url, session_id, priority, timeout_seconds, run_at,
        delay_seconds, key_hash, request_hash, ordinal
      )
    ), input as (
      select given.*, greatest(coalesce(run_at::timestamptz, db_now()), db_now()) + make_interval(secs => delay_seconds) as available_at,
        least(jobs_ahead + row_number() over (partition by given.provider, given.priority order by ordinal) - 1, ${QUEUE_POSITION_MAX})::integer
          as queue_position
      from given join (
        select provider, priority, (
          select count(*) from (
            select from jobs where jobs.state = 'QUEUED' and jobs.provider = queue.provider and jobs.priority <= queue.priority
            limit ${QUEUE_POSITION_MAX}
          ) as counted
        ) as jobs_ahead
        from (select distinct provider, priority from given) as queue
      ) as ahead on ahead.provider = given.provider and ahead.priority = given.priority
    ), known as (
      select input.ordinal, idempotency_keys.* from input join idempotency_keys using (caller_id, key_hash) where expires_at > db_now()
    ), keyed as (
      insert into idempotency_keys as keys (caller_id, key_hash, request_hash, job_id, queue_position, created_at, expires_at)
      select caller_id, key_hash, request_hash, id, queue_position, db_now(), db_now() + make_interval(secs => ${idempotencyTtlSeconds})
      from input
      where key_hash is not null and ordinal not in (select ordinal from known)
        -- Held until the commit: whoever comes meanwhile is told so instead of being kept waiting.
        and pg_try_advisory_xact_lock(hashtextextended(caller_id::text || key_hash, 0))
      order by caller_id, key_hash
      on conflict (caller_id, key_hash) do update
        set request_hash = excluded.request_hash, job_id = excluded.job_id, queue_position = excluded.queue_position,
          created_at = excluded.created_at, expires_at = excluded.expires_at
        where keys.expires_at <= db_now()
      returning job_id
    ), inserted as (
      insert into jobs (id, caller_id, dialect, model, provider, input, webhook_url, base_url, session_id, priority, available_at, deadline_at)
      select id, caller_id, dialect, model, provider, input::json, webhook_url, base_url, session_id, priority, available_at,
        available_at + make_interval(secs => timeout_seconds)
      from input where key_hash is null or id in (select job_id from keyed)
      returning *
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, created_at)
      select id, 1, 'status', state, progress, created_at from inserted
    )
    select inserted.*, inserted.id as created_id, input.queue_position, known.job_id as known_job_id,
      known.request_hash as known_request_hash, known.queue_position as known_queue_position, known.created_at as known_created_at
    from input left join inserted on inserted.id = input.id left join known on known.ordinal = input.ordinal
    order by input.ordinal`;
  return submissions.map(({ submission }, index) => toInsertion(rows[index], submission));
}

function toInsertion(row: InsertionRow | undefined, submission: Submission): Insertion {
  if (row?.created_id) return { kind: 'created', job: toJob(row) };
  if (!row?.known_job_id || !row.known_created_at) return { kind: 'in_flight' };
  if (row.known_request_hash !== submission.idempotency?.requestHash) return { kind: 'mismatch' };
  // Built from the request, which is the same: the job itself may have expired before its key.
  const { callerId, dialect, model, provider, input, baseUrl, webhookUrl, sessionId, priority } = submission;
  return {
    kind: 'replayed',
    job: {
      id: row.known_job_id,
      callerId,
      dialect,
      model,
      provider,
      input,
      baseUrl,
      ...(webhookUrl !== undefined && { webhookUrl }),
      ...(sessionId !== undefined && { sessionId }),
      state: 'QUEUED',
      progress: 0,
      attempt: 0,
      priority,
      resubmits: 0,
      queuePosition: row.known_queue_position ?? 0,
      createdAt: row.known_created_at,
      updatedAt: row.known_created_at,
    },
  };
}

/** Deletes idempotency keys whose time is over. Returns how many. */
export async function deleteExpiredKeys(sql: SqlLike, limit: number): Promise<number> {
  const rows = await sql`
    delete from idempotency_keys where (caller_id, key_hash) in (
      select caller_id, key_hash from idempotency_keys where expires_at <= db_now() order by expires_at limit ${limit} for update skip locked
    ) returning job_id`;
  return rows.length;
}

/** Reads jobs as their callers may see them: not another caller's, not an expired one. Results are in the order of `references`. */
export async function readJobs(sql: SqlLike, references: readonly JobReference[]): Promise<readonly (Job | undefined)[]> {
  const rows = await sql<(JobRow & { ordinal: string })[]>`
    select jobs.*, case when state = 'QUEUED' then (
      select count(*) from (
        select from jobs as ahead
        where ahead.state = 'QUEUED' and ahead.provider = jobs.provider and (ahead.priority, ahead.id) < (jobs.priority, jobs.id)
        limit ${QUEUE_POSITION_MAX}
      ) as counted
    ) end as queue_position, ordinal
    from unnest(${references.map(({ id }) => id)}::uuid[], ${references.map(({ callerId }) => callerId)}::uuid[])
      with ordinality as wanted (id, caller_id, ordinal)
    join jobs on jobs.id = wanted.id and jobs.caller_id = wanted.caller_id
    where expires_at is null or expires_at > db_now()`;
  const jobs: (Job | undefined)[] = references.map(() => undefined);
  for (const row of rows) jobs[Number(row.ordinal) - 1] = toJob(row);
  return jobs;
}

/** A caller's jobs, newest first, older than job `before`. */
export async function listJobs(
  sql: SqlLike,
  filter: { readonly callerId: string; readonly before?: string; readonly state?: State; readonly limit: number },
): Promise<readonly Job[]> {
  const rows = await sql<JobRow[]>`
    select * from jobs
    where caller_id = ${filter.callerId}
      and (expires_at is null or expires_at > db_now())
      and id < ${filter.before ?? BEHIND_ALL_IDS}
      and state = any(${filter.state === undefined ? STATES : [filter.state]})
    order by id desc
    limit ${filter.limit}`;
  return rows.map(toJob);
}

export interface Claim {
  readonly jobId: string;
  readonly workerId: string;
}

/** An attempt that its worker owns until the lease runs out or the job ends. */
export interface ClaimedAttempt {
  readonly job: Job;
  /** Handle of the run that an earlier attempt started and could not finish: resume it instead of starting anew. */
  readonly handle: JsonText | undefined;
  readonly failedAttempts: number;
  /** True when an earlier attempt may have started a run whose handle was lost. */
  readonly isUnknown: boolean;
}

/** QUEUED → PROCESSING. Undefined for a job that is not waiting: somebody was first, it ended, or it is not due yet. */
export async function claimJobs(
  sql: SqlLike,
  claims: readonly Claim[],
  leaseSeconds: number,
): Promise<readonly (ClaimedAttempt | undefined)[]> {
  const rows = await sql<(JobRow & { handle: JsonText | null; failed_attempts: number; is_unknown: boolean })[]>`
    with input as (
      select * from unnest(${claims.map(({ jobId }) => jobId)}::uuid[], ${claims.map(({ workerId }) => workerId)}::text[])
        as input (job_id, worker_id)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) and state = any(${statesFor('PROCESSING')}) and available_at <= db_now()
      order by id for no key update
    ), previous as (
      -- Only a run that was given up half-way is resumed; one that failed is started anew.
      select job_id, handle from attempts join jobs on jobs.id = attempts.job_id
      where job_id in (select id from locked) and number = jobs.attempt and attempts.provider = jobs.provider and outcome in ('released', 'lost')
    ), claimed as (
      update jobs set state = 'PROCESSING',
        resubmits = resubmits + (select count(*) from previous where previous.job_id = jobs.id and handle is null), attempt = attempt + 1, event_count = event_count + 1, updated_at = db_now(),
        started_at = coalesce(started_at, db_now()), attempt_started_at = db_now(),
        lease_until = db_now() + make_interval(secs => ${leaseSeconds})
      from locked where jobs.id = locked.id and state = any(${statesFor('PROCESSING')})
      returning jobs.*
    ), attempt as (
      insert into attempts (job_id, number, provider, worker_id, handle, started_at)
      select claimed.id, claimed.attempt, claimed.provider, input.worker_id, previous.handle, db_now()
      from claimed
      join input on input.job_id = claimed.id
      left join previous on previous.job_id = claimed.id
      returning job_id, handle
    ), event as (
      insert into job_events (job_id, sequence, type, state, progress, created_at)
      select id, event_count, 'status', state, progress, updated_at from claimed
    ), notified as (
      select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from claimed having count(*) > 0
    )
    select claimed.*, attempt.handle, exists (select from previous where previous.job_id = claimed.id and previous.handle is null) as is_unknown
    from claimed join attempt on attempt.job_id = claimed.id left join notified on true`;
  const byId = new Map(rows.map((row) => [row.id, row]));
  return claims.map(({ jobId }) => {
    const row = byId.get(jobId);
    return row && { job: toJob(row), handle: row.handle ?? undefined, failedAttempts: row.failed_attempts, isUnknown: row.is_unknown };
  });
}

/** The owner of an attempt; writes of anyone else change nothing. */
export interface Ownership {
  readonly jobId: string;
  readonly attempt: number;
}

/** How a job ends. Without `attempt` it ends whoever owns it: a cancellation by the caller. */
export interface Ending {
  readonly jobId: string;
  readonly attempt?: number;
  readonly state: TerminalState;
  readonly output?: Output;
  readonly failure?: Failure;
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
        ${endings.map(({ failure }) => failure?.code ?? null)}::text[], ${endings.map(({ failure }) => failure?.message ?? null)}::text[]
      ) as input (job_id, attempt, state, outcome, output, failure_code, failure_message)
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
        and (input.attempt is null or (jobs.attempt = input.attempt and jobs.state = 'PROCESSING'))
      returning jobs.*, input.outcome, input.attempt is null as is_foreign
    ), attempt as (
      update attempts set finished_at = db_now(), outcome = ended.outcome, failure_code = ended.failure_code,
        failure_message = ended.failure_message
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
}

/** PROCESSING → QUEUED by the owner. Undefined where it is no longer the owner. */
export async function requeueJobs(sql: SqlLike, requeues: readonly Requeue[]): Promise<readonly (Job | undefined)[]> {
  const rows = await sql<JobRow[]>`
    with input as (
      select * from unnest(
        ${requeues.map(({ jobId }) => jobId)}::uuid[], ${requeues.map(({ attempt }) => attempt)}::integer[],
        ${requeues.map(({ outcome }) => outcome)}::text[], ${requeues.map(({ delayMs }) => delayMs)}::double precision[],
        ${requeues.map(({ failure }) => failure?.code ?? null)}::text[], ${requeues.map(({ failure }) => failure?.message ?? null)}::text[]
      ) as input (job_id, attempt, outcome, delay_ms, failure_code, failure_message)
    ), locked as materialized (
      select id from jobs where id in (select job_id from input) order by id for no key update
    ), requeued as (
      update jobs set state = 'QUEUED', lease_until = null, event_count = event_count + 1, updated_at = db_now(), rung_at = db_now(),
        available_at = db_now() + make_interval(secs => input.delay_ms / 1000),
        failed_attempts = failed_attempts + case input.outcome when 'failed' then 1 else 0 end
      from locked, input
      where jobs.id = locked.id and jobs.id = input.job_id and jobs.attempt = input.attempt and jobs.state = any(${statesFor('QUEUED')})
      returning jobs.*, input.outcome, input.failure_code as attempt_failure_code, input.failure_message as attempt_failure_message
    ), attempt as (
      update attempts set finished_at = db_now(), outcome = requeued.outcome, failure_code = requeued.attempt_failure_code,
        failure_message = requeued.attempt_failure_message
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

/** Prolongs leases. Returns those that are still held; the others were lost. */
export async function renewLeases(sql: SqlLike, held: readonly Ownership[], leaseSeconds: number): Promise<readonly Ownership[]> {
  return sql<{ jobId: string; attempt: number }[]>`
    with locked as materialized (
      select id from jobs where id = any(${held.map(({ jobId }) => jobId)}::uuid[]) order by id for no key update
    )
    update jobs set lease_until = db_now() + make_interval(secs => ${leaseSeconds})
    from locked, unnest(${held.map(({ jobId }) => jobId)}::uuid[], ${held.map(({ attempt }) => attempt)}::integer[]) as held (job_id, attempt)
    where jobs.id = locked.id and jobs.id = held.job_id and jobs.attempt = held.attempt and state = 'PROCESSING'
    returning jobs.id as "jobId", jobs.attempt`;
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

/** Records how far attempts are, with an event each. Progress never goes back, and strangers' reports are dropped. */
export async function recordProgress(sql: SqlLike, reports: readonly ProgressReport[]): Promise<void> {
  await sql`
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
    )
    select pg_notify(${JOBS_CHANNEL}, string_agg(id::text, ',')) from moved having count(*) > 0`;
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

/** What ringing a job's doorbell takes. */
export interface Waiting {
  readonly id: string;
  readonly provider: string;
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
    returning jobs.id, jobs.provider, jobs.attempt, jobs.priority`;
  return rows.map(toWaiting);
}

/** Milliseconds until the next scheduled job is due; undefined when there is none. */
export async function nextDueInMs(sql: SqlLike): Promise<number | undefined> {
  const [row] = await sql<{ wait: number | null }[]>`
    select greatest(extract(epoch from min(available_at) - db_now()) * 1000, 0)::double precision as wait
    from jobs where state = 'QUEUED' and rung_at < available_at`;
  return row?.wait ?? undefined;
}

interface WaitingRow {
  readonly id: string;
  readonly provider: string;
  readonly attempt: number;
  readonly priority: number;
}

function toWaiting({ priority, ...job }: WaitingRow): Waiting {
  return { ...job, priority: PRIORITIES[priority] ?? 'normal' };
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
    returning jobs.id, jobs.provider, jobs.attempt, jobs.priority`;
  return rows.map(toWaiting);
}

/** Jobs that have not ended although their deadline has passed. */
export async function listOverdue(sql: SqlLike, limit: number): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    select id from jobs where finished_at is null and deadline_at <= db_now() order by deadline_at limit ${limit}`;
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

function toJob(row: JobRow): Job {
  return {
    id: row.id,
    callerId: row.caller_id,
    dialect: row.dialect,
    model: row.model,
    provider: row.provider,
    input: row.input,
    state: row.state,
    progress: row.progress,
    attempt: row.attempt,
    priority: PRIORITIES[row.priority] ?? 'normal',
    resubmits: row.resubmits,
    // Written by endJobs from an Output, and by nobody else.
    ...(row.output !== null && { output: JSON.parse(row.output) as Output }),
    ...(row.failure_code !== null && { failure: { code: row.failure_code, message: row.failure_message ?? '' } }),
    ...(row.webhook_url !== null && { webhookUrl: row.webhook_url }),
    baseUrl: row.base_url,
    ...(row.session_id !== null && { sessionId: row.session_id }),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    ...(row.started_at && { startedAt: row.started_at }),
    ...(row.attempt_started_at && { attemptStartedAt: row.attempt_started_at }),
    ...(row.finished_at && { finishedAt: row.finished_at }),
    ...(row.state === 'QUEUED' &&
      row.queue_position !== undefined &&
      row.queue_position !== null && { queuePosition: Number(row.queue_position) }),
  };
}

/** Takes submissions in: jobs with their first event and their idempotency keys, a whole batch in one statement. */
import { type Job, PRIORITIES, type Submission } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import { type JobRow, QUEUE_POSITION_MAX, toJob } from './jobs.ts';

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
        ${column((s) => s.webhookUrl ?? null)}::text[], ${column((s) => (s.webhookOptions ? JSON.stringify(s.webhookOptions) : null))}::text[],
        ${column((s) => s.baseUrl)}::text[], ${column((s) => s.sessionId ?? null)}::text[],
        ${column((s) => PRIORITIES.indexOf(s.priority))}::integer[], ${column((s) => s.timeoutSeconds)}::integer[],
        ${column((s) => s.runAt?.toISOString() ?? null)}::text[], ${column((s) => s.delaySeconds ?? 0)}::integer[],
        ${column((s) => s.idempotency?.keyHash ?? null)}::text[], ${column((s) => s.idempotency?.requestHash ?? null)}::text[],
        ${column((s) => s.isPinned === true)}::boolean[], ${column((s) => s.attemptsMax ?? null)}::integer[],
        ${column((s) => s.startTimeoutSeconds ?? null)}::integer[], ${column((s) => s.hasOwnDeadline === true)}::boolean[]
      ) with ordinality as given (
        id, caller_id, dialect, model, provider, input, webhook_url, webhook_options, base_url, session_id, priority, timeout_seconds, run_at,
        delay_seconds, key_hash, request_hash, is_pinned, attempts_max, start_timeout_seconds, has_own_deadline, ordinal
      )
    ), ahead as materialized (
      -- Counted once for each queue of the batch; without the word Postgres would count for every row.
      select provider, priority, (
        select count(*) from (
          select from jobs where jobs.state = 'QUEUED' and jobs.provider = queue.provider and jobs.priority <= queue.priority
          limit ${QUEUE_POSITION_MAX}
        ) as counted
      ) as jobs_ahead
      from (select distinct provider, priority from given) as queue
    ), input as (
      select given.*, greatest(coalesce(run_at::timestamptz, db_now()), db_now()) + make_interval(secs => delay_seconds) as available_at,
        least(jobs_ahead + row_number() over (partition by given.provider, given.priority order by ordinal) - 1, ${QUEUE_POSITION_MAX})::integer
          as queue_position
      from given join ahead on ahead.provider = given.provider and ahead.priority = given.priority
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
      insert into jobs (id, caller_id, dialect, model, provider, input, webhook_url, webhook_options, base_url, session_id, priority, available_at, deadline_at, is_pinned,
        attempts_max, start_by, has_own_deadline)
      select id, caller_id, dialect, model, provider, input::json, webhook_url, webhook_options::json, base_url, session_id, priority, available_at,
        available_at + make_interval(secs => timeout_seconds), is_pinned, attempts_max,
        available_at + make_interval(secs => start_timeout_seconds), has_own_deadline
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
  const { callerId, dialect, model, provider, input, baseUrl, webhookUrl, webhookOptions, sessionId, priority, isPinned } = submission;
  return {
    kind: 'replayed',
    job: {
      id: row.known_job_id,
      callerId,
      dialect,
      model,
      provider,
      isPinned: isPinned === true,
      input,
      baseUrl,
      ...(webhookUrl !== undefined && { webhookUrl }),
      ...(webhookOptions !== undefined && { webhookOptions }),
      sequence: 1,
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

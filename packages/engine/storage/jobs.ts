/**
 * Jobs in Postgres, to read. Who may change them how is in `transitions.ts`; all statements there and in `submissions.ts` notify
 * {@link JOBS_CHANNEL} of the jobs they changed.
 */
import {
  type Attempt,
  type AttemptOutcome,
  type Failure,
  type Job,
  type JobFilter,
  type JsonText,
  type Output,
  PRIORITIES,
  STATES,
  type State,
  type WebhookOptions,
} from '@claimcheck/core';
import type { SqlLike } from './connection.ts';

/** Payload: ids of changed jobs, separated by commas. 200 ids fit into the 8,000 bytes of a notification. */
export const JOBS_CHANNEL = 'claimcheck_jobs';

/** Payload as above: jobs that somebody else than their worker ended, so that it stops. */
export const ENDED_CHANNEL = 'claimcheck_ended';

/** Payload: an attempt as `<job id>:<number>` that was brought to its end by somebody else than its worker, which has nothing left to do. */
export const CONCLUDED_CHANNEL = 'claimcheck_concluded';

/** Jobs ahead are counted no further than this: a position beyond it tells a client nothing more. */
export const QUEUE_POSITION_MAX = 10_000;

/** No id is as high: ours begin with the time. */
const BEHIND_ALL_IDS = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

export interface JobReference {
  readonly callerId: string;
  readonly id: string;
}

export interface JobRow {
  readonly id: string;
  readonly caller_id: string;
  readonly dialect: string;
  readonly model: string;
  readonly provider: string;
  readonly is_pinned: boolean;
  readonly attempts_max: number | null;
  readonly start_by: Date | null;
  readonly deadline_at: Date;
  readonly has_own_deadline: boolean;
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
  readonly webhook_options: string | null;
  readonly event_count: number;
  readonly base_url: string;
  readonly session_id: string | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly started_at: Date | null;
  readonly attempt_started_at: Date | null;
  readonly finished_at: Date | null;
  readonly queue_position?: string | number | null;
  /** JSON of {@link AttemptRow}s. */
  readonly attempts?: string | null;
}

interface AttemptRow {
  readonly number: number;
  readonly provider: string;
  readonly model: string | null;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly outcome: AttemptOutcome;
  readonly code: Failure['code'] | null;
  readonly message: string | null;
  readonly costUsd: number | null;
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
    ) end as queue_position,
    -- Only then: most reads are polls of a job whose first attempt runs.
    case when failed_attempts > 0 or finished_at is not null then (
      select json_agg(json_build_object('number', number, 'provider', provider, 'model', model, 'startedAt', started_at,
        'finishedAt', finished_at, 'outcome', outcome, 'code', failure_code, 'message', failure_message, 'costUsd', cost_usd) order by number)
      from attempts where job_id = jobs.id and finished_at is not null
    ) end as attempts,
    ordinal
    from unnest(${references.map(({ id }) => id)}::uuid[], ${references.map(({ callerId }) => callerId)}::uuid[])
      with ordinality as wanted (id, caller_id, ordinal)
    join jobs on jobs.id = wanted.id and jobs.caller_id = wanted.caller_id
    where expires_at is null or expires_at > db_now()`;
  const jobs: (Job | undefined)[] = references.map(() => undefined);
  for (const row of rows) jobs[Number(row.ordinal) - 1] = toJob(row);
  return jobs;
}

/** How many jobs wait for a provider, counted up to `limit`. */
export async function countWaiting(sql: SqlLike, provider: string, limit: number): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::integer as count from (
      select from jobs where state = 'QUEUED' and provider = ${provider} limit ${limit}
    ) as counted`;
  return row?.count ?? 0;
}

export interface ListFilter extends JobFilter {
  readonly callerId: string;
  readonly before?: string;
  readonly limit: number;
}

/** A caller's jobs, newest first, older than job `before`. */
export async function listJobs(sql: SqlLike, filter: ListFilter): Promise<readonly Job[]> {
  const { callerId, before = BEHIND_ALL_IDS, state = STATES, model = null, sessionId = null } = filter;
  // As text, because the driver would guess the type of a null.
  const after = filter.createdAfter?.toISOString() ?? null;
  const until = filter.createdBefore?.toISOString() ?? null;
  const rows = await sql<JobRow[]>`
    select * from jobs
    where caller_id = ${callerId}
      and (expires_at is null or expires_at > db_now())
      and id < ${before}
      and state = any(${[state].flat()})
      and model = coalesce(${model}, model)
      and (${sessionId}::text is null or session_id = ${sessionId}::text)
      and created_at >= coalesce(${after}::text::timestamptz, '-infinity')
      and created_at <= coalesce(${until}::text::timestamptz, 'infinity')
    order by id desc
    limit ${filter.limit}
    offset ${filter.skip ?? 0}`;
  return rows.map(toJob);
}

export function toJob(row: JobRow): Job {
  return {
    id: row.id,
    callerId: row.caller_id,
    dialect: row.dialect,
    model: row.model,
    provider: row.provider,
    isPinned: row.is_pinned,
    ...(row.attempts_max !== null && { attemptsMax: row.attempts_max }),
    ...(row.start_by && { startBy: row.start_by }),
    ...(row.has_own_deadline && { deadline: row.deadline_at }),
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
    // Written by insertJobs from WebhookOptions, and by nobody else.
    ...(row.webhook_options !== null && { webhookOptions: JSON.parse(row.webhook_options) as WebhookOptions }),
    sequence: row.event_count,
    baseUrl: row.base_url,
    ...(row.session_id !== null && { sessionId: row.session_id }),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    ...(row.started_at && { startedAt: row.started_at }),
    ...(row.attempt_started_at && { attemptStartedAt: row.attempt_started_at }),
    ...(row.finished_at && { finishedAt: row.finished_at }),
    // Made by readJobs, and by nobody else.
    ...(row.attempts && { attempts: (JSON.parse(row.attempts) as AttemptRow[]).map(toAttempt) }),
    ...(row.state === 'QUEUED' &&
      row.queue_position !== undefined &&
      row.queue_position !== null && { queuePosition: Number(row.queue_position) }),
  };
}

function toAttempt({ number, provider, model, startedAt, finishedAt, outcome, code, message, costUsd }: AttemptRow): Attempt {
  return {
    number,
    provider,
    ...(model !== null && { model }),
    startedAt: new Date(startedAt),
    finishedAt: new Date(finishedAt),
    outcome,
    ...(code !== null && { failure: { code, message: message ?? '' } }),
    ...(costUsd !== null && { costUsd }),
  };
}

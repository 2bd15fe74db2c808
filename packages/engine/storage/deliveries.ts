/** Deliveries and their sends. A claim hides a delivery until its time is up; only the newest claim may record what came of it. */
import type { SqlLike } from './connection.ts';

/** Payload is empty: it means "look". */
export const DELIVERIES_CHANNEL = 'claimcheck_deliveries';

export interface OwedDelivery {
  readonly id: string;
  readonly callerId: string;
  readonly jobId: string;
  readonly url: string;
  readonly contentType: string;
  readonly body: string;
  /** Seconds to wait before each send. */
  readonly schedule: readonly number[];
}

/** Records what is owed; part of the transaction that ends the jobs. A job owes one delivery per webhook, however often this runs. */
export async function insertDeliveries(sql: SqlLike, owed: readonly OwedDelivery[]): Promise<void> {
  await sql`
    with inserted as (
      insert into deliveries (id, caller_id, job_id, url, content_type, body, schedule, next_send_at)
      select id, caller_id, job_id, url, content_type, body, schedule::integer[], db_now() + make_interval(secs => (schedule::integer[])[1])
      from unnest(
        ${owed.map(({ id }) => id)}::uuid[], ${owed.map(({ callerId }) => callerId)}::uuid[], ${owed.map(({ jobId }) => jobId)}::uuid[],
        ${owed.map(({ url }) => url)}::text[], ${owed.map(({ contentType }) => contentType)}::text[], ${owed.map(({ body }) => body)}::text[],
        ${owed.map(({ schedule }) => `{${schedule.join(',')}}`)}::text[]
      ) as owed (id, caller_id, job_id, url, content_type, body, schedule)
      on conflict (job_id, url) do nothing
      returning id
    )
    select pg_notify(${DELIVERIES_CHANNEL}, '') from inserted having count(*) > 0`;
}

export interface ClaimedDelivery {
  readonly id: string;
  readonly jobId: string;
  readonly url: string;
  readonly contentType: string;
  readonly body: string;
  readonly schedule: readonly number[];
  /** Sends recorded so far. */
  readonly sendCount: number;
  /** Hand it back with the record. */
  readonly claim: number;
}

/** Takes due deliveries, the longest due first. Each comes again by itself after `claimSeconds` unless it is recorded before. */
export async function claimDeliveries(
  sql: SqlLike,
  options: { readonly limit: number; readonly claimSeconds: number },
): Promise<readonly ClaimedDelivery[]> {
  return sql<ClaimedDelivery[]>`
    with due as materialized (
      select id from deliveries where state = 'PENDING' and next_send_at <= db_now()
      order by next_send_at limit ${options.limit} for no key update skip locked
    )
    update deliveries set claim = claim + 1, next_send_at = db_now() + make_interval(secs => ${options.claimSeconds})
    from due where deliveries.id = due.id
    returning deliveries.id, job_id as "jobId", url, content_type as "contentType", body, schedule, send_count as "sendCount", claim`;
}

export interface SendRecord {
  readonly deliveryId: string;
  readonly claim: number;
  readonly durationMs: number;
  readonly status?: number;
  readonly error?: { readonly code: string; readonly message: string };
  /** DELIVERED and FAILED are final; otherwise the next send is due after that many seconds. */
  readonly next: 'DELIVERED' | 'FAILED' | { readonly afterSeconds: number };
}

/** Writes down sends and moves their deliveries on. A send whose claim ran out is dropped: a newer one owns the delivery. */
export async function recordSends(sql: SqlLike, records: readonly SendRecord[]): Promise<void> {
  await sql`
    with input as (
      select * from unnest(
        ${records.map(({ deliveryId }) => deliveryId)}::uuid[], ${records.map(({ claim }) => claim)}::integer[],
        ${records.map(({ durationMs }) => Math.round(durationMs))}::integer[], ${records.map(({ status }) => status ?? null)}::integer[],
        ${records.map(({ error }) => error?.code ?? null)}::text[], ${records.map(({ error }) => error?.message ?? null)}::text[],
        ${records.map(({ next }) => (typeof next === 'string' ? next : 'PENDING'))}::text[],
        ${records.map(({ next }) => (typeof next === 'string' ? 0 : next.afterSeconds))}::double precision[]
      ) as input (delivery_id, claim, duration_ms, status, error_code, error_message, state, after_seconds)
    ), locked as materialized (
      select id from deliveries where id in (select delivery_id from input) order by id for no key update
    ), moved as (
      update deliveries set send_count = send_count + 1, state = input.state,
        next_send_at = db_now() + make_interval(secs => input.after_seconds),
        finished_at = case when input.state = 'PENDING' then null else db_now() end
      from locked, input
      where deliveries.id = locked.id and deliveries.id = input.delivery_id and deliveries.claim = input.claim and deliveries.state = 'PENDING'
      returning deliveries.id, send_count, input.*
    )
    insert into sends (delivery_id, number, started_at, duration_ms, status, error_code, error_message)
    select id, send_count, db_now() - make_interval(secs => duration_ms / 1000.0), duration_ms, status, error_code, error_message from moved`;
}

/** Milliseconds until the next delivery is due, 0 when one is due now, undefined when none waits. */
export async function nextDeliveryInMs(sql: SqlLike): Promise<number | undefined> {
  const [row] = await sql<{ wait: number }[]>`
    select greatest(extract(epoch from min(next_send_at) - db_now()) * 1000, 0)::double precision as wait
    from deliveries where state = 'PENDING'
    -- No row when none waits: greatest() takes null for less than 0.
    having count(*) > 0`;
  return row?.wait;
}

/** Deletes deliveries that ended longer than `olderThanSeconds` ago. Returns how many. */
export async function deleteEndedDeliveries(
  sql: SqlLike,
  options: { readonly olderThanSeconds: number; readonly limit: number },
): Promise<number> {
  const rows = await sql`
    delete from deliveries where id in (
      select id from deliveries where finished_at < db_now() - make_interval(secs => ${options.olderThanSeconds})
      order by finished_at limit ${options.limit} for update skip locked
    ) returning id`;
  return rows.length;
}

/**
 * Deliveries and their sends. A claim hides a delivery until its time is up; only the newest claim may record what came of it.
 *
 * A due delivery whose host has no room steps aside, once, into the line of its host, where it does not stand in the way of others:
 * however many wait for a dead receiver, the due-index only holds what can be sent.
 */
import type { DeliveryState, SendTrigger } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';

/** Payload is empty: it means "look". */
export const DELIVERIES_CHANNEL = 'claimcheck_deliveries';

export interface OwedDelivery {
  readonly id: string;
  readonly callerId: string;
  /** Undefined for a test send. */
  readonly jobId?: string;
  readonly url: string;
  readonly contentType: string;
  readonly body: string;
  /** Whose signature the receiver expects besides the service's own. */
  readonly dialect?: string;
  /** Seconds to wait before each send. */
  readonly schedule: readonly number[];
  readonly event: string;
  /** Number of the job's event; 0 for a test send. */
  readonly sequence: number;
  /** Fraction done; only for an event that tells of progress. */
  readonly progress?: number;
  /** Sent along; see WebhookOptions. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly trigger?: SendTrigger;
}

/**
 * Records what is owed; part of the transaction that changes the jobs. A job owes one delivery per event, and one for its end, however
 * often this runs.
 */
export async function insertDeliveries(sql: SqlLike, owed: readonly OwedDelivery[]): Promise<void> {
  const column = <Value>(pick: (delivery: OwedDelivery) => Value) => owed.map(pick);
  await sql`
    with inserted as (
      insert into deliveries (id, caller_id, job_id, url, content_type, body, dialect, schedule, event, sequence, progress, headers, trigger, next_send_at)
      select id, caller_id, job_id, url, content_type, body, dialect, schedule::integer[], event, sequence, progress, headers::json, trigger,
        db_now() + make_interval(secs => (schedule::integer[])[1])
      from unnest(
        ${column(({ id }) => id)}::uuid[], ${column(({ callerId }) => callerId)}::uuid[], ${column(({ jobId }) => jobId ?? null)}::uuid[],
        ${column(({ url }) => url)}::text[], ${column(({ contentType }) => contentType)}::text[], ${column(({ body }) => body)}::text[],
        ${column(({ dialect }) => dialect ?? null)}::text[],
        ${column(({ schedule }) => `{${schedule.join(',')}}`)}::text[], ${column(({ event }) => event)}::text[],
        ${column(({ sequence }) => sequence)}::integer[], ${column(({ progress }) => progress ?? null)}::real[],
        ${column(({ headers }) => (headers ? JSON.stringify(headers) : null))}::text[],
        ${column(({ trigger }) => trigger ?? 'auto')}::text[]
      ) as owed (id, caller_id, job_id, url, content_type, body, dialect, schedule, event, sequence, progress, headers, trigger)
      on conflict do nothing
      returning id
    )
    select pg_notify(${DELIVERIES_CHANNEL}, '') from inserted having count(*) > 0`;
}

/** A host as one caller uses it: what has a concurrency, a circuit breaker and a line of its own, so that no caller can spoil it for others. */
export interface Lane {
  readonly callerId: string;
  readonly host: string;
}

export interface ClaimedDelivery extends Lane {
  readonly id: string;
  readonly jobId: string | null;
  readonly url: string;
  readonly contentType: string;
  readonly body: string;
  readonly dialect: string | null;
  readonly schedule: readonly number[];
  readonly event: string;
  readonly sequence: number;
  readonly progress: number | null;
  /** What the client wants sent along, as JSON. */
  readonly headers: string | null;
  readonly trigger: SendTrigger;
  /** Where it returns when a send that was asked for fails; null while its schedule goes on. */
  readonly fallsBackTo: Exclude<DeliveryState, 'PENDING'> | null;
  /** Sends recorded so far. */
  readonly sendCount: number;
  /** Hand it back with the record. */
  readonly claim: number;
}

export interface DueDeliveries {
  readonly claimed: readonly ClaimedDelivery[];
  /** Those whose lines have grown. */
  readonly lines: readonly Lane[];
  /** True when more may be due than were looked at. */
  readonly isMore: boolean;
}

export interface LaneRoom extends Lane {
  /** Sends that may start now. */
  readonly room: number;
}

export interface ClaimOptions {
  /** Deliveries to claim at most. */
  readonly limit: number;
  /** Each comes again by itself after this, unless it is recorded before. */
  readonly claimSeconds: number;
  /** Of lanes with other than `roomElsewhere`. */
  readonly rooms: readonly LaneRoom[];
  readonly roomElsewhere: number;
  /** Lanes that are passed over: {@link stepIntoLine} takes care of what is due there. */
  readonly passOver?: readonly Lane[];
}

/** For a claim that ran out without a record: kept in the log, because the receiver may have seen it. */
const LOST_SEND = 'The dispatcher vanished while it had this delivery; whether it was sent is unknown.';

/** So many due ones are looked at; what has no room among them leaves the index, so that the next look sees others. */
const LOOK_AT = 300;

/**
 * Takes due deliveries, the longest due first, as many of each lane as have room; the others of that lane step into its line. Those of
 * disabled endpoints become HELD when their time comes, unless somebody asked for the send.
 */
export async function claimDue(sql: SqlLike, options: ClaimOptions): Promise<DueDeliveries> {
  const { passOver = [] } = options;
  const rows = await sql<(ClaimedDelivery & { verdict: string })[]>`
    with due as materialized (
      select id, caller_id, host, endpoint, trigger, next_send_at, claimed_at from deliveries
      where state = 'PENDING' and not waits_in_line and next_send_at <= db_now() 
        and (caller_id, host) not in (select * from unnest(${passOver.map(({ callerId }) => callerId)}::uuid[], ${passOver.map(({ host }) => host)}::text[]))
      order by next_send_at limit ${LOOK_AT} for no key update skip locked
    ), known as (
      select * from unnest(${options.rooms.map(({ callerId }) => callerId)}::uuid[], ${options.rooms.map(({ host }) => host)}::text[],
        ${options.rooms.map(({ room }) => room)}::integer[]) as known (caller_id, host, room)
    ), sorted as (
      select due.*, disabled_at is not null and trigger = 'auto' as is_held, coalesce(room, ${options.roomElsewhere}) as room,
        row_number() over (partition by due.caller_id, due.host, disabled_at is not null and trigger = 'auto' order by next_send_at, id) as place
      from due left join known using (caller_id, host)
        left join webhook_endpoints as bad on bad.caller_id = due.caller_id and bad.endpoint = due.endpoint
    ), judged as (
      select id, claimed_at as lost_at, case when is_held then 'hold' when place > room then 'wait'
        when count(*) filter (where not is_held and place <= room) over (order by next_send_at, id) <= ${options.limit} then 'claim' else 'later'
      end as verdict
      from sorted
    ), judgement as (
    update deliveries set
      state = case verdict when 'hold' then 'HELD' else state end,
      failure_code = case verdict when 'hold' then 'endpoint_disabled' end,
      finished_at = case verdict when 'hold' then db_now() end,
      waits_in_line = verdict = 'wait',
      claim = claim + case verdict when 'claim' then 1 else 0 end,
      claimed_at = case verdict when 'claim' then db_now() else claimed_at end,
      send_count = send_count + case when verdict = 'claim' and lost_at is not null then 1 else 0 end,
      next_send_at = case verdict when 'claim' then db_now() + make_interval(secs => ${options.claimSeconds}) else next_send_at end
    from judged where deliveries.id = judged.id and verdict <> 'later'
    returning deliveries.*, verdict, lost_at
    ), lost as (
      insert into sends (delivery_id, number, started_at, duration_ms, error_code, error_message, next_reason)
      select id, send_count, lost_at, extract(epoch from db_now() - lost_at) * 1000, 'internal', ${LOST_SEND}, 'sent again'
      from judgement where verdict = 'claim' and lost_at is not null
    )
    select id, caller_id as "callerId", host, job_id as "jobId", url, content_type as "contentType", body, dialect, schedule, event, sequence, progress,
      headers, trigger, falls_back_to as "fallsBackTo", send_count as "sendCount", claim, verdict
    from judgement`;
  return {
    claimed: rows.filter(({ verdict }) => verdict === 'claim'),
    lines: rows.filter(({ verdict }) => verdict === 'wait'),
    isMore: rows.length > 0,
  };
}

/** Moves due deliveries of these lanes into their lines, `limit` at most. Returns how many. */
export async function stepIntoLine(sql: SqlLike, lanes: readonly Lane[], limit: number): Promise<number> {
  const rows = await sql`
    with due as materialized (
      select id from deliveries
      where state = 'PENDING' and not waits_in_line and next_send_at <= db_now()
        and (caller_id, host) in (select * from unnest(${lanes.map(({ callerId }) => callerId)}::uuid[], ${lanes.map(({ host }) => host)}::text[]))
      order by next_send_at limit ${limit} for no key update skip locked
    )
    update deliveries set waits_in_line = true from due where deliveries.id = due.id
    returning deliveries.id`;
  return rows.length;
}

/** Takes from the lines of lanes that have room, the longest waiting first. */
export async function claimFromLines(
  sql: SqlLike,
  lanes: readonly LaneRoom[],
  options: { readonly claimSeconds: number },
): Promise<readonly ClaimedDelivery[]> {
  return sql<ClaimedDelivery[]>`
    with first as materialized (
      select turn.id, turn.lost_at
      from unnest(${lanes.map(({ callerId }) => callerId)}::uuid[], ${lanes.map(({ host }) => host)}::text[],
        ${lanes.map(({ room }) => room)}::integer[]) as lane (caller_id, host, room)
      cross join lateral (
        select id, claimed_at as lost_at from deliveries
        where state = 'PENDING' and waits_in_line and caller_id = lane.caller_id and host = lane.host
        order by next_send_at limit lane.room for no key update skip locked
      ) as turn
    ), taken as (
      update deliveries set waits_in_line = false, claim = claim + 1, claimed_at = db_now(),
        send_count = send_count + case when lost_at is not null then 1 else 0 end,
        next_send_at = db_now() + make_interval(secs => ${options.claimSeconds})
      from first where deliveries.id = first.id
      returning deliveries.*, lost_at
    ), lost as (
      insert into sends (delivery_id, number, started_at, duration_ms, error_code, error_message, next_reason)
      select id, send_count, lost_at, extract(epoch from db_now() - lost_at) * 1000, 'internal', ${LOST_SEND}, 'sent again'
      from taken where lost_at is not null
    )
    select id, caller_id as "callerId", host, job_id as "jobId", url, content_type as "contentType", body, dialect, schedule, event, sequence, progress,
      headers, trigger, falls_back_to as "fallsBackTo", send_count as "sendCount", claim
    from taken`;
}

/** Makes claimed deliveries due again that were not sent. Those with a newer claim stay as they are. */
export async function giveBackDeliveries(sql: SqlLike, claimed: readonly Pick<ClaimedDelivery, 'id' | 'claim'>[]): Promise<void> {
  await sql`
    update deliveries set next_send_at = db_now(), claim = deliveries.claim + 1, claimed_at = null
    from unnest(${claimed.map(({ id }) => id)}::uuid[], ${claimed.map(({ claim }) => claim)}::integer[]) as given (id, claim)
    where deliveries.id = given.id and deliveries.claim = given.claim and state = 'PENDING'`;
}

/** Lanes in whose lines somebody waits, `limit` at most. Steps from lane to lane through the index, whatever the length of their lines. */
export async function listLines(sql: SqlLike, limit: number): Promise<readonly Lane[]> {
  return sql<Lane[]>`
    with recursive lane as (
      (select caller_id, host from deliveries where state = 'PENDING' and waits_in_line order by caller_id, host limit 1)
      union all
      select next.caller_id, next.host from lane cross join lateral (
        select caller_id, host from deliveries
        where state = 'PENDING' and waits_in_line and (deliveries.caller_id, deliveries.host) > (lane.caller_id, lane.host)
        order by caller_id, host limit 1
      ) as next
    )
    select caller_id as "callerId", host from lane limit ${limit}`;
}

/** What one send was like. */
export interface SendFacts {
  /** Milliseconds over all. */
  readonly durationMs: number;
  /** Milliseconds; undefined where the step was not taken. */
  readonly dnsMs?: number;
  readonly connectMs?: number;
  readonly tlsMs?: number;
  readonly firstByteMs?: number;
  readonly address?: string;
  /** Without anything secret. */
  readonly requestHeaders: Readonly<Record<string, string>>;
  readonly status?: number;
  readonly responseHeaders?: Readonly<Record<string, string | readonly string[]>>;
  /** What was read of the answer's body. */
  readonly responseBody?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface SendRecord extends SendFacts {
  readonly deliveryId: string;
  readonly claim: number;
  /** An ended state is final; otherwise the next send is due after that many seconds. */
  readonly next: Exclude<DeliveryState, 'PENDING'> | { readonly afterSeconds: number };
  /** Why it goes on as it does, for people. */
  readonly nextReason: string;
  /** Whether the endpoint was well; undefined when the send says nothing about it. */
  readonly health?: 'ok' | 'failed' | 'gone' | 'asked';
}

/** What the records changed beyond their deliveries. */
export interface EndpointChange extends Lane {
  readonly url: string;
  readonly change: 'disabled' | 'recovered';
  readonly reason: string | null;
}

export interface DisableRule {
  /** Failing for this long … */
  readonly failingSeconds: number;
  /** … and for so many sends without a success in between. */
  readonly failuresMin: number;
}

/** Writes down sends and moves their deliveries on. A send whose claim ran out is dropped: a newer one owns the delivery. */
export async function recordSends(sql: SqlLike, records: readonly SendRecord[], rule: DisableRule): Promise<readonly EndpointChange[]> {
  const column = <Value>(pick: (record: SendRecord) => Value) => records.map(pick);
  const rows = await sql<EndpointChange[]>`
    with input as (
      select * from unnest(
        ${column(({ deliveryId }) => deliveryId)}::uuid[], ${column(({ claim }) => claim)}::integer[],
        ${column(({ durationMs }) => Math.round(durationMs))}::integer[], ${column(({ dnsMs }) => dnsMs ?? null)}::real[],
        ${column(({ connectMs }) => connectMs ?? null)}::real[], ${column(({ tlsMs }) => tlsMs ?? null)}::real[],
        ${column(({ firstByteMs }) => firstByteMs ?? null)}::real[], ${column(({ address }) => address ?? null)}::text[],
        ${column(({ requestHeaders }) => JSON.stringify(requestHeaders))}::text[], ${column(({ status }) => status ?? null)}::integer[],
        ${column(({ responseHeaders }) => (responseHeaders ? JSON.stringify(responseHeaders) : null))}::text[],
        ${column(({ responseBody }) => responseBody ?? null)}::text[], ${column(({ error }) => error?.code ?? null)}::text[],
        ${column(({ error }) => error?.message ?? null)}::text[],
        ${column(({ next }) => (typeof next === 'string' ? next : 'PENDING'))}::text[],
        ${column(({ next }) => (typeof next === 'string' ? null : next.afterSeconds))}::double precision[],
        ${column(({ nextReason }) => nextReason)}::text[], ${column(({ health }) => health ?? null)}::text[]
      ) as input (
        delivery_id, claim, duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, address, request_headers, status, response_headers,
        response_body, error_code, error_message, new_state, after_seconds, next_reason, health
      )
    ), locked as materialized (
      select id, trigger as trigger_before from deliveries where id in (select delivery_id from input) order by id for no key update
    ), moved as (
      update deliveries set send_count = send_count + 1, state = new_state,
        failure_code = case new_state when 'FAILED' then coalesce(error_code, 'internal') when 'HELD' then 'endpoint_disabled' end,
        next_send_at = db_now() + make_interval(secs => coalesce(after_seconds, 0)), trigger = 'auto', falls_back_to = null, waits_in_line = false, claimed_at = null,
        finished_at = case when new_state = 'PENDING' then null else db_now() end
      from locked, input
      where deliveries.id = locked.id and deliveries.id = input.delivery_id and deliveries.claim = input.claim and deliveries.state = 'PENDING'
      returning deliveries.id, deliveries.caller_id, deliveries.host, deliveries.endpoint, deliveries.url, send_count, next_send_at, trigger_before, input.*
    ), sent as (
      insert into sends (delivery_id, number, trigger, started_at, duration_ms, dns_ms, connect_ms, tls_ms, first_byte_ms, address, request_headers,
        status, response_headers, response_body, error_code, error_message, next_send_at, next_reason)
      select id, send_count, trigger_before, db_now() - make_interval(secs => duration_ms / 1000.0), duration_ms, dns_ms, connect_ms, tls_ms,
        first_byte_ms, address, request_headers::json, status, response_headers::json, response_body, error_code, error_message,
        case when new_state = 'PENDING' then next_send_at end, next_reason
      from moved
    ), ill as (
      insert into webhook_endpoints as bad (caller_id, endpoint, url, failures, disabled_at, disabled_reason)
      select caller_id, endpoint, min(url), count(*), case when bool_or(health in ('gone', 'asked')) then db_now() end,
        min(health) filter (where health in ('gone', 'asked'))
      from moved where health in ('failed', 'gone', 'asked')
        -- A success at the same time speaks for the endpoint, unless it asked for the end itself.
        and (health <> 'failed' or not exists (select from moved as well where well.caller_id = moved.caller_id and well.endpoint = moved.endpoint and well.health = 'ok'))
      group by caller_id, endpoint order by caller_id, endpoint
      on conflict (caller_id, endpoint) do update set failures = bad.failures + excluded.failures, updated_at = db_now(),
        disabled_at = coalesce(bad.disabled_at, excluded.disabled_at, case when bad.failures + excluded.failures >= ${rule.failuresMin}
          and bad.failing_since <= db_now() - make_interval(secs => ${rule.failingSeconds}) then db_now() end),
        disabled_reason = coalesce(bad.disabled_reason, excluded.disabled_reason, case when bad.failures + excluded.failures >= ${rule.failuresMin}
          and bad.failing_since <= db_now() - make_interval(secs => ${rule.failingSeconds}) then 'failing' end)
      returning caller_id, url, disabled_reason, disabled_at = db_now() as is_new
    ), well as (
      delete from webhook_endpoints as bad using (
        select distinct caller_id, endpoint from moved where health = 'ok'
          and not exists (select from moved as ill where ill.caller_id = moved.caller_id and ill.endpoint = moved.endpoint and ill.health in ('gone', 'asked'))
      ) as sound
      where bad.caller_id = sound.caller_id and bad.endpoint = sound.endpoint
      returning bad.caller_id, bad.url
    )
    select caller_id as "callerId", '' as host, url, 'disabled' as change, disabled_reason as reason from ill where is_new
    union all select caller_id, '', url, 'recovered', null from well`;
  return rows;
}

/** Milliseconds until the next delivery outside the lines is due, 0 when one is due now, undefined when none is to come. */
export async function nextDeliveryInMs(sql: SqlLike): Promise<number | undefined> {
  const [row] = await sql<{ wait: number }[]>`
    select greatest(extract(epoch from min(next_send_at) - db_now()) * 1000, 0)::double precision as wait
    from deliveries where state = 'PENDING' and not waits_in_line
    -- No row when none waits: greatest() takes null for less than 0.
    having count(*) > 0`;
  return row?.wait;
}

/** Erases the messages of what was delivered of these jobs: nothing is to be left of what they produced. What is still owed keeps its own. */
export async function eraseMessages(sql: SqlLike, jobIds: readonly string[]): Promise<void> {
  await sql`update deliveries set body = null where job_id = any(${jobIds}::uuid[]) and state = 'DELIVERED' and body is not null`;
}

/**
 * Lets go of what has been kept for long enough: the messages of what was delivered and owed `messageSeconds` ago, as they tell of a job
 * that is gone, then whole deliveries with their sends that ended `logSeconds` ago. Returns how many rows it touched, `limit` of each at most.
 */
export async function expireDeliveries(
  sql: SqlLike,
  options: { readonly messageSeconds: number; readonly logSeconds: number; readonly limit: number },
): Promise<number> {
  const erased = await sql`
    update deliveries set body = null where id in (
      select id from deliveries
      where state = 'DELIVERED' and body is not null and created_at < db_now() - make_interval(secs => ${options.messageSeconds})
      order by created_at limit ${options.limit} for update skip locked
    ) returning id`;
  const deleted = await sql`
    delete from deliveries where id in (
      select id from deliveries where finished_at < db_now() - make_interval(secs => ${options.logSeconds})
      order by finished_at limit ${options.limit} for update skip locked
    ) returning id`;
  const forgotten = await sql`
    delete from webhook_endpoints where (caller_id, endpoint) in (
      select caller_id, endpoint from webhook_endpoints
      where disabled_at is null and updated_at < db_now() - make_interval(secs => ${options.logSeconds})
      order by updated_at limit ${options.limit} for update skip locked
    ) returning endpoint`;
  return erased.length + deleted.length + forgotten.length;
}

/** Deliveries and their sends as their callers may see them: never another caller's. */
import type { Delivery, DeliveryState, EndpointHealth, LoggedSend, SendTrigger } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';

/** No id is as high: ours begin with the time. */
const BEHIND_ALL_IDS = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

export interface DeliveryReference {
  readonly callerId: string;
  readonly id: string;
}

export interface DeliveryFilter {
  readonly callerId: string;
  /** Deliveries with lower ids only. */
  readonly before?: string;
  readonly state?: DeliveryState;
  readonly limit: number;
}

/** Ids of a caller's deliveries, newest first. */
export async function listDeliveryIds(
  sql: SqlLike,
  { callerId, before = BEHIND_ALL_IDS, state, limit }: DeliveryFilter,
): Promise<readonly string[]> {
  const rows =
    state === 'FAILED' || state === 'HELD'
      ? await sql<{ id: string }[]>`
          select id from deliveries
          -- Both literals, or the index of what was not delivered could not be used.
          where caller_id = ${callerId} and state in ('FAILED', 'HELD') and state = ${state} and id < ${before}
          order by id desc limit ${limit}`
      : await sql<{ id: string }[]>`
          select id from deliveries
          where caller_id = ${callerId} and state = coalesce(${state ?? null}, state) and id < ${before}
          order by id desc limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** The same of one job. */
export async function listDeliveryIdsOfJob(sql: SqlLike, jobId: string, filter: DeliveryFilter): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    select id from deliveries
    where job_id = ${jobId} and caller_id = ${filter.callerId} and state = coalesce(${filter.state ?? null}, state)
      and id < ${filter.before ?? BEHIND_ALL_IDS}
    order by id desc limit ${filter.limit}`;
  return rows.map(({ id }) => id);
}

/** Whether the caller has, or had, such a job: it can still be read, or what it owed can. */
export async function knowsJob(sql: SqlLike, { id, callerId }: DeliveryReference): Promise<boolean> {
  const [row] = await sql<{ known: boolean }[]>`
    select exists (select from jobs where id = ${id} and caller_id = ${callerId} and (expires_at is null or expires_at > db_now()))
      or exists (select from deliveries where job_id = ${id} and caller_id = ${callerId}) as known`;
  return row?.known ?? false;
}

interface DeliveryRow {
  readonly id: string;
  readonly callerId: string;
  readonly jobId: string | null;
  readonly event: string;
  readonly sequence: number;
  readonly url: string;
  readonly state: DeliveryState;
  readonly failureCode: string | null;
  readonly sendCount: number;
  readonly schedule: readonly number[];
  readonly trigger: SendTrigger;
  readonly createdAt: Date;
  readonly finishedAt: Date | null;
  readonly nextSendAt: Date;
  readonly failingSince: Date | null;
  readonly disabledAt: Date | null;
  readonly disabledReason: NonNullable<EndpointHealth['reason']> | null;
}

/** Those of these deliveries that the caller has, newest first. */
export async function readDeliveries(sql: SqlLike, callerId: string, ids: readonly string[]): Promise<readonly Delivery[]> {
  const rows = await sql<DeliveryRow[]>`
    select deliveries.id, deliveries.caller_id as "callerId", job_id as "jobId", event, sequence, deliveries.url, state,
      failure_code as "failureCode", send_count as "sendCount", schedule, trigger, created_at as "createdAt", finished_at as "finishedAt",
      next_send_at as "nextSendAt", failing_since as "failingSince", disabled_at as "disabledAt", disabled_reason as "disabledReason"
    from deliveries left join webhook_endpoints as bad on bad.caller_id = deliveries.caller_id and bad.endpoint = deliveries.endpoint
    where deliveries.id = any(${ids}::uuid[]) and deliveries.caller_id = ${callerId}
    order by deliveries.id desc`;
  return rows.map(toDelivery);
}

function toDelivery({
  jobId,
  failureCode,
  finishedAt,
  nextSendAt,
  trigger,
  failingSince,
  disabledAt,
  disabledReason,
  ...row
}: DeliveryRow): Delivery {
  return {
    ...row,
    ...(jobId !== null && { jobId }),
    ...(failureCode !== null && { failureCode }),
    ...(finishedAt !== null && { finishedAt }),
    ...(row.state === 'PENDING' && { next: { at: nextSendAt, trigger } }),
    endpoint:
      disabledAt !== null && disabledReason !== null
        ? { state: 'disabled', reason: disabledReason, since: disabledAt }
        : failingSince !== null
          ? { state: 'failing', since: failingSince }
          : { state: 'ok' },
  };
}

/** What a delivery tells; undefined for a foreign one, or when it is gone. */
export async function readMessage(sql: SqlLike, { id, callerId }: DeliveryReference): Promise<string | undefined> {
  const [row] = await sql<{ body: string | null }[]>`select body from deliveries where id = ${id} and caller_id = ${callerId}`;
  return row?.body ?? undefined;
}

interface SendRow {
  readonly number: number;
  readonly trigger: SendTrigger;
  readonly startedAt: Date;
  readonly durationMs: number;
  readonly dnsMs: number | null;
  readonly connectMs: number | null;
  readonly tlsMs: number | null;
  readonly firstByteMs: number | null;
  readonly address: string | null;
  readonly requestHeaders: string | null;
  readonly status: number | null;
  readonly responseHeaders: string | null;
  readonly responseBody: string | null;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
  readonly nextSendAt: Date | null;
  readonly nextReason: string | null;
}

/** The newest sends of a delivery, `limit` at most, in the order they were made. */
export async function readSends(sql: SqlLike, { id, callerId }: DeliveryReference, limit: number): Promise<readonly LoggedSend[]> {
  const rows = await sql<SendRow[]>`
    select number, sends.trigger, started_at as "startedAt", duration_ms as "durationMs", dns_ms as "dnsMs", connect_ms as "connectMs",
      tls_ms as "tlsMs", first_byte_ms as "firstByteMs", address, request_headers as "requestHeaders", status,
      response_headers as "responseHeaders", response_body as "responseBody", error_code as "errorCode", error_message as "errorMessage",
      sends.next_send_at as "nextSendAt", next_reason as "nextReason"
    from sends join deliveries on deliveries.id = delivery_id
    where delivery_id = ${id} and caller_id = ${callerId}
    order by number desc limit ${limit}`;
  return rows.toReversed().map(toSend);
}

function toSend(row: SendRow): LoggedSend {
  const { number, trigger, startedAt, address, status, responseBody, errorCode, nextSendAt, nextReason } = row;
  return {
    number,
    trigger,
    startedAt,
    timings: {
      ...(row.dnsMs !== null && { dnsMs: row.dnsMs }),
      ...(row.connectMs !== null && { connectMs: row.connectMs }),
      ...(row.tlsMs !== null && { tlsMs: row.tlsMs }),
      ...(row.firstByteMs !== null && { firstByteMs: row.firstByteMs }),
      totalMs: row.durationMs,
    },
    ...(address !== null && { address }),
    // Both columns are written by recordSends from such objects, and by nobody else.
    ...(row.requestHeaders !== null && { requestHeaders: JSON.parse(row.requestHeaders) as Record<string, string> }),
    ...(status !== null && { status }),
    ...(row.responseHeaders !== null && { responseHeaders: JSON.parse(row.responseHeaders) as Record<string, string | string[]> }),
    ...(responseBody !== null && { responseBody }),
    ...(errorCode !== null && { error: { code: errorCode, message: row.errorMessage ?? '' } }),
    ...(nextSendAt !== null && { nextSendAt }),
    ...(nextReason !== null && { nextReason }),
  };
}

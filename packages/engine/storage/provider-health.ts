/** What workers have learned about providers, for all processes: which to leave alone for a while, and how long runs take there. */
import type { SqlLike } from './connection.ts';

/** Payload: names of providers, separated by commas, whose health has changed. */
export const PROVIDERS_CHANNEL = 'claimcheck_providers';

/** Why a provider is not asked: it keeps failing, or it asked to be left alone. */
export type OutReason = 'failing' | 'asked';

export interface HealthRecord {
  readonly provider: string;
  readonly failures: number;
  readonly reason: OutReason | undefined;
  /** Milliseconds until it may be asked again; negative once it may. Meaningless without a reason. */
  readonly outMs: number;
}

/** What happened at one provider since the last report. */
export interface HealthReport {
  readonly provider: string;
  /** Attempts that failed. */
  readonly failures: number;
  /** Milliseconds for which it asked to be left alone; 0 when it did not. */
  readonly pauseMs: number;
}

export interface Breaker {
  /** Failures without a success in between that shut a provider out. */
  readonly failuresMax: number;
  /** Length of the first outage; each one that follows is twice as long. */
  readonly firstSeconds: number;
  readonly secondsMax: number;
}

export async function readHealth(sql: SqlLike): Promise<readonly HealthRecord[]> {
  const rows = await sql<{ provider: string; failures: number; out_reason: OutReason | null; out_ms: number | null }[]>`
    select provider, failures, out_reason, (extract(epoch from out_until - db_now()) * 1000)::double precision as out_ms from provider_health`;
  return rows.map(({ provider, failures, out_reason, out_ms }) => ({
    provider,
    failures,
    reason: out_reason ?? undefined,
    outMs: out_ms ?? 0,
  }));
}

/**
 * Adds up what failed; two statements, for one transaction. A provider that is out already is not shut out for longer by runs that began
 * before: only a pause that it asks for counts then. Each provider is named once.
 */
export async function recordFailures(sql: SqlLike, reports: readonly HealthReport[], breaker: Breaker): Promise<void> {
  await sql`
    insert into provider_health as health (provider, failures, updated_at)
    select provider, failures, db_now()
    from unnest(${reports.map(({ provider }) => provider)}::text[], ${reports.map(({ failures }) => failures)}::integer[])
      as input (provider, failures)
    order by provider
    on conflict (provider) do update set failures = health.failures + excluded.failures, updated_at = db_now()`;
  await sql`
    with input as (
      select * from unnest(
        ${reports.map(({ provider }) => provider)}::text[], ${reports.map(({ failures }) => failures)}::integer[],
        ${reports.map(({ pauseMs }) => pauseMs)}::double precision[]
      ) as input (provider, failures, pause_ms)
    ), judged as (
      select health.provider, input.pause_ms,
        input.failures > 0 and health.failures >= ${breaker.failuresMax}
          and (out_reason is distinct from 'failing' or out_until <= db_now()) as breaks,
        least(greatest(out_seconds * 2, ${breaker.firstSeconds}), ${breaker.secondsMax})::integer as seconds
      from provider_health as health join input using (provider)
      order by health.provider for update of health
    ), changed as (
      update provider_health as health set
        out_reason = case when breaks then 'failing' when out_reason = 'failing' then out_reason else 'asked' end,
        out_until = greatest(out_until, db_now() + make_interval(secs => greatest(case when breaks then seconds end, pause_ms / 1000))),
        out_seconds = case when breaks then seconds else out_seconds end,
        probe_until = null
      from judged where health.provider = judged.provider and (breaks or pause_ms > 0)
      returning health.provider
    )
    select pg_notify(${PROVIDERS_CHANNEL}, string_agg(provider, ',')) from changed having count(*) > 0`;
}

/** A run has ended well there: whatever was held against the provider is forgotten, unless it is out at this moment. */
export async function recordSuccess(sql: SqlLike, provider: string): Promise<void> {
  await sql`
    with changed as (
      update provider_health set failures = 0, out_until = null, out_reason = null, out_seconds = 0, probe_until = null, updated_at = db_now()
      where provider = ${provider} and (out_until is null or out_until <= db_now())
      returning provider
    )
    select pg_notify(${PROVIDERS_CHANNEL}, string_agg(provider, ',')) from changed having count(*) > 0`;
}

/**
 * The provider took a run in after an outage: it may be asked by everybody again. That says nothing yet about how the run will end, so the
 * next failure shuts it out anew.
 */
export async function recordReturn(sql: SqlLike, provider: string, failuresMax: number): Promise<void> {
  await sql`
    with changed as (
      update provider_health set failures = ${failuresMax - 1}, out_until = null, out_reason = null, probe_until = null, updated_at = db_now()
      where provider = ${provider} and out_reason = 'failing' and out_until <= db_now()
      returning provider
    )
    select pg_notify(${PROVIDERS_CHANNEL}, string_agg(provider, ',')) from changed having count(*) > 0`;
}

/** True for the one attempt that may try a provider whose outage is over; the next may after `seconds`, or when this one gives the right back. */
export async function takeProbe(sql: SqlLike, provider: string, seconds: number): Promise<boolean> {
  const rows = await sql`
    update provider_health set probe_until = db_now() + make_interval(secs => ${seconds})
    where provider = ${provider} and out_reason = 'failing' and out_until <= db_now() and (probe_until is null or probe_until <= db_now())
    returning provider`;
  return rows.length > 0;
}

export async function returnProbe(sql: SqlLike, provider: string): Promise<void> {
  await sql`update provider_health set probe_until = null where provider = ${provider}`;
}

export interface RouteTime {
  readonly model: string;
  readonly provider: string;
  readonly seconds: number;
}

/** Each new time counts a fifth. */
export async function recordTimes(sql: SqlLike, times: readonly RouteTime[]): Promise<void> {
  await sql`
    insert into route_times as known (model, provider, seconds, updated_at)
    select model, provider, avg(seconds), db_now() from unnest(
      ${times.map(({ model }) => model)}::text[], ${times.map(({ provider }) => provider)}::text[],
      ${times.map(({ seconds }) => seconds)}::double precision[]
    ) as input (model, provider, seconds)
    group by model, provider order by model, provider
    on conflict (model, provider) do update set seconds = known.seconds * 0.8 + excluded.seconds * 0.2, updated_at = db_now()`;
}

/** Times older than this say nothing about today. */
const TIMES_KEPT = '1 day';

export async function readTimes(sql: SqlLike): Promise<readonly RouteTime[]> {
  return sql<RouteTime[]>`select model, provider, seconds from route_times where updated_at > db_now() - ${TIMES_KEPT}::interval`;
}

/**
 * Deliveries that are sent again because somebody asked: one at once, or a range of them at a rate.
 *
 * Either makes a delivery PENDING and due, and remembers in `falls_back_to` where an ended one returns when that one send fails. The claim
 * is counted up, so that a send which is under way for the schedule is not recorded any more: what was asked for comes after it. What is
 * PENDING because it was asked for before is left as it is; asking twice quickly sends once.
 */
import type { DeliveryState, Replay, ReplayedState } from '@claimcheck/core';
import type { SqlLike } from './connection.ts';
import { DELIVERIES_CHANNEL } from './deliveries.ts';
import type { DeliveryReference } from './delivery-log.ts';

/** Makes a delivery due now. `erased`: its message is gone. Undefined for a foreign or unknown one. */
export async function resendDelivery(sql: SqlLike, { id, callerId }: DeliveryReference): Promise<'due' | 'erased' | undefined> {
  const [row] = await sql<{ isErased: boolean }[]>`
    with found as materialized (
      select id, body is null as is_erased from deliveries where id = ${id} and caller_id = ${callerId} for no key update
    ), due as (
      update deliveries set state = 'PENDING', trigger = 'manual', next_send_at = db_now(), waits_in_line = false, finished_at = null,
        failure_code = null, falls_back_to = case when state <> 'PENDING' then state end, claim = claim + 1, claimed_at = null
      from found
      where deliveries.id = found.id and body is not null and not (state = 'PENDING' and trigger <> 'auto')
      returning deliveries.id
    ), notified as (
      select pg_notify(${DELIVERIES_CHANNEL}, '') from due
    )
    select is_erased as "isErased" from found left join notified on true`;
  return row && (row.isErased ? 'erased' : 'due');
}

/** How a delivery stands, without anything else of it; undefined for a foreign or unknown one. */
export async function readDeliveryState(sql: SqlLike, { id, callerId }: DeliveryReference): Promise<DeliveryState | undefined> {
  const [row] = await sql<{ state: DeliveryState }[]>`select state from deliveries where id = ${id} and caller_id = ${callerId}`;
  return row?.state;
}

export interface NewReplay {
  readonly id: string;
  readonly callerId: string;
  readonly states: readonly ReplayedState[];
  readonly since: Date;
  /** Now unless given, and never later. */
  readonly before?: Date;
  readonly perSecond: number;
}

export interface ReplayLimits {
  /** Of one caller at a time. */
  readonly unfinishedMax: number;
  /** Seconds for which one that has ended is kept. */
  readonly keepSeconds: number;
}

interface ReplayRow extends Omit<Replay, 'finishedAt'> {
  readonly finishedAt: Date | null;
}

/** Begins in front of all ids. */
const FIRST_POSITION = '00000000-0000-0000-0000-000000000000';

/** Starts a replay, unless nothing can be in its range, or the caller has too many; then the answer says which. */
export async function insertReplay(sql: SqlLike, replay: NewReplay, limits: ReplayLimits): Promise<Replay | 'empty range' | 'too many'> {
  const { id, callerId, states, perSecond } = replay;
  // Ended ones go with the log they worked on. Here, because nobody else makes replays of this caller.
  await sql`delete from replays where caller_id = ${callerId} and finished_at < db_now() - make_interval(secs => ${limits.keepSeconds})`;
  const [row] = await sql<(ReplayRow & { isEmpty: boolean })[]>`
    with range as materialized (
      -- As seconds: dates of other millennia have spellings that Postgres does not know.
      select to_timestamp(${replay.since.getTime() / 1000}::double precision) as since,
        least(to_timestamp(${(replay.before?.getTime() ?? Number.MAX_SAFE_INTEGER / 100) / 1000}::double precision), db_now()) as before
    ), inserted as (
      insert into replays (id, caller_id, states, made_since, made_before, per_second, position)
      select ${id}, ${callerId}, ${states}::text[], since, before, ${perSecond}, ${FIRST_POSITION}
      from range
      where since < before and (select count(*) from replays where caller_id = ${callerId} and finished_at is null) < ${limits.unfinishedMax}
      returning *
    ), notified as (
      select pg_notify(${DELIVERIES_CHANNEL}, '') from inserted
    )
    select since >= before as "isEmpty", inserted.id, caller_id as "callerId", made_since as since, made_before as before, states,
      per_second as "perSecond", queued, created_at as "createdAt", finished_at as "finishedAt"
    from range left join inserted on true left join notified on true`;
  if (row?.isEmpty) return 'empty range';
  return row && row.id !== null ? toReplay(row) : 'too many';
}

/** A replay of the caller. */
export async function readReplay(sql: SqlLike, { id, callerId }: DeliveryReference): Promise<Replay | undefined> {
  const [row] = await sql<ReplayRow[]>`
    select id, caller_id as "callerId", made_since as since, made_before as before, states, per_second as "perSecond", queued,
      created_at as "createdAt", finished_at as "finishedAt"
    from replays where id = ${id} and caller_id = ${callerId}`;
  return row && toReplay(row);
}

/** Ends a replay where it is. One that has ended stays as it is. */
export async function finishReplay(sql: SqlLike, { id, callerId }: DeliveryReference): Promise<void> {
  await sql`update replays set finished_at = db_now() where id = ${id} and caller_id = ${callerId} and finished_at is null`;
}

function toReplay({ finishedAt, ...row }: ReplayRow): Replay {
  const { id, callerId, since, before, states, perSecond, queued, createdAt } = row;
  return { id, callerId, since, before, states, perSecond, queued, createdAt, ...(finishedAt !== null && { finishedAt }) };
}

/** What one step did. */
export interface ReplayStep {
  readonly id: string;
  /** In all, this step included. */
  readonly queued: number;
  readonly isFinished: boolean;
}

/**
 * Takes one replay a step further: makes its next deliveries due, as many as it may have in a second, and saves in the same transaction
 * how far it came. Looks at `lookAt` deliveries at most, so that a step is short however few of them are wanted. Undefined when no
 * replay's time has come, or others are at work on those.
 */
export async function stepReplay(sql: SqlLike, { lookAt }: { readonly lookAt: number }): Promise<ReplayStep | undefined> {
  const [row] = await sql<ReplayStep[]>`
    with replay as materialized (
      select id, caller_id, states, made_since, made_before, per_second, position from replays
      where finished_at is null and next_step_at <= db_now()
      order by next_step_at limit 1 for no key update skip locked
    ), seen as materialized (
      select next.id, next.is_wanted from replay cross join lateral (
        select deliveries.id, state = any(replay.states) and body is not null and created_at >= replay.made_since
          and created_at < replay.made_before
          -- Test sends are nobody's news.
          and job_id is not null as is_wanted
        from deliveries where deliveries.caller_id = replay.caller_id and deliveries.id > replay.position
        order by deliveries.id limit ${lookAt}
      ) as next
    ), chosen as materialized (
      select id from seen where is_wanted order by id limit (select per_second from replay)
    ), reach as (
      -- What is wanted and was not chosen is left to the next step.
      select case when wanted > chosen then last_chosen else coalesce(last_seen, position) end as position,
        wanted <= chosen and seen < ${lookAt} as is_end, chosen::double precision / per_second as seconds
      from replay cross join lateral (
        select (select count(*) from seen) as seen, (select count(*) from seen where is_wanted) as wanted, (select count(*) from chosen) as chosen,
          (select id from seen order by id desc limit 1) as last_seen, (select id from chosen order by id desc limit 1) as last_chosen
      ) as counted
    ), locked as materialized (
      select id from deliveries where id in (select id from chosen) order by id for no key update
    ), due as (
      update deliveries set state = 'PENDING', trigger = 'replay', next_send_at = db_now(), waits_in_line = false, finished_at = null,
        failure_code = null, falls_back_to = deliveries.state, claim = claim + 1, claimed_at = null
      from locked, replay
      -- Again: while we waited for the lock somebody may have sent it.
      where deliveries.id = locked.id and deliveries.state = any(replay.states) and body is not null
      returning deliveries.id
    ), saved as (
      update replays set position = reach.position, queued = queued + (select count(*) from due),
        next_step_at = db_now() + make_interval(secs => seconds), finished_at = case when is_end then db_now() end
      from replay, reach
      where replays.id = replay.id
      returning replays.id, queued, finished_at is not null as "isFinished"
    ), notified as (
      select pg_notify(${DELIVERIES_CHANNEL}, '') from due having count(*) > 0
    )
    select saved.* from saved left join notified on true`;
  return row;
}

/** Milliseconds until a replay is to go on, 0 when one is to go on now, undefined when none runs. */
export async function nextReplayStepInMs(sql: SqlLike): Promise<number | undefined> {
  const [row] = await sql<{ wait: number }[]>`
    select greatest(extract(epoch from min(next_step_at) - db_now()) * 1000, 0)::double precision as wait
    from replays where finished_at is null
    -- No row when none runs: greatest() takes null for less than 0.
    having count(*) > 0`;
  return row?.wait;
}

/**
 * The dispatcher: sends owed webhooks from the due-index in Postgres, at least once each.
 *
 * 1. Due deliveries are claimed, as many of each host as it has room for (`lanes.ts`); the others step into their host's line.
 * 2. Each is signed and sent (`send.ts`), and what came back is judged (`webhook-outcome.ts`).
 * 3. The send and what follows from it are recorded, many at a time. A dispatcher that dies before that is noticed when its claim runs
 *    out, and the same message is sent again under the same id.
 *
 * Woken by the signal of a new delivery or by the time the next one is due; several dispatchers share the work. It needs no queue.
 */
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { openLanes } from './lanes.ts';
import { stepReplays } from './replay.ts';
import { makeSend } from './send.ts';
import {
  type ClaimedDelivery,
  claimDue,
  claimFromLines,
  giveBackDeliveries,
  listLines,
  nextDeliveryInMs,
  recordSends,
  type SendRecord,
  stepIntoLine,
} from './storage/deliveries.ts';
import { judgeSend } from './webhook-outcome.ts';

export interface DispatcherOptions {
  /** Sent as `user-agent`. */
  readonly userAgent: string;
  /** Milliseconds for one send, from its start to the last byte of the answer. */
  readonly sendMs?: number;
}

export interface RunningDispatcher {
  /** Starts no new sends and resolves when those under way are recorded. */
  stop(): Promise<void>;
}

const CONCURRENCY = 500;
/** Claimed at most, those included that wait in memory for their host. */
const CLAIMED_MAX = 1_000;
const SEND_MS = 15_000;
/** A dispatcher that dies is noticed after this, and the delivery sent again; far more than a send and its record can take. */
const CLAIM_SECONDS = 60;
/** One that has waited in memory for this long is given back: a send must end before its claim does. */
const KEPT_MS = 30_000;
/** Signals may be lost, so the index is looked at after this time at the latest. */
const LOOK_AGAIN_MS = 5_000;
const LINES_MAX = 1_000;
const LINE_UP = 50;
const LINE_UP_PAUSE_MS = 5;
const RECORD_TRIES = 5;
const RECORD_AGAIN_MS = 1_000;
/** An endpoint is disabled after failing for five days, twenty times in a row. */
const DISABLE_RULE = { failingSeconds: 120 * 3600, failuresMin: 20 };
/** The failing of an endpoint is told to the operator at this send. */
const TELL_AT_SEND = 4;

interface Kept {
  readonly delivery: ClaimedDelivery;
  readonly claimedAtMs: number;
}

export function startDispatcher(context: EngineContext, { userAgent, sendMs = SEND_MS }: DispatcherOptions): RunningDispatcher {
  const { clock, database, log, random, signals } = context;
  const lanes = openLanes({ nowMs: () => clock.now() });
  const send = makeSend(context, { userAgent, totalMs: sendMs });
  const stopping = new AbortController();
  const sending = new Set<Promise<void>>();
  /** Claimed deliveries that wait for their lane, by caller and host. */
  const kept = new Map<string, Kept[]>();
  let keptCount = 0;
  const record = coalesce(async (records: readonly SendRecord[]) => {
    for (const { url, change, reason } of await recordSends(database.sql, records, DISABLE_RULE)) {
      if (change === 'disabled') log.warn({ url: withoutQuery(url), reason }, 'webhook endpoint disabled');
      else log.info({ url: withoutQuery(url) }, 'webhook endpoint recovered');
    }
    return records.map(() => undefined);
  });
  let wake = Promise.withResolvers<void>();
  const unsubscribe = signals.on('deliveries', () => wake.resolve());
  let isLiningUp = false;
  let isLineStale = false;
  let linesLookedAtMs = Number.NEGATIVE_INFINITY;

  const running = (async () => {
    while (!stopping.signal.aborted) {
      wake = Promise.withResolvers<void>();
      const waitMs = await dispatchOnce().catch((error: unknown) => {
        log.warn({ error }, 'deliveries not claimed');
        return LOOK_AGAIN_MS;
      });
      if (waitMs === 0) continue;
      const awake = new AbortController();
      await Promise.race([wake.promise, clock.sleep(waitMs, AbortSignal.any([awake.signal, stopping.signal])).catch(() => {})]);
      awake.abort();
    }
    await giveBack([...kept.keys()]);
    await Promise.all(sending);
  })();

  /** Claims what is due and has room, and starts it; returns for how long there is nothing to do. */
  async function dispatchOnce(): Promise<number> {
    await findLines();
    const replayMs = (await stepReplays(context)) ?? LOOK_AGAIN_MS;
    const free = () => CLAIMED_MAX - sending.size - keptCount;
    // Each finished send wakes the loop.
    if (free() <= 0) return LOOK_AGAIN_MS;
    const due = await claimDue(database.sql, {
      limit: free(),
      claimSeconds: CLAIM_SECONDS,
      rooms: lanes.rooms(),
      roomElsewhere: lanes.roomElsewhere,
      passOver: lanes.lines(),
    });
    keep(due.claimed);
    for (const lane of due.lines) lanes.setLine(lane, true);
    lineUp();
    const turns = lanes.withLineAndRoom(free());
    if (turns.length > 0) {
      const next = await claimFromLines(database.sql, turns, { claimSeconds: CLAIM_SECONDS });
      const served = Map.groupBy(next, keyOf);
      // Fewer than there was room for: the line is empty, or another dispatcher is at it, and is looked for again in a moment.
      for (const turn of turns) if ((served.get(keyOf(turn))?.length ?? 0) < turn.room) lanes.setLine(turn, false);
      keep(next);
    }
    if (due.isMore || turns.length > 0) return 0;
    const dueMs = (await nextDeliveryInMs(database.sql)) ?? LOOK_AGAIN_MS;
    return Math.min(dueMs, replayMs, lanes.nextProbeInMs() ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS);
  }

  /**
   * Moves what is due in lanes with a line to its end, beside the claims and in small steps: a backlog of thousands must not keep others
   * waiting while it moves.
   */
  function lineUp(): void {
    isLineStale = true;
    if (isLiningUp || lanes.lines().length === 0) return;
    isLiningUp = true;
    void (async () => {
      while (isLineStale && !stopping.signal.aborted) {
        isLineStale = (await stepIntoLine(database.sql, lanes.lines(), LINE_UP)) === LINE_UP;
        await clock.sleep(LINE_UP_PAUSE_MS, stopping.signal).catch(() => {});
      }
    })()
      // The claims after the next signal try again.
      .catch((error: unknown) => log.warn({ error }, 'deliveries not lined up'))
      .finally(() => {
        isLiningUp = false;
      });
  }

  /** Lines that other dispatchers made, or this one before it was started again. */
  async function findLines(): Promise<void> {
    if (clock.now() - linesLookedAtMs < LOOK_AGAIN_MS) return;
    linesLookedAtMs = clock.now();
    lanes.forget();
    for (const lane of await listLines(database.sql, LINES_MAX)) lanes.setLine(lane, true);
  }

  function keep(claimed: readonly ClaimedDelivery[]): void {
    const claimedAtMs = clock.now();
    for (const delivery of claimed) {
      lanes.add(delivery);
      const waiting = kept.get(keyOf(delivery)) ?? [];
      kept.set(keyOf(delivery), waiting);
      waiting.push({ delivery, claimedAtMs });
      keptCount += 1;
    }
    for (const key of new Set(claimed.map(keyOf))) startNext(key);
  }

  /** Starts what waits in memory for a lane, as far as it may. */
  function startNext(key: string): void {
    const waiting = kept.get(key);
    while (waiting?.[0] && sending.size < CONCURRENCY && !stopping.signal.aborted) {
      const { delivery, claimedAtMs } = waiting[0];
      if (clock.now() - claimedAtMs > KEPT_MS) {
        // The others came later, but not by much.
        void giveBack([key]);
        return;
      }
      if (!lanes.start(delivery)) return;
      waiting.shift();
      keptCount -= 1;
      start(delivery);
    }
    if (waiting?.length === 0) kept.delete(key);
  }

  function start(delivery: ClaimedDelivery): void {
    const wasFull = sending.size >= CONCURRENCY - 1;
    const sent = deliver(delivery)
      .catch((error: unknown) => log.error({ error, deliveryId: delivery.id }, 'send not recorded'))
      .finally(() => {
        sending.delete(sent);
        startNext(keyOf(delivery));
        if (wasFull) for (const key of kept.keys()) startNext(key);
        wake.resolve();
      });
    sending.add(sent);
  }

  async function deliver(delivery: ClaimedDelivery): Promise<void> {
    const { facts, result } = await send(delivery);
    const outcome = judgeSend(result, delivery, { nowMs: clock.now(), random });
    const { lane, ...judged } = outcome;
    const breaker = lanes.end(delivery, lane);
    if (breaker === 'opened') {
      // They go into the line.
      void giveBack([keyOf(delivery)]);
      log.warn({ host: delivery.host, callerId: delivery.callerId }, 'webhook host is left alone for a while');
    }
    await recordSurely({ deliveryId: delivery.id, claim: delivery.claim, ...facts, ...judged });
    const { id: deliveryId, jobId, sendCount } = delivery;
    const fields = { deliveryId, jobId, event: delivery.event, status: facts.status, code: judged.error?.code };
    if (judged.next === 'DELIVERED' && !judged.error) log.info(fields, 'webhook delivered');
    else if (typeof judged.next === 'string') log.warn(fields, 'webhook given up');
    else if (sendCount + 1 === TELL_AT_SEND) log.warn(fields, 'webhook keeps failing');
    else log.info(fields, 'webhook failed, will be sent again');
  }

  /** Makes those that wait in memory due again. Their claims would run out anyway, later. */
  async function giveBack(keys: readonly string[]): Promise<void> {
    const given = keys.flatMap((key) => kept.get(key) ?? []).map(({ delivery }) => delivery);
    for (const key of keys) kept.delete(key);
    for (const delivery of given) lanes.drop(delivery);
    keptCount -= given.length;
    if (given.length === 0) return;
    await giveBackDeliveries(database.sql, given).catch((error: unknown) => log.warn({ error }, 'deliveries not given back'));
    wake.resolve();
  }

  /** A record that is lost is a message that is sent twice. */
  async function recordSurely(sent: SendRecord): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await record(sent);
      } catch (error) {
        if (tries === RECORD_TRIES) throw error;
        log.warn({ error, deliveryId: sent.deliveryId }, 'send not recorded, trying again');
        await clock.sleep(RECORD_AGAIN_MS);
      }
    }
  }

  return {
    async stop() {
      stopping.abort();
      unsubscribe();
      await running;
      await send.close();
    },
  };
}

function keyOf({ callerId, host }: { readonly callerId: string; readonly host: string }): string {
  return `${callerId} ${host}`;
}

/** Queries often carry what is nobody else's business. */
function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, '');
}

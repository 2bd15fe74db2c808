/**
 * How much may be sent to each host at a time, and whether it is called at all. A lane is a host as one caller uses it. What is known of
 * it lives in one dispatcher's memory: a new one learns within ten sends.
 *
 * Lanes begin narrow, widen with each success, and halve when the receiver is overloaded or does not answer in time, so that many dead
 * hosts at once cannot take all the room there is. The circuit breaker opens when most of the last sends failed; then nothing is sent
 * until its time is over, one probe is, and its outcome decides.
 */
import type { Lane, LaneRoom } from './storage/deliveries.ts';

export interface LaneOptions {
  /** Sends at a time that a lane can widen to; 10 unless given. */
  readonly widthMax?: number;
  /** Milliseconds since any fixed moment; never goes back. */
  readonly nowMs: () => number;
}

export type SendEnd = 'ok' | 'failed' | 'slow';

export interface Lanes {
  /** Deliveries that may be claimed for this lane now, those that are to wait in memory included. */
  room(lane: Lane): number;
  /** Rooms of the lanes that are known and have no line. */
  rooms(): readonly LaneRoom[];
  /** Room of a lane that nothing is known of. */
  readonly roomElsewhere: number;
  /** Claimed; it is sent when {@link start} says so. */
  add(lane: Lane): void;
  /** True when one more may be sent now; then it counts as under way until {@link end}. */
  start(lane: Lane): boolean;
  /** A claimed one that is not sent after all. */
  drop(lane: Lane): void;
  /** What a send came to. Returns what the breaker did. */
  end(lane: Lane, how: SendEnd): 'opened' | 'closed' | undefined;
  /** Somebody waits in the lane's line, or nobody does any more. */
  setLine(lane: Lane, isWaiting: boolean): void;
  /** Lanes in whose lines somebody waits. */
  lines(): readonly Lane[];
  /** Lanes with a line and room, the one that was served longest ago first; `limit` places in all. */
  withLineAndRoom(limit: number): readonly LaneRoom[];
  /** Milliseconds until a closed way opens for a probe; undefined when none is to come. */
  nextProbeInMs(): number | undefined;
  /** Forgets lanes of which there is nothing to remember. */
  forget(): void;
}

const WIDTH_MAX = 10;
const WIDTH_FIRST = 2;
/** Claimed ahead of time for a host that answers well, so that it need not wait for the database after each send. */
const AHEAD_MAX = 100;
const WINDOW_MS = 300_000;
const SENDS_MIN = 10;
const FAILED_SHARE = 0.7;
const OPEN_FIRST_MS = 30_000;
const OPEN_MAX_MS = 600_000;

interface LaneState extends Lane {
  width: number;
  ahead: number;
  /** Claimed and not ended. */
  claimed: number;
  underWay: number;
  hasLine: boolean;
  servedAtMs: number;
  /** Of the present window and the one before: together they cover at least the last window. */
  counts: { sinceMs: number; sends: number; failed: number; sendsBefore: number; failedBefore: number };
  breaker: { state: 'closed' } | { state: 'open'; untilMs: number; forMs: number } | { state: 'probing'; forMs: number };
}

export function openLanes({ widthMax = WIDTH_MAX, nowMs }: LaneOptions): Lanes {
  const lanes = new Map<string, LaneState>();
  const first = Math.min(WIDTH_FIRST, widthMax);
  const keyOf = ({ callerId, host }: Lane) => `${callerId} ${host}`;

  const stateOf = (lane: Lane): LaneState => {
    const known = lanes.get(keyOf(lane));
    if (known) return known;
    const fresh: LaneState = {
      callerId: lane.callerId,
      host: lane.host,
      width: first,
      ahead: 0,
      claimed: 0,
      underWay: 0,
      hasLine: false,
      servedAtMs: Number.NEGATIVE_INFINITY,
      counts: { sinceMs: nowMs(), sends: 0, failed: 0, sendsBefore: 0, failedBefore: 0 },
      breaker: { state: 'closed' },
    };
    lanes.set(keyOf(lane), fresh);
    return fresh;
  };
  /** Sends at a time as of now. */
  const widthOf = ({ breaker, width }: LaneState): number => {
    if (breaker.state === 'closed') return width;
    return breaker.state === 'probing' || breaker.untilMs <= nowMs() ? 1 : 0;
  };
  const roomOf = (lane: LaneState): number => {
    const ahead = lane.breaker.state === 'closed' ? lane.ahead : 0;
    return Math.max(0, widthOf(lane) + ahead - lane.claimed);
  };
  const count = (lane: LaneState, isFailed: boolean): void => {
    const { counts } = lane;
    const now = nowMs();
    if (now - counts.sinceMs >= WINDOW_MS) {
      const isRecent = now - counts.sinceMs < 2 * WINDOW_MS;
      lane.counts = {
        sinceMs: now,
        sends: 0,
        failed: 0,
        sendsBefore: isRecent ? counts.sends : 0,
        failedBefore: isRecent ? counts.failed : 0,
      };
    }
    lane.counts.sends += 1;
    if (isFailed) lane.counts.failed += 1;
  };
  const isBad = ({ counts }: LaneState): boolean => {
    const sends = counts.sends + counts.sendsBefore;
    return sends >= SENDS_MIN && counts.failed + counts.failedBefore >= FAILED_SHARE * sends;
  };
  const openFor = (lane: LaneState, forMs: number) => {
    lane.breaker = { state: 'open', untilMs: nowMs() + forMs, forMs };
    lane.ahead = 0;
    return 'opened' as const;
  };

  return {
    roomElsewhere: first,
    room: (lane) => roomOf(stateOf(lane)),
    // Newcomers of a lane with a line go to its end.
    rooms: () =>
      Array.from(lanes.values())
        .filter(({ hasLine }) => !hasLine)
        .map((lane) => ({ callerId: lane.callerId, host: lane.host, room: roomOf(lane) })),
    add(lane) {
      const state = stateOf(lane);
      state.claimed += 1;
      state.servedAtMs = nowMs();
    },
    start(lane) {
      const state = stateOf(lane);
      if (state.underWay >= widthOf(state)) return false;
      if (state.breaker.state === 'open') state.breaker = { state: 'probing', forMs: state.breaker.forMs };
      state.underWay += 1;
      return true;
    },
    drop(lane) {
      stateOf(lane).claimed -= 1;
    },
    end(lane, how) {
      const state = stateOf(lane);
      state.claimed -= 1;
      state.underWay -= 1;
      const isFailed = how !== 'ok';
      if (how === 'slow') state.width = Math.max(1, Math.floor(state.width / 2));
      if (isFailed) state.ahead = 0;
      else {
        state.width = Math.min(widthMax, state.width + 1);
        state.ahead = Math.min(AHEAD_MAX, state.ahead + 1);
      }
      if (state.breaker.state === 'probing') {
        if (isFailed) return openFor(state, Math.min(2 * state.breaker.forMs, OPEN_MAX_MS));
        state.breaker = { state: 'closed' };
        state.counts = { sinceMs: nowMs(), sends: 0, failed: 0, sendsBefore: 0, failedBefore: 0 };
        return 'closed';
      }
      count(state, isFailed);
      // Those that were under way when it opened have no say any more.
      return state.breaker.state === 'closed' && isFailed && isBad(state) ? openFor(state, OPEN_FIRST_MS) : undefined;
    },
    setLine(lane, isWaiting) {
      if (isWaiting || lanes.has(keyOf(lane))) stateOf(lane).hasLine = isWaiting;
    },
    lines: () => Array.from(lanes.values()).filter(({ hasLine }) => hasLine),
    withLineAndRoom(limit) {
      const turns: LaneRoom[] = [];
      let left = limit;
      const waiting = Array.from(lanes.values()).filter((lane) => lane.hasLine && roomOf(lane) > 0);
      for (const lane of waiting.sort((one, other) => one.servedAtMs - other.servedAtMs)) {
        if (left <= 0) break;
        const room = Math.min(roomOf(lane), left);
        left -= room;
        turns.push({ callerId: lane.callerId, host: lane.host, room });
      }
      return turns;
    },
    nextProbeInMs() {
      let soonest: number | undefined;
      for (const { breaker, hasLine } of lanes.values()) {
        if (breaker.state !== 'open' || !hasLine) continue;
        soonest = Math.min(soonest ?? Number.POSITIVE_INFINITY, Math.max(0, breaker.untilMs - nowMs()));
      }
      return soonest;
    },
    forget() {
      for (const [key, lane] of lanes) {
        const isIdle = lane.claimed === 0 && !lane.hasLine && nowMs() - Math.max(lane.counts.sinceMs, lane.servedAtMs) > WINDOW_MS;
        if (isIdle && (lane.breaker.state === 'closed' || nowMs() - lane.counts.sinceMs > 2 * OPEN_MAX_MS)) lanes.delete(key);
      }
    },
  };
}

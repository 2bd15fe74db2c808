import { expect, test } from 'vitest';
import { type Lanes, openLanes, type SendEnd } from './lanes.ts';

const lane = { callerId: 'a caller', host: 'hooks.example' };
const other = { callerId: 'a caller', host: 'other.example' };

function aClock(): { nowMs: () => number; pass: (ms: number) => void } {
  let now = 1_000_000;
  return {
    nowMs: () => now,
    pass(ms) {
      now += ms;
    },
  };
}

/** One after the other. */
function sends(lanes: Lanes, ...ends: readonly SendEnd[]): readonly (string | undefined)[] {
  return ends.map((end) => {
    lanes.add(lane);
    expect(lanes.start(lane)).toBe(true);
    return lanes.end(lane, end);
  });
}
const times = <Value>(count: number, value: Value) => Array.from({ length: count }, () => value);

/** How many may be under way at once now. */
function width(lanes: Lanes, of = lane): number {
  let started = 0;
  while (started < 1_000) {
    lanes.add(of);
    if (!lanes.start(of)) {
      lanes.drop(of);
      break;
    }
    started += 1;
  }
  return started;
}

test('a lane begins narrow and widens with each success, to ten', () => {
  expect(width(openLanes({ nowMs: aClock().nowMs }))).toBe(2);
  const lanes = openLanes({ nowMs: aClock().nowMs });
  sends(lanes, ...times(3, 'ok' as const));
  expect(width(lanes)).toBe(5);
  const wide = openLanes({ nowMs: aClock().nowMs });
  sends(wide, ...times(50, 'ok' as const));
  expect(width(wide)).toBe(10);
});

test('a receiver that is overloaded or does not answer halves its lane, down to one', () => {
  const lanes = openLanes({ nowMs: aClock().nowMs });
  sends(lanes, ...times(50, 'ok' as const), 'slow');
  expect(width(lanes)).toBe(5);
  const narrow = openLanes({ nowMs: aClock().nowMs });
  sends(narrow, ...times(50, 'ok' as const), ...times(6, 'slow' as const));
  expect(width(narrow)).toBe(1);
});

test('what is claimed ahead for a lane that answers well is given up at the first failure', () => {
  const lanes = openLanes({ nowMs: aClock().nowMs });
  sends(lanes, ...times(50, 'ok' as const));
  expect(lanes.room(lane)).toBe(60);
  sends(lanes, 'failed');
  expect(lanes.room(lane)).toBe(10);
});

test('the breaker opens when seven of the last ten sends failed, and not before', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  expect(sends(lanes, 'ok', 'ok', 'ok', ...times(6, 'failed' as const))).not.toContain('opened');
  expect(sends(lanes, 'failed')).toEqual(['opened']);
  expect(lanes.room(lane)).toBe(0);
  expect(lanes.room(other)).toBe(2);
});

test('nine failures in a row do not open it, and neither do many among more successes', () => {
  const lanes = openLanes(aClock());
  expect(sends(lanes, ...times(9, 'failed' as const))).not.toContain('opened');
  const busy = openLanes(aClock());
  expect(sends(busy, ...times(100, 'ok' as const), ...times(200, 'failed' as const))).not.toContain('opened');
});

test('failures of long ago are forgotten', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  sends(lanes, ...times(9, 'failed' as const));
  clock.pass(601_000);
  expect(sends(lanes, 'failed')).toEqual([undefined]);
});

test('an open lane lets one probe through when its time is over; its success closes it', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  sends(lanes, ...times(10, 'failed' as const));
  expect(width(lanes)).toBe(0);
  clock.pass(29_999);
  expect(width(lanes)).toBe(0);
  clock.pass(1);
  expect(lanes.room(lane)).toBe(1);
  lanes.add(lane);
  expect(lanes.start(lane)).toBe(true);
  lanes.add(lane);
  expect(lanes.start(lane)).toBe(false);
  lanes.drop(lane);
  expect(lanes.end(lane, 'ok')).toBe('closed');
  expect(width(lanes)).toBeGreaterThan(1);
});

test('a probe that fails doubles the time, to ten minutes', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  sends(lanes, ...times(10, 'failed' as const));
  const waits = times(7, 0).map((_, index) => {
    const forMs = Math.min(30_000 * 2 ** index, 600_000);
    clock.pass(forMs - 1);
    expect(lanes.room(lane), `after ${forMs} ms but one`).toBe(0);
    clock.pass(1);
    expect(sends(lanes, 'slow')).toEqual(['opened']);
    return forMs;
  });
  expect(waits.at(-1)).toBe(600_000);
});

test('sends that were under way when it opened have no say any more', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  sends(lanes, ...times(50, 'ok' as const));
  clock.pass(700_000);
  lanes.forget();
  sends(lanes, 'ok', 'ok', ...times(7, 'failed' as const));
  for (let count = 0; count < 3; count += 1) {
    lanes.add(lane);
    lanes.start(lane);
  }
  expect(lanes.end(lane, 'failed')).toBe('opened');
  expect([lanes.end(lane, 'ok'), lanes.end(lane, 'failed')]).toEqual([undefined, undefined]);
  expect(lanes.room(lane)).toBe(0);
});

test('lanes with a line are served in turn, as far as there is room', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  lanes.setLine(lane, true);
  lanes.setLine(other, true);
  lanes.add(lane);
  lanes.start(lane);
  lanes.end(lane, 'failed');
  clock.pass(1);
  expect(lanes.withLineAndRoom(10)).toEqual([
    { ...other, room: 2 },
    { ...lane, room: 2 },
  ]);
  expect(lanes.withLineAndRoom(3).map(({ room }) => room)).toEqual([2, 1]);
  expect(lanes.rooms()).toEqual([]);
  expect(lanes.lines()).toHaveLength(2);
  lanes.setLine(other, false);
  expect(lanes.withLineAndRoom(10).map(({ host }) => host)).toEqual([lane.host]);
  expect(lanes.rooms()).toEqual([{ ...other, room: 2 }]);
});

test('the next probe of a lane with a line is known beforehand', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  expect(lanes.nextProbeInMs()).toBeUndefined();
  sends(lanes, ...times(10, 'failed' as const));
  expect(lanes.nextProbeInMs()).toBeUndefined();
  lanes.setLine(lane, true);
  clock.pass(10_000);
  expect(lanes.nextProbeInMs()).toBe(20_000);
});

test('callers have lanes of their own to the same host', () => {
  const lanes = openLanes(aClock());
  sends(lanes, ...times(10, 'failed' as const));
  expect(lanes.room({ ...lane, callerId: 'another caller' })).toBe(2);
});

test('idle lanes are forgotten, open ones and those with a line are not', () => {
  const clock = aClock();
  const lanes = openLanes(clock);
  sends(lanes, ...times(10, 'failed' as const));
  sends(openLanes(clock), 'ok');
  lanes.add(other);
  lanes.start(other);
  lanes.end(other, 'ok');
  clock.pass(310_000);
  lanes.forget();
  expect(lanes.rooms().map(({ host }) => host)).toEqual([lane.host]);
  clock.pass(3_600_000);
  lanes.forget();
  expect(lanes.rooms()).toEqual([]);
});

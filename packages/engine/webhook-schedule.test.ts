import { expect, test } from 'vitest';
import { parseSchedule, SCHEDULE_PRESETS, withJitter } from './webhook-schedule.ts';

const minutes = (schedule: readonly number[]) => schedule.reduce((sum, seconds) => sum + seconds, 0) / 60;

test('the presets last as long as they say', () => {
  expect(SCHEDULE_PRESETS.standard).toHaveLength(10);
  expect(minutes(SCHEDULE_PRESETS.standard)).toBeCloseTo(75 * 60 + 35, 0);
  expect(minutes(SCHEDULE_PRESETS.fast)).toBeCloseTo(27 * 60 + 35, 0);
  expect(minutes(SCHEDULE_PRESETS.short)).toBeCloseTo(117.6, 0);
});

test.each([
  ['fast', SCHEDULE_PRESETS.fast],
  ['0', [0]],
  ['0, 5,86400', [0, 5, 86_400]],
  [Array.from({ length: 20 }, () => 1).join(','), Array.from({ length: 20 }, () => 1)],
])('%j is a schedule', (text, schedule) => {
  expect(parseSchedule(text)).toEqual(schedule);
});

test.each(['', 'slow', 'toString', '0,', ',5', '-1', '1.5', '86401', '0,x', Array.from({ length: 21 }, () => 1).join(',')])(
  '%j is none',
  (text) => {
    expect(parseSchedule(text)).toBeUndefined();
  },
);

test('a wait is left to chance by a fifth', () => {
  expect([0, 0.5, 1].map((chance) => withJitter(100, () => chance))).toEqual([80, 100, 120]);
});

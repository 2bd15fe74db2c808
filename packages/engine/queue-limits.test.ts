import { parseRate } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { queueLimits, rateWindow } from './queue-limits.ts';

describe('the window of a rate', () => {
  test.each([
    ['3000/min', { max: 25, duration: 500 }],
    ['50/s', { max: 13, duration: 260 }],
    ['1/s', { max: 1, duration: 1_000 }],
    ['7/min', { max: 1, duration: 8_572 }],
    ['100/h', { max: 1, duration: 36_000 }],
    ['999999999/s', { max: 250_000_000, duration: 251 }],
  ])('of %s is %o', (text, window) => {
    expect(rateWindow(parseRate(text) ?? { max: 0, perMs: 0 })).toEqual(window);
  });

  test('lets no more start than the rate, and hardly less', () => {
    for (const perMs of [1_000, 60_000, 3_600_000]) {
      for (let max = 1; max <= 5_000; max = Math.ceil(max * 1.07)) {
        const window = rateWindow({ max, perMs });
        const share = (window.max / window.duration) * (perMs / max);
        expect(share).toBeLessThanOrEqual(1 + Number.EPSILON * 4);
        expect(share).toBeGreaterThan(0.995);
        expect(Number.isInteger(window.duration)).toBe(true);
      }
    }
  });
});

test('a concurrency beyond what the store can keep is as good as the most that it can', () => {
  expect(queueLimits({ concurrency: Number.MAX_SAFE_INTEGER })).toEqual({ concurrency: 2_147_483_647 });
  expect(queueLimits({})).toEqual({});
});

import { expect, test } from 'vitest';
import { retryDelayMs } from './retry.ts';

const policy = { attempts: 5, firstDelayMs: 1000, factor: 3, delayMsMax: 10_000 };
const middle = () => 0.5;

test('the wait grows by the factor and stops at the most', () => {
  expect([1, 2, 3, 4].map((failures) => retryDelayMs(policy, failures, middle))).toEqual([1000, 3000, 9000, 10_000]);
});

test('chance moves the wait by a fifth at most', () => {
  expect(retryDelayMs(policy, 1, () => 0)).toBe(800);
  expect(retryDelayMs(policy, 1, () => 1)).toBe(1200);
});

test('what the upstream asked for is the least', () => {
  expect(retryDelayMs(policy, 1, middle, 30_000)).toBe(30_000);
  expect(retryDelayMs(policy, 1, middle, 10)).toBe(1000);
});

import { expect, test } from 'vitest';
import { parseRate } from './limits.ts';

test.each([
  ['50/s', { max: 50, perMs: 1_000 }],
  ['3000/min', { max: 3000, perMs: 60_000 }],
  ['100/h', { max: 100, perMs: 3_600_000 }],
])('%s is a rate', (text, rate) => {
  expect(parseRate(text)).toEqual(rate);
});

test.each(['', '50', '0/s', '-1/s', '1.5/s', '50/d', '50 / s', '50/ms', '1e3/s'])('%j is none', (text) => {
  expect(parseRate(text)).toBeUndefined();
});

import { expect, test } from 'vitest';
import type { Clock } from './clock.ts';
import { isId, newId } from './ids.ts';

const clockAt = (ms: number): Clock => ({ now: () => ms, sleep: () => Promise.resolve() });

test('an id is a UUIDv7 with the time in front', () => {
  const id = newId(clockAt(0x0123456789ab));
  expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(isId(id)).toBe(true);
});

test('ids sort by the time they were made, and are never the same', () => {
  const ids = Array.from({ length: 1000 }, (_, index) => newId(clockAt(1_700_000_000_000 + index)));
  expect(ids.toSorted()).toEqual(ids);
  expect(new Set(Array.from({ length: 10_000 }, () => newId(clockAt(1)))).size).toBe(10_000);
});

test.each([
  '',
  'x',
  '01234567-89ab-4000-8000-000000000000',
  '01234567-89AB-7000-8000-000000000000',
  '01234567-89ab-7000-c000-000000000000',
  ' 01234567-89ab-7000-8000-000000000000',
  '01234567-89ab-7000-8000-0000000000000',
  '01234567-89ab-7000-8000-000000000000\n',
])('%j is no id of ours', (text) => {
  expect(isId(text)).toBe(false);
});

import { expect, test } from 'vitest';
import { makeTurns } from './turns.ts';

const { signal } = new AbortController();

/** Work that goes on until it is told to end. */
function someWork() {
  const end = Promise.withResolvers<string>();
  let isRunning = false;
  const work = async () => {
    isRunning = true;
    return end.promise;
  };
  return { work, end, isRunning: () => isRunning };
}

test('only so much goes on at once, and the rest goes on in its order', async () => {
  const turns = makeTurns(2);
  const all = Array.from({ length: 4 }, someWork);
  const results = all.map(({ work }) => turns.take(work, signal));
  const running = () => all.map(({ isRunning }) => isRunning());
  await expect.poll(running).toEqual([true, true, false, false]);
  all[1]?.end.resolve('second');
  await expect.poll(running).toEqual([true, true, true, false]);
  all[0]?.end.reject(new Error('first'));
  await expect(results[0]).rejects.toThrow('first');
  await expect.poll(running).toEqual([true, true, true, true]);
  for (const { end } of all) end.resolve('done');
  expect(await Promise.all(results.slice(1))).toEqual(['second', 'done', 'done']);
  expect(turns.isIdle).toBe(true);
});

test('whoever has no time to wait leaves the line and keeps nobody up', async () => {
  const turns = makeTurns(1);
  const [first, second, third] = [someWork(), someWork(), someWork()];
  const leaving = new AbortController();
  const results = [turns.take(first.work, signal), turns.take(second.work, leaving.signal), turns.take(third.work, signal)];
  const reason = new Error('no time');
  leaving.abort(reason);
  await expect(results[1]).rejects.toBe(reason);
  await expect(turns.take(second.work, leaving.signal)).rejects.toBe(reason);
  first.end.resolve('first');
  third.end.resolve('third');
  expect(await Promise.all([results[0], results[2]])).toEqual(['first', 'third']);
  expect(second.isRunning()).toBe(false);
  expect(turns.isIdle).toBe(true);
});

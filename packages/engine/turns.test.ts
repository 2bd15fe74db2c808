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

test('heavy work takes the places of several, is not overtaken, and never waits for more than there are', async () => {
  const turns = makeTurns(3);
  const [light, heavy, late, huge] = [someWork(), someWork(), someWork(), someWork()];
  const results = [
    turns.take(light.work, signal),
    turns.take(heavy.work, signal, 3),
    turns.take(late.work, signal),
    turns.take(huge.work, signal, 100),
  ];
  const running = () => [light, heavy, late, huge].map(({ isRunning }) => isRunning());
  await expect.poll(running).toEqual([true, false, false, false]);
  light.end.resolve('light');
  await expect.poll(running).toEqual([true, true, false, false]);
  heavy.end.resolve('heavy');
  await expect.poll(running).toEqual([true, true, true, false]);
  late.end.resolve('late');
  await expect.poll(running).toEqual([true, true, true, true]);
  huge.end.resolve('huge');
  expect(await Promise.all(results)).toEqual(['light', 'heavy', 'late', 'huge']);
  expect(turns.isIdle).toBe(true);
});

test('heavy work that leaves the line lets those behind it go on', async () => {
  const turns = makeTurns(2);
  const [first, heavy, light] = [someWork(), someWork(), someWork()];
  const leaving = new AbortController();
  const results = [turns.take(first.work, signal), turns.take(heavy.work, leaving.signal, 2), turns.take(light.work, signal)];
  await expect.poll(first.isRunning).toBe(true);
  expect(light.isRunning()).toBe(false);
  leaving.abort(new Error('no time'));
  await expect(results[1]).rejects.toThrow('no time');
  await expect.poll(light.isRunning).toBe(true);
  first.end.resolve('first');
  light.end.resolve('light');
  expect(await Promise.all([results[0], results[2]])).toEqual(['first', 'light']);
});

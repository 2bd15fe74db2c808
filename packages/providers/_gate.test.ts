import { expect, test } from 'vitest';
import { createGate } from './_gate.ts';

const never = new AbortController().signal;
/** Lets everything that is ready to go on, go on. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('no more work runs at a time than there are places, and the rest follows in order', async () => {
  const gate = createGate(2);
  const begun: number[] = [];
  const ends = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
  const runs = ends.map(({ promise }, index) =>
    gate.run(never, async () => {
      begun.push(index);
      await promise;
      return index;
    }),
  );
  await settle();
  expect(begun).toEqual([0, 1]);
  ends[1]?.resolve();
  await settle();
  expect(begun).toEqual([0, 1, 2]);
  for (const { resolve } of ends) resolve();
  expect(await Promise.all(runs)).toEqual([0, 1, 2, 3]);
});

test('work that fails gives its place back', async () => {
  const gate = createGate(1);
  await expect(gate.run(never, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  expect(await gate.run(never, async () => 'next')).toBe('next');
});

test('who stops waiting leaves the line at once, and takes no place', async () => {
  const gate = createGate(1);
  const first = Promise.withResolvers<void>();
  const firstRun = gate.run(never, () => first.promise);
  const impatient = new AbortController();
  let ran = false;
  const secondRun = gate.run(impatient.signal, async () => {
    ran = true;
  });
  const thirdRun = gate.run(never, async () => 'third');
  impatient.abort(new Error('cancelled'));
  await expect(secondRun).rejects.toThrow('cancelled');
  first.resolve();
  await firstRun;
  expect(await thirdRun).toBe('third');
  expect(ran).toBe(false);
});

test('an abort between being let in and beginning keeps the work from running, and frees the place', async () => {
  const gate = createGate(1);
  const first = Promise.withResolvers<void>();
  const impatient = new AbortController();
  const firstRun = gate.run(never, () => first.promise);
  let ran = false;
  const secondRun = gate.run(impatient.signal, async () => {
    ran = true;
  });
  // The place is handed over before the first run's promise settles, and the second begins after that.
  firstRun.then(() => impatient.abort(new Error('cancelled')));
  first.resolve();
  await expect(secondRun).rejects.toThrow('cancelled');
  expect(ran).toBe(false);
  expect(await gate.run(never, async () => 'next')).toBe('next');
});

test('an aborted signal does not even enter', async () => {
  const gate = createGate(1);
  await expect(gate.run(AbortSignal.abort(new Error('gone')), async () => 'ran')).rejects.toThrow('gone');
  expect(await gate.run(never, async () => 'next')).toBe('next');
});

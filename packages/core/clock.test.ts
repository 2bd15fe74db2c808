import { expect, test } from 'vitest';
import { systemClock } from './clock.ts';

test('a sleep ends with the reason of its signal, also of one that has aborted before', async () => {
  const reason = new Error('enough');
  const control = new AbortController();
  const sleeping = systemClock.sleep(60_000, control.signal);
  control.abort(reason);
  await expect(sleeping).rejects.toBe(reason);
  await expect(systemClock.sleep(60_000, control.signal)).rejects.toBe(reason);
});

test('a sleep lasts as long as it was told to', async () => {
  const startedMs = performance.now();
  await systemClock.sleep(30);
  expect(performance.now() - startedMs).toBeGreaterThan(28);
});

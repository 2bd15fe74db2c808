/** A clock that stands still until it is told to go on. */
import type { Clock } from '@claimcheck/core';

export interface TestClock extends Clock {
  /** Goes on by `ms`: every sleep that is over by then resolves. */
  advance(ms: number): void;
  /** Lengths of the sleeps under way. */
  readonly sleeping: readonly number[];
}

export function createTestClock(): TestClock {
  let now = 1_800_000_000_000;
  const sleeps = new Set<{ readonly ms: number; readonly until: number; readonly wake: () => void }>();
  return {
    now: () => now,
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        const over = () => {
          sleeps.delete(sleep);
          signal?.removeEventListener('abort', abort);
        };
        const abort = () => {
          over();
          reject(signal?.reason);
        };
        const wake = () => {
          over();
          resolve();
        };
        const sleep = { ms, until: now + ms, wake };
        if (signal?.aborted) reject(signal.reason);
        else {
          sleeps.add(sleep);
          signal?.addEventListener('abort', abort);
        }
      });
    },
    advance(ms) {
      now += ms;
      for (const { until, wake } of [...sleeps]) if (until <= now) wake();
    },
    get sleeping() {
      return Array.from(sleeps, ({ ms }) => ms);
    },
  };
}

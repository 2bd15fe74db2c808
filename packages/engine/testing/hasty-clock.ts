/** A clock that goes faster than real ones, for waits that a test does not want to sit through. */
import { type Clock, systemClock } from '@claimcheck/core';

/** `factor` milliseconds pass in one. */
export function createHastyClock(factor: number): Clock {
  const startedAt = systemClock.now();
  return {
    now: () => startedAt + (systemClock.now() - startedAt) * factor,
    sleep: (ms, signal) => systemClock.sleep(ms / factor, signal),
  };
}

/**
 * Time inside one process. Instants that several processes compare come from the database instead;
 * this clock is for waits and durations, and tests replace it.
 */
import { setTimeout as sleepTimer } from 'node:timers/promises';

export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await sleepTimer(ms, undefined, { signal });
    } catch (error) {
      // The timer's own AbortError hides why; callers branch on the signal's reason.
      throw signal?.aborted ? signal.reason : error;
    }
  },
};

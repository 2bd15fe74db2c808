/** Waiting: for a promise, or for a condition that no event tells of; both end with the scenario's deadline. */
import { systemClock } from '@claimcheck/core';

const LOOK_AGAIN_MS = 25;

/** The promise, unless the signal aborts first; then it rejects with the signal's reason. */
export async function withSignal<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  signal.throwIfAborted();
  const over = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { signal: over.signal });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    over.abort();
  }
}

/** Looks until `look` gives something else than undefined. A look that fails, as into a database that restarts, is repeated. */
export async function lookFor<Found>(look: () => Promise<Found | undefined>, signal: AbortSignal, everyMs = LOOK_AGAIN_MS): Promise<Found> {
  for (;;) {
    signal.throwIfAborted();
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    await systemClock.sleep(everyMs, signal);
  }
}

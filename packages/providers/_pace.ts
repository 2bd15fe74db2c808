/** How often a run is looked at. */
import type { Run } from '@claimcheck/core';

export interface Pace {
  /** Milliseconds, as the vendor advises. */
  readonly firstMs: number;
  /** Milliseconds that the wait grows to. */
  readonly mostMs: number;
}

/** When the upstream calls back, looking is only for callbacks that got lost. */
const CALLED_BACK_MS = 30_000;

/**
 * Milliseconds until the next look: a tenth of the time since the start, so that nobody notices how late the end was seen. The start is
 * in the handle, because a wait that grew from look to look would change the handle, and save it, every time.
 */
export function checkAfterMs(run: Run, startedAt: number, { firstMs, mostMs }: Pace, isCalledBack = run.callbackUrl !== undefined): number {
  if (isCalledBack) return CALLED_BACK_MS;
  // Another machine's clock may have been ahead.
  const elapsedMs = Math.max(0, run.clock.now() - startedAt);
  return Math.min(mostMs, Math.max(firstMs, Math.round(elapsedMs / 10)));
}

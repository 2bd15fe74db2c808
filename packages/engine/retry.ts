/** When a failed attempt is tried again. */
import type { RetryPolicy } from '@claimcheck/core';

/** Part of the delay that is left to chance, so that jobs which failed together do not come back together. */
const JITTER = 0.2;

/**
 * Milliseconds before the next attempt after `failures` failed ones (1 or more), within ±20 % of the policy's delay.
 * What the upstream asked for is the least.
 */
export function retryDelayMs(policy: RetryPolicy, failures: number, random: () => number, retryAfterMs = 0): number {
  const delay = Math.min(policy.firstDelayMs * policy.factor ** (failures - 1), policy.delayMsMax);
  return Math.round(Math.max(delay * (1 + JITTER * (2 * random() - 1)), retryAfterMs));
}

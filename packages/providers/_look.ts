/**
 * A look at a run that was started, where the look can fail although the run goes on. A RetryableError that left `check` would start the run
 * anew and pay for it again, so a look that failed is only made again later; the job's own time bounds for how long.
 */
import { RetryableError } from '@claimcheck/core';

/** Milliseconds until the next look when the upstream names none. */
const AGAIN_MS = 5_000;

export type Looked<Seen> = { readonly kind: 'seen'; readonly seen: Seen } | { readonly kind: 'later'; readonly checkAfterMs: number };

/** @throws whatever `look` throws, except a RetryableError: that becomes `later`. */
export async function tryLook<Seen>(look: () => Promise<Seen>): Promise<Looked<Seen>> {
  try {
    return { kind: 'seen', seen: await look() };
  } catch (error) {
    if (!(error instanceof RetryableError)) throw error;
    return { kind: 'later', checkAfterMs: error.retryAfterMs ?? AGAIN_MS };
  }
}

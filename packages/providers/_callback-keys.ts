/**
 * The keys that a vendor signs callbacks with, fetched when the first callback comes and kept for a while. They are fetched again when
 * nothing fits, because the vendor may have changed them, but not at every forged callback.
 */
import { type Clock, ProviderError } from '@claimcheck/core';

/** A day is the most that fal allows (fal.md, section 7); the other vendors say nothing. */
const KEEP_MS = 12 * 3_600_000;
/** At most one request for keys in this time, whatever strangers send. */
const FETCH_EVERY_MS = 30_000;

export interface CallbackKeys<Keys> {
  /** Whether `isSigned` holds with the vendor's keys. False too while they cannot be had: then polling finds out. */
  accept(clock: Clock, isSigned: (keys: Keys) => boolean): Promise<boolean>;
}

/** `fetchKeys` has to bound its own time, since callbacks of several runs wait for it together. */
export function keepCallbackKeys<Keys>(fetchKeys: (clock: Clock) => Promise<Keys>): CallbackKeys<Keys> {
  let kept: { readonly keys: Keys; readonly fetchedAt: number } | undefined;
  let askedAt = Number.NEGATIVE_INFINITY;
  let asking: Promise<void> | undefined;

  async function refresh(clock: Clock): Promise<void> {
    askedAt = clock.now();
    try {
      kept = { keys: await fetchKeys(clock), fetchedAt: clock.now() };
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
    } finally {
      asking = undefined;
    }
  }

  const fits = (clock: Clock, isSigned: (keys: Keys) => boolean) =>
    kept !== undefined && clock.now() - kept.fetchedAt < KEEP_MS && isSigned(kept.keys);

  return {
    async accept(clock, isSigned) {
      if (fits(clock, isSigned)) return true;
      if (!asking && clock.now() - askedAt < FETCH_EVERY_MS) return false;
      asking ??= refresh(clock);
      await asking;
      return fits(clock, isSigned);
    },
  };
}

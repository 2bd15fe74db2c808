/**
 * Limits in the terms of BullMQ, which holds them for the workers of all processes. They are settings of a queue in its store, so that a Redis
 * that is flushed or replaced loses them.
 */
import type { Limits, Rate } from '@claimcheck/core';

/** As BullMQ keeps them: `max` starts per `duration` in milliseconds. */
export interface QueueLimits {
  readonly concurrency?: number | undefined;
  readonly max?: number | undefined;
  readonly duration?: number | undefined;
}

/** What is used here of a BullMQ queue. */
export interface LimitedQueue {
  getMeta(): Promise<QueueLimits>;
  setGlobalConcurrency(concurrency: number): Promise<unknown>;
  removeGlobalConcurrency(): Promise<unknown>;
  setGlobalRateLimit(max: number, duration: number): Promise<unknown>;
  removeGlobalRateLimit(): Promise<unknown>;
}

/** The Postgres backend keeps it in 32 bits. */
const CONCURRENCY_MAX = 2 ** 31 - 1;

export function queueLimits({ concurrency, rate }: Limits): QueueLimits {
  return { ...(concurrency !== undefined && { concurrency: Math.min(concurrency, CONCURRENCY_MAX) }), ...(rate && rateWindow(rate)) };
}

const WINDOW_MS = 500;

/**
 * BullMQ counts in windows, the first start in each of which begins it; what a window allows starts at once as long as jobs wait. Short windows
 * make that even, but each begins some milliseconds late, because a worker has to wake up and ask: of 100 ms they lost up to 9 % of the rate
 * on a busy machine, of 500 ms 2 %. On Postgres each worker measures them by its own clock, and the one that is ahead decides.
 */
export function rateWindow({ max, perMs }: Rate): { readonly max: number; readonly duration: number } {
  const inWindow = Math.ceil((max * Math.min(WINDOW_MS, perMs / 4)) / perMs);
  return { max: inWindow, duration: Math.ceil((inWindow * perMs) / max) };
}

/** Makes these the limits of a queue. True when they were others. */
export async function setLimits(queue: LimitedQueue, limits: QueueLimits): Promise<boolean> {
  const { concurrency, max, duration } = await queue.getMeta();
  const isConcurrencyKept = concurrency === limits.concurrency;
  if (!isConcurrencyKept) {
    await (limits.concurrency === undefined ? queue.removeGlobalConcurrency() : queue.setGlobalConcurrency(limits.concurrency));
  }
  const isRateKept = max === limits.max && duration === limits.duration;
  if (!isRateKept) {
    await (limits.max === undefined || limits.duration === undefined
      ? queue.removeGlobalRateLimit()
      : queue.setGlobalRateLimit(limits.max, limits.duration));
  }
  return !(isConcurrencyKept && isRateKept);
}

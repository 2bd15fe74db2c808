/** What the benchmarks run: the engine alone, without a catalog's files. */
import type { Model } from '@claimcheck/core';

/** Tried once, as nothing fails there. */
export const BENCH_MODEL: Model = {
  name: 'bench',
  aliases: [],
  title: 'Bench',
  produces: 'json',
  parameters: { type: 'object' },
  routes: [{ provider: 'bench', model: 'bench' }],
  routing: 'order',
  retry: { attempts: 1, firstDelayMs: 0, factor: 1, delayMsMax: 0 },
  timeoutSeconds: 3600,
  onUnknown: 'resubmit',
};

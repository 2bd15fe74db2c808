/** Loaded into a process of the service before its own code (`node --import`): tells the benchmark that forked it what it uses. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 10;

/** With `sweep`, garbage is collected first, where Node was started with `--expose-gc`. */
export type Question = 'tell' | 'sweep and tell';

/** Since the process began, except for the delay: that is of the time since the last question. */
export interface Usage {
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  readonly heapBytes: number;
  /** By how much the event loop was late for the slowest hundredth of its timers. */
  readonly delayP99Ms: number;
}

const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();
process.on('message', (question: Question) => {
  // How much garbage lies about depends on when somebody last swept.
  if (question === 'sweep and tell') globalThis.gc?.();
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const delayP99Ms = Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS);
  process.send?.({ cpuSeconds: (user + system) / 1e6, rssBytes: rss, heapBytes: heapUsed, delayP99Ms } satisfies Usage);
  delay.reset();
});
// Without the benchmark nobody would end it.
process.on('disconnect', () => process.exit());
process.channel?.unref();

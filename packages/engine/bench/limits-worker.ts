/** One of the workers that `limits.ts` measures: runs end at once, and every start is told to the parent process. */
import { type Log, type Rate, systemClock, type Upstream } from '@claimcheck/core';
import { openEngine } from '../index.ts';
import { aCatalog } from '../testing/fixtures.ts';
import { BENCH_MODEL } from './model.ts';

export interface WorkerOrder {
  readonly databaseUrl: string;
  readonly redisUrl?: string;
  readonly assetsFolder: string;
  readonly rate: Rate;
}

/** When the upstream was asked, in milliseconds since the epoch: comparable with those of other processes on this machine. */
export interface WorkerStarts {
  readonly startsMs: readonly number[];
}

const TELL_EVERY_MS = 100;

// Whoever starts this process sends exactly that.
process.once('message', (order: WorkerOrder) => work(order));

function work({ databaseUrl, redisUrl, assetsFolder, rate }: WorkerOrder): void {
  const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: (fields, message) => console.error(message, fields) };
  const engine = openEngine({
    databaseUrl,
    ...(redisUrl !== undefined && { redisUrl }),
    assetsFolder,
    settings: { resultTtlSeconds: 3600, webhookSchedule: [0], webhookLogSeconds: 86_400 },
    encodeWebhook: () => ({ contentType: 'application/json', body: '{}' }),
    log,
  });
  let startsMs: number[] = [];
  const upstream: Upstream = {
    limits: { rate },
    start() {
      startsMs.push(performance.timeOrigin + performance.now());
      return Promise.resolve({ kind: 'finished', output: { media: [], text: 'done' } });
    },
    check: () => Promise.reject(new Error('a run that ends at once is not looked at')),
  };
  engine.startWorker({ workerId: `bench-${process.pid}`, upstreams: new Map([['bench', upstream]]), catalog: aCatalog(BENCH_MODEL) });
  void tell();

  async function tell(): Promise<never> {
    for (;;) {
      await systemClock.sleep(TELL_EVERY_MS);
      const starts: WorkerStarts = { startsMs };
      startsMs = [];
      process.send?.(starts);
    }
  }
}

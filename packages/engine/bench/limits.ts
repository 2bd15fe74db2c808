/**
 * How exactly two worker processes together hold the rate of a provider, on both of BullMQ's stores. Run it with `npm run bench:limits`. The
 * stores, the workers and this process share the machine.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type JsonText, type Log, parseRate, RATE_RULE, type Rate, systemClock } from '@claimcheck/core';
import { startEmbeddedPostgres } from '../embedded-postgres.ts';
import { migrateDatabase, openEngine, openKeys } from '../index.ts';
import { rateWindow } from '../queue-limits.ts';
import type { WorkerOrder, WorkerStarts } from './limits-worker.ts';
import { startRedis } from './redis.ts';

const USAGE = `Usage: npm run bench:limits -- [--rate 3000/min] [--seconds 25] [--queue redis|postgres]

Starts a Postgres of its own, and a Redis, hands in more jobs than the rate allows, lets two worker processes run them for that many seconds,
and prints how often the upstream was asked. On both stores one after the other, unless one is named.`;

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '3000/min' },
    seconds: { type: 'string', default: '25' },
    queue: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});
const rate = parseRate(values.rate);
const seconds = Number(values.seconds);
const queues = values.queue === undefined ? ['redis', 'postgres'] : [values.queue];
if (values.help || !rate || !(seconds > 0) || queues.some((queue) => queue !== 'redis' && queue !== 'postgres')) {
  console.log(rate ? USAGE : `--rate ${RATE_RULE}`);
  process.exit(values.help ? 0 : 1);
}

const limit: Rate = rate;
const WORKERS = 2;
const WARM_UP_MS = 2_000;
const BATCH = 500;

const window = rateWindow(limit);
const perSecond = (limit.max * 1_000) / limit.perMs;
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: (fields, message) => console.error(message, fields) };

console.log(
  `${availableParallelism()} cores; ${values.rate}, which is ${window.max} in each ${window.duration} ms; ${WORKERS} workers, ${seconds} s`,
);
for (const queue of queues) await measure(queue);

async function measure(queue: string): Promise<void> {
  await using started = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'claimcheck-bench-'));
  await chmod(folder, 0o755);
  started.defer(() => rm(folder, { recursive: true, force: true }));
  const postgres = await startEmbeddedPostgres({ dataDir: folder, log });
  started.defer(() => postgres.stop());
  await migrateDatabase(postgres.url);
  const redisUrl = queue === 'redis' ? await startRedis(started, folder) : undefined;
  if (queue === 'redis' && redisUrl === undefined) throw new Error('There is no redis-server on the PATH.');
  const stores = { databaseUrl: postgres.url, ...(redisUrl !== undefined && { redisUrl }), assetsFolder: join(folder, 'assets') };
  await submit(stores, Math.ceil(perSecond * (seconds + WARM_UP_MS / 1_000 + 3)) + window.max);

  const startsMs: number[] = [];
  const counts: number[] = [];
  for (let worker = 0; worker < WORKERS; worker++) {
    const child = fork(new URL('limits-worker.ts', import.meta.url));
    started.defer(async () => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    });
    child.on('message', (told: WorkerStarts) => {
      counts[worker] = (counts[worker] ?? 0) + told.startsMs.length;
      startsMs.push(...told.startsMs);
    });
    const order: WorkerOrder = { ...stores, rate: limit };
    child.send(order);
  }
  while (startsMs.length === 0) await systemClock.sleep(50);
  await systemClock.sleep(WARM_UP_MS + seconds * 1_000);
  print(queue, startsMs, counts);
}

/** Hands in jobs, whose doorbells wait for the workers. */
async function submit(stores: Omit<WorkerOrder, 'rate'>, jobs: number): Promise<void> {
  const engine = openEngine({
    ...stores,
    settings: { resultTtlSeconds: 3600, webhookSchedule: [0], webhookLogSeconds: 86_400 },
    encodeWebhook: () => ({ contentType: 'application/json', body: '{}' }),
    log,
  });
  const keys = openKeys(stores.databaseUrl);
  const { key } = await keys.create({ caller: 'bench', name: 'bench' });
  const callerId = (await keys.verify(key)) ?? '';
  await keys.close();
  while ((await engine.health()).queue !== 'ok') await systemClock.sleep(50);
  for (let done = 0; done < jobs; done += BATCH) {
    const submitting = Array.from({ length: Math.min(BATCH, jobs - done) }, () =>
      engine.submit({
        callerId,
        dialect: 'native',
        model: 'bench',
        provider: 'bench',
        input: '{"prompt":"bench"}' as JsonText,
        priority: 'normal',
        timeoutSeconds: 3600,
        baseUrl: 'http://127.0.0.1',
      }),
    );
    await Promise.all(submitting);
  }
  // What is rung in the background is written before the connections close.
  await systemClock.sleep(1_000);
  await engine.close();
}

function print(queue: string, told: readonly number[], counts: readonly number[]): void {
  const startsMs = told.toSorted((a, b) => a - b);
  const firstMs = (startsMs[0] ?? 0) + WARM_UP_MS;
  // From the first start of one window to the first of another, lest part of a window is counted as a whole.
  const first = Math.ceil(startsMs.findIndex((startMs) => startMs >= firstMs) / window.max) * window.max;
  const last = Math.floor((startsMs.length - 1) / window.max) * window.max;
  const held = ((last - first) * 1_000) / ((startsMs[last] ?? 0) - (startsMs[first] ?? 0));
  const deviation = (held / perSecond - 1) * 100;
  console.log(
    [
      queue.padEnd(9),
      `${((held * limit.perMs) / 1_000).toFixed(1)} per ${limit.perMs / 1_000} s`,
      `${deviation >= 0 ? '+' : ''}${deviation.toFixed(2)} %`,
      `most in any second ${mostWithin(startsMs.slice(first, last), 1_000)}`,
      `starts by worker ${counts.join(' + ')}`,
    ].join('   '),
  );
}

function mostWithin(startsMs: readonly number[], ms: number): number {
  let most = 0;
  let from = 0;
  for (const [index, startMs] of startsMs.entries()) {
    while (startMs - (startsMs[from] ?? 0) >= ms) from += 1;
    most = Math.max(most, index - from + 1);
  }
  return most;
}

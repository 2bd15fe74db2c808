/**
 * How much one worker can hold: attempts whose upstream takes a minute, all in flight at once. Prints memory and the delay of the event
 * loop while they are. Run it with `npm run bench:in-flight`.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { type JsonText, type Log, systemClock, type Upstream } from '@claimcheck/core';
import { startEmbeddedPostgres } from '../embedded-postgres.ts';
import { migrateDatabase, openEngine, openKeys } from '../index.ts';
import { aCatalog } from '../testing/fixtures.ts';
import { BENCH_MODEL } from './model.ts';
import { startRedis } from './redis.ts';

const USAGE = `Usage: npm run bench:in-flight -- [--jobs 10000] [--seconds 60] [--queue postgres|redis]

Starts a Postgres of its own, hands in that many jobs, lets one worker hold them all for that many seconds at an upstream that is asked
every five, and prints memory and event-loop delay. Takes about the seconds given and half a minute more.`;

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '60' },
    queue: { type: 'string', default: 'postgres' },
    help: { type: 'boolean', short: 'h' },
  },
});
const jobs = Number(values.jobs);
const seconds = Number(values.seconds);
if (values.help || !Number.isSafeInteger(jobs) || jobs < 1 || !(seconds > 0) || !['postgres', 'redis'].includes(values.queue)) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 1);
}

const quiet: Log = {
  debug: () => {},
  info: () => {},
  warn: (fields, message) => console.error(message, fields),
  error: (fields, message) => console.error(message, fields),
};
await using started = new AsyncDisposableStack();
const folder = await mkdtemp(join(tmpdir(), 'claimcheck-bench-'));
await chmod(folder, 0o755);
started.defer(() => rm(folder, { recursive: true, force: true }));
const postgres = await startEmbeddedPostgres({ dataDir: folder, log: quiet });
started.defer(() => postgres.stop());
await migrateDatabase(postgres.url);
const redisUrl = values.queue === 'redis' ? await startRedis(started, folder) : undefined;
if (values.queue === 'redis' && redisUrl === undefined) throw new Error('There is no redis-server on the PATH.');
const engine = openEngine({
  databaseUrl: postgres.url,
  ...(redisUrl !== undefined && { redisUrl }),
  assetsFolder: join(folder, 'assets'),
  settings: { resultTtlSeconds: 3600, webhookSchedule: [0], webhookLogSeconds: 86_400 },
  encodeWebhook: () => ({ contentType: 'application/json', body: '{}' }),
  log: quiet,
});
started.defer(() => engine.close());

const keys = openKeys(postgres.url);
const { key } = await keys.create({ caller: 'bench', name: 'bench' });
const callerId = (await keys.verify(key)) ?? '';
await keys.close();

let inFlight = 0;
let release = Number.POSITIVE_INFINITY;
const upstream: Upstream = {
  concurrency: jobs,
  start: (run) => {
    inFlight += 1;
    return Promise.resolve({ kind: 'running', handle: { run: run.jobId }, checkAfterMs: 5_000 });
  },
  check: (_run, handle) =>
    Promise.resolve(
      systemClock.now() < release
        ? { kind: 'running', handle, progress: 0.5, checkAfterMs: 5_000 }
        : { kind: 'finished', output: { media: [], text: 'done' } },
    ),
};

const submitted = await Promise.all(
  Array.from({ length: jobs }, () =>
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
  ),
);
console.log(`${jobs} jobs handed in`);
const worker = engine.startWorker({ workerId: 'bench', upstreams: new Map([['bench', upstream]]), catalog: aCatalog(BENCH_MODEL) });
started.defer(() => worker.stop());
const sweep = engine.sweep.start();
started.defer(() => sweep.stop());
const claimingSince = performance.now();
while (inFlight < jobs) await systemClock.sleep(100);
console.log(`all in flight after ${((performance.now() - claimingSince) / 1000).toFixed(1)} s`);

const delay = monitorEventLoopDelay({ resolution: 10 });
delay.enable();
const cpu = process.cpuUsage();
let memory = 0;
const untilMs = performance.now() + seconds * 1000;
while (performance.now() < untilMs) {
  memory = Math.max(memory, process.memoryUsage.rss());
  await systemClock.sleep(500);
}
delay.disable();
const used = process.cpuUsage(cpu);
console.log(`in flight                 ${worker.running}`);
console.log(`memory (RSS), highest     ${Math.round(memory / 1024 / 1024)} MB`);
console.log(
  `event-loop delay p50/p99  ${(delay.percentile(50) / 1e6 - 10).toFixed(1)} / ${(delay.percentile(99) / 1e6 - 10).toFixed(1)} ms`,
);
console.log(`cores used                ${((used.user + used.system) / 1e6 / seconds).toFixed(2)}`);

release = 0;
const last = await Promise.all(submitted.map(({ id }) => engine.wait({ id, callerId }, { until: 'end', timeoutMs: 60_000 })));
console.log(
  `completed                 ${last.filter((job) => job?.state === 'COMPLETED').length}, attempts each ${Math.max(...last.map((job) => job?.attempt ?? 0))}`,
);

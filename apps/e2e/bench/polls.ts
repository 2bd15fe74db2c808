/**
 * What it costs one worker to poll: jobs in flight at the simulator of fal, which are looked at until their runs end. The API, the worker,
 * the simulator and Postgres are real processes. Run it with `npm run bench:polls`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '@claimcheck/core';
import { observe } from '../chaos/observer.ts';
import { startPostgresServer } from '../chaos/postgres-server.ts';
import { startRedisServer } from '../chaos/redis-server.ts';
import { type Client, clientOf, KEY, startApi } from '../testing/processes.ts';
import { writeModels } from '../testing/vendors.ts';
import type { Address, Counts } from './fal.ts';
import type { Question, Usage } from './probe.ts';

const USAGE = `Usage: npm run bench:polls -- [--jobs 2000] [--seconds 90] [--queue postgres|redis]

Starts a Postgres, an API, one worker and the simulator of fal, hands in that many jobs, each a run of that many seconds, and prints what
the worker used while it polled all of them. Ends with code 1 when a run was submitted twice, a job did not complete, or the worker
needed a whole core. Takes the seconds given and about half a minute more.`;

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '2000' },
    seconds: { type: 'string', default: '90' },
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

const MODEL = 'bench/fal';
const SUBMITTERS = 32;
const SAMPLE_MS = 1_000;
/** For everything besides the runs themselves. */
const GRACE_MS = 120_000;
const MAIN = join(import.meta.dirname, '../../worker/main.ts');

await using started = new AsyncDisposableStack();
const deadline = AbortSignal.timeout(seconds * 1000 + GRACE_MS);
const folder = await mkdtemp(join(tmpdir(), 'claimcheck-bench-'));
await chmod(folder, 0o755);
started.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
const postgres = started.use(await startPostgresServer(join(folder, 'postgres')));
const databaseUrl = await postgres.createDatabase('bench');
const observer = started.use(observe(databaseUrl));
const redis = values.queue === 'redis' ? started.use(await startRedisServer(join(folder, 'redis'))) : undefined;
const fal = startChild(join(import.meta.dirname, 'fal.ts'), [String(seconds * 1000)]);
// The child says what its file declares.
const { environment: falVariables }: Address = (await once(fal, 'message', { signal: deadline }))[0];
const model = { name: MODEL, routes: [{ provider: 'fal', model: 'fal-ai/hidream-i1-fast' }], more: { timeout_seconds: 3_600 } };
const environment = {
  DATABASE_URL: databaseUrl,
  ...(redis && { REDIS_URL: `redis://127.0.0.1:${redis.port}` }),
  DATA_DIR: folder,
  MODELS_DIR: await writeModels(folder, [model]),
  UPSTREAM_ALLOW_NETWORKS: '127.0.0.1',
  ...falVariables,
};
const api = started.use(await startApi(environment));
const worker = startChild(MAIN, [], environment, ['--expose-gc', '--import', join(import.meta.dirname, 'probe.ts')]);
await systemClock.sleep(SAMPLE_MS);
const before = await ask<Usage>(worker);

const begun = performance.now();
await submitAll(clientOf(api.url, KEY));
console.log(`${jobs} jobs handed in after ${secondsSince(begun)} s`);
while ((await ask<Counts>(fal)).submitted < jobs) await systemClock.sleep(20, deadline);
console.log(`all in flight after ${secondsSince(begun)} s`);
const inFlight = await ask<Usage>(worker);
const polled = await measurePolls();
while ((await unfinished()) > 0) await systemClock.sleep(100, deadline);
console.log(`all ended after ${secondsSince(begun)} s`);

const after = await ask<Usage>(worker);
const { submitted } = await ask<Counts>(fal);
const completed = await countJobs(`state = 'COMPLETED'`);
print('phase of polls', `${polled.seconds.toFixed(0)} s`);
print('polls per second', polled.pollsPerSecond.toFixed(0));
print('cores used by the worker', polled.cores.toFixed(2));
print('event-loop delay p99, median / highest of each second', `${polled.delayMedianMs.toFixed(1)} / ${polled.delayMostMs.toFixed(1)} ms`);
print('memory (RSS) idle', megabytes(before.rssBytes));
print('memory (RSS) with all in flight', megabytes(inFlight.rssBytes));
print('memory (RSS) highest', megabytes(polled.rssMostBytes));
print('memory (RSS) at the end of all', megabytes(after.rssBytes));
print('live heap at the beginning / end of the phase', polled.heapBytes.map(megabytes).join(' / '));
print('jobs completed', String(completed));
print('submissions counted by the simulator', String(submitted));
const broken = [
  ...(submitted === jobs ? [] : [`${submitted} runs were submitted for ${jobs} jobs`]),
  ...(completed === jobs ? [] : [`${jobs - completed} jobs did not complete`]),
  ...(polled.cores < 1 ? [] : ['the worker needed a whole core']),
];
for (const sentence of broken) console.error(`FAILED: ${sentence}`);
process.exitCode = broken.length > 0 ? 1 : 0;

async function submitAll(client: Client): Promise<void> {
  let next = 0;
  const submitSome = async () => {
    while (next < jobs) {
      next += 1;
      const { status, body } = await client.post(`/v2/${MODEL}`, { prompt: `polls ${next}` });
      if (status !== 200) throw new Error(`a submission was answered with ${status}: ${JSON.stringify(body)}`);
    }
  };
  await Promise.all(Array.from({ length: SUBMITTERS }, submitSome));
}

/** From now, when all are in flight, until shortly before the first can have ended. */
async function measurePolls() {
  const swept = await ask<Usage>(worker, 'sweep and tell');
  const fromMs = performance.now();
  const { polls: polledBefore } = await ask<Counts>(fal);
  const samples: Usage[] = [];
  while (performance.now() < begun + seconds * 1000 - 2 * SAMPLE_MS) {
    await systemClock.sleep(SAMPLE_MS, deadline);
    samples.push(await ask<Usage>(worker));
  }
  const { polls } = await ask<Counts>(fal);
  const phase = (performance.now() - fromMs) / 1000;
  const sweptAtEnd = await ask<Usage>(worker, 'sweep and tell');
  const [last] = samples.slice(-1);
  if (!last || (await unfinished()) < jobs) throw new Error(`${seconds} s are too short for ${jobs} jobs: --seconds must be more`);
  const delays = samples.map(({ delayP99Ms }) => delayP99Ms).sort((one, other) => one - other);
  return {
    seconds: phase,
    pollsPerSecond: (polls - polledBefore) / phase,
    cores: (last.cpuSeconds - swept.cpuSeconds) / phase,
    delayMedianMs: delays[Math.floor(delays.length / 2)] ?? 0,
    delayMostMs: delays.at(-1) ?? 0,
    rssMostBytes: Math.max(...samples.map(({ rssBytes }) => rssBytes)),
    heapBytes: [swept.heapBytes, sweptAtEnd.heapBytes],
  };
}

function unfinished(): Promise<number> {
  return countJobs('finished_at is null');
}

async function countJobs(condition: string): Promise<number> {
  const [row] = await observer.rows<{ count: number }>(`select count(*)::integer as count from jobs where ${condition}`);
  return row?.count ?? 0;
}

function startChild(file: string, args: readonly string[], variables: Readonly<Record<string, string>> = {}, execArgv: string[] = []) {
  const child = fork(file, args, {
    execArgv,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...variables },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  started.defer(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  });
  return child;
}

/** Any message is the question; the answer is what the child's file says that it is. */
async function ask<Answer>(child: ChildProcess, question: Question = 'tell'): Promise<Answer> {
  child.send(question);
  return (await once(child, 'message', { signal: deadline }))[0];
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MB`;
}

function secondsSince(ms: number): string {
  return ((performance.now() - ms) / 1000).toFixed(1);
}

function print(what: string, figure: string): void {
  console.log(`${what.padEnd(56)} ${figure}`);
}

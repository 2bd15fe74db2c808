/**
 * How fast the engine is on this machine, and what travelling together in one statement is worth. Run it with `npm run bench`.
 * Ratios are within one run, so they can be compared between machines; the absolute figures cannot.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type Job,
  type JsonText,
  type Log,
  type Model,
  newId,
  type Step,
  type Submission,
  systemClock,
  type Upstream,
} from '@claimcheck/core';
import { startRedis } from './bench/redis.ts';
import { coalesce } from './coalesce.ts';
import { startEmbeddedPostgres } from './embedded-postgres.ts';
import { type Engine, migrateDatabase, openEngine, openKeys } from './index.ts';
import { openDatabase } from './storage/connection.ts';
import { type JobReference, readJobs } from './storage/jobs.ts';
import { insertJobs } from './storage/submissions.ts';
import { aCatalog } from './testing/fixtures.ts';

const USAGE = `Usage: npm run bench -- [--seconds 3] [--jobs 5000]

Starts a Postgres of its own in a temporary folder, and a redis-server where there is one, and prints:
  submissions and reads per second, one statement each against coalesced ones, by 64 and by 512 callers at once
  jobs per second from submission to result with an upstream that does nothing, on each queue: one that tells nothing, and one that tells
  of five lines, to which nobody listens
Takes about a minute: --seconds for each of eight measurements (at most 6), and --jobs through each queue (at most 50000).`;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    jobs: { type: 'string', default: '5000' },
    help: { type: 'boolean', short: 'h' },
  },
});
const seconds = Number(values.seconds);
const jobCount = Number(values.jobs);
const isUsable = seconds > 0 && seconds <= 6 && Number.isSafeInteger(jobCount) && jobCount > 0 && jobCount <= 50_000;
if (values.help || !isUsable) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 1);
}

const CALLERS = [64, 512] as const;
const PROVIDER = 'nothing';
/** What runs tell of while they go on. */
const TOLD_LINES = [0, 5] as const;
/** A queue that is slower than this is measured by what it did in that time. */
const END_TO_END_MS = 12_000;

const show = (fields: object, message: string) => console.error(message, fields);
const log: Log = { debug: () => {}, info: () => {}, warn: show, error: show };
const model: Model = {
  name: 'nothing',
  aliases: [],
  title: 'Does nothing',
  produces: 'text',
  parameters: {},
  routes: [{ provider: PROVIDER, model: 'nothing' }],
  routing: 'order',
  retry: { attempts: 1, firstDelayMs: 0, factor: 1, delayMsMax: 0 },
  timeoutSeconds: 900,
  onUnknown: 'resubmit',
};
const finished: Step = { kind: 'finished', output: { media: [], text: 'nothing' } };

await using started = new AsyncDisposableStack();
const folder = await mkdtemp(join(tmpdir(), 'claimcheck-bench-'));
// Root's Postgres runs as another user, who must be able to pass.
await chmod(folder, 0o755);
started.defer(() => rm(folder, { recursive: true, force: true }));
const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log });
started.defer(() => postgres.stop());
await migrateDatabase(postgres.url);
const callerId = await makeCaller(postgres.url);

console.log(`${availableParallelism()} cores, Node ${process.version}, Postgres with its usual durability\n`);
await measureStatements();
for (const lines of TOLD_LINES) await measureJobs({ queue: 'postgres', lines });
const redisUrl = await startRedis(started, folder);
if (redisUrl === undefined) console.log('redis queue       not measured: there is no redis-server on the PATH');
else for (const lines of TOLD_LINES) await measureJobs({ queue: 'redis', redisUrl, lines });

/** Submissions and reads, by many callers at once. */
async function measureStatements(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  // The engine's own statements without doorbells, on the same connections, so that only the number of statements differs.
  const { sql, close } = openDatabase({ url: postgres.url, applicationName: 'claimcheck-bench' });
  stack.defer(close);
  const insert = (calls: readonly Insert[]) => insertJobs(sql, calls, 3600);
  const insertTogether = coalesce(insert);
  const readTogether = coalesce((references: readonly JobReference[]) => readJobs(sql, references));
  const known = await Promise.all(Array.from({ length: 1000 }, () => insertTogether(anInsert())));
  const ids = known.flatMap((insertion) => (insertion.kind === 'created' ? [insertion.job.id] : []));
  for (const callers of CALLERS) {
    const apart = await callsPerSecond(callers, () => insert([anInsert()]));
    const together = await callsPerSecond(callers, () => insertTogether(anInsert()));
    report(`submit, ${callers} callers`, apart, together);
  }
  for (const callers of CALLERS) {
    const pick = (turn: number) => ({ id: ids[turn % ids.length] ?? '', callerId });
    const apart = await callsPerSecond(callers, (turn) => readJobs(sql, [pick(turn)]));
    const together = await callsPerSecond(callers, (turn) => readTogether(pick(turn)));
    report(`read, ${callers} callers`, apart, together);
  }
  console.log('');
}

function report(what: string, apart: number, together: number): void {
  const ratio = (together / apart).toFixed(1);
  console.log(`${what.padEnd(20)} one by one ${perSecond(apart)}   coalesced ${perSecond(together)}   ${ratio.padStart(5)} times as fast`);
}

/** From the first submission to the last result, everything in this process. */
async function measureJobs({ queue, redisUrl, lines }: { queue: string; redisUrl?: string; lines: number }): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const engine = open(redisUrl);
  stack.defer(() => engine.close());
  while ((await engine.health()).queue !== 'ok') await systemClock.sleep(10);
  const ended = Promise.withResolvers<void>();
  let done = 0;
  const logs = Array.from({ length: lines }, (_, index) => `Using seed: 1234${index}`);
  const step: Step = { ...finished, ...(lines > 0 && { logs }) };
  const counting: Upstream = {
    start: () => {
      done += 1;
      if (done === jobCount) ended.resolve();
      return Promise.resolve(step);
    },
    check: () => Promise.resolve(step),
  };
  const worker = engine.startWorker({ workerId: 'bench', upstreams: new Map([[PROVIDER, counting]]), catalog: aCatalog(model) });
  const startedMs = performance.now();
  const jobs: Job[] = await Promise.all(Array.from({ length: jobCount }, () => engine.submit(aSubmission())));
  const submittedMs = performance.now();
  const over = new AbortController();
  await Promise.race([ended.promise, systemClock.sleep(END_TO_END_MS, over.signal).catch(() => {})]);
  over.abort();
  const last = jobs.at(-1);
  if (done === jobCount && last) await engine.wait({ id: last.id, callerId }, { until: 'end', timeoutMs: 5_000 });
  const rate = (done / (performance.now() - startedMs)) * 1000;
  const submitted = (jobCount / (submittedMs - startedMs)) * 1000;
  console.log(
    `${`${queue} queue, ${lines} lines`.padEnd(24)} ${perSecond(rate)} jobs end to end (${done} jobs; handed in at ${perSecond(submitted).trim()})`,
  );
  await worker.stop();
}

/** How often `call` completes per second when so many callers wait for one after the other. */
async function callsPerSecond(callers: number, call: (turn: number) => Promise<unknown>): Promise<number> {
  let completed = 0;
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1000;
  const one = async (caller: number) => {
    for (let turn = caller; performance.now() < endMs; turn += callers) {
      await call(turn);
      completed += 1;
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, caller) => one(caller)));
  return (completed / (performance.now() - startedMs)) * 1000;
}

interface Insert {
  readonly id: string;
  readonly submission: Submission;
}

/** At a provider of its own: nobody runs it. */
function anInsert(): Insert {
  return { id: newId(systemClock), submission: { ...aSubmission(), provider: 'nobody' } };
}

function open(redisUrl?: string): Engine {
  return openEngine({
    databaseUrl: postgres.url,
    ...(redisUrl !== undefined && { redisUrl }),
    assetsFolder: join(folder, 'assets'),
    settings: { resultTtlSeconds: 3600, webhookSchedule: [0], webhookLogSeconds: 86_400 },
    encodeWebhook: () => ({ contentType: 'application/json', body: '{}' }),
    log,
  });
}

function aSubmission(): Submission {
  return {
    callerId,
    dialect: 'native',
    model: model.name,
    provider: PROVIDER,
    input: '{"prompt":"a lighthouse in a storm","steps":28,"seed":42}' as JsonText,
    priority: 'normal',
    timeoutSeconds: 900,
    baseUrl: 'http://127.0.0.1',
  };
}

async function makeCaller(databaseUrl: string): Promise<string> {
  const keys = openKeys(databaseUrl);
  try {
    const { key } = await keys.create({ caller: 'bench', name: 'bench' });
    return (await keys.verify(key)) ?? '';
  } finally {
    await keys.close();
  }
}

function perSecond(rate: number): string {
  return `${Math.round(rate).toLocaleString('en')}/s`.padStart(9);
}

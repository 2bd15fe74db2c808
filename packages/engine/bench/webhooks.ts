/**
 * What one dispatcher process can do: signed deliveries per second, the time from a commit to the first byte at the receiver, what a dead
 * host costs the others, and what hostile receivers cost in memory. Run it with `npm run bench:webhooks`. Postgres, the receivers and
 * whoever owes the webhooks share the machine with it, so read the ratios first.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Log, newId, systemClock } from '@claimcheck/core';
import { startEmbeddedPostgres } from '../embedded-postgres.ts';
import { migrateDatabase, newSecretKey, openEngine, openKeys } from '../index.ts';
import { openDatabase } from '../storage/connection.ts';
import { insertDeliveries, type OwedDelivery } from '../storage/deliveries.ts';
import type { Arrivals, ReceiverPorts } from './webhook-receivers.ts';

const USAGE = `Usage: npm run bench:webhooks -- [--deliveries 20000] [--seconds 10]

Starts a Postgres, a dispatcher and receivers of its own on the loopback address and prints what the dispatcher can do. --deliveries are
sent as fast as it can; each of the other measurements takes --seconds. About a minute and a half in all.`;

const { values } = parseArgs({
  options: {
    deliveries: { type: 'string', default: '20000' },
    seconds: { type: 'string', default: '10' },
    help: { type: 'boolean', short: 'h' },
  },
});
const deliveries = Number(values.deliveries);
const seconds = Number(values.seconds);
if (values.help || !Number.isSafeInteger(deliveries) || deliveries < 1 || !(seconds > 0)) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 1);
}

/** Like what a job with one picture owes. */
const BODY = JSON.stringify({
  id: newId(systemClock),
  status: 9,
  output: {
    images: [{ url: `https://queue.example/files/${'a'.repeat(43)}/image.webp`, content_type: 'image/webp', file_size: 58_656 }],
    seed: 7,
  },
  error: '',
  session_id: null,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:01.000Z',
});
const BATCH = 500;
const STEP_MS = 10;
const BACKLOG = 10_000;
const PER_HOSTILE = 20;

const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: (fields, message) => console.error(message, fields) };
await using started = new AsyncDisposableStack();
const folder = await mkdtemp(join(tmpdir(), 'claimcheck-bench-'));
await chmod(folder, 0o755);
started.defer(() => rm(folder, { recursive: true, force: true }));
const postgres = await startEmbeddedPostgres({ dataDir: folder, log });
started.defer(() => postgres.stop());
await migrateDatabase(postgres.url);
const keys = openKeys(postgres.url);
const { key } = await keys.create({ caller: 'bench', name: 'bench' });
const callerId = (await keys.verify(key)) ?? '';
await keys.close();
const database = openDatabase({ url: postgres.url, applicationName: 'bench' });
started.defer(() => database.close());
const engine = openEngine({
  databaseUrl: postgres.url,
  assetsFolder: join(folder, 'assets'),
  settings: { resultTtlSeconds: 3600, webhookSchedule: [0], webhookLogSeconds: 86_400 },
  encodeWebhook: () => ({ contentType: 'application/json', body: BODY }),
  log,
});
started.defer(() => engine.close());
const receivers = startChild('webhook-receivers.ts');
const ports: ReceiverPorts = (await once(receivers, 'message'))[0];
const wellUrls = ports.well.map((port) => `http://127.0.0.1:${port}/hook`);

console.log(`${availableParallelism()} cores, shared by the dispatcher, Postgres, the receivers and this process\n`);
let secretKey: string | undefined;
await measureThroughput();
const dispatcher = await startDispatcher();
await owe(Array.from({ length: 1_000 }, (_, index) => aDelivery(wellUrls[index % wellUrls.length])));
await settled();
const alone = await measureLatency(500, 'commit → first byte at 500/s');
await measureLatency(200, 'the same at 200/s');
await owe(Array.from({ length: BACKLOG }, () => aDelivery(`http://127.0.0.1:${ports.hanging}/hook`)));
const beside = await measureLatency(500, `at 500/s beside a host that hangs with ${BACKLOG.toLocaleString('en')} queued`);
console.log(`${'p99 beside it, as a ratio'.padEnd(58)} ${(beside.p99 / alone.p99).toFixed(1)}×`);
await measureMemory();
dispatcher.kill('SIGKILL');

async function measureThroughput(): Promise<void> {
  for (let done = 0; done < deliveries; done += BATCH) {
    await owe(Array.from({ length: Math.min(BATCH, deliveries - done) }, (_, index) => aDelivery(wellUrls[index % wellUrls.length])));
  }
  const child = await startDispatcher();
  const startedMs = performance.now();
  await settled();
  print(
    'signed deliveries per second, recorded',
    `${Math.round((deliveries / (performance.now() - startedMs)) * 1000).toLocaleString('en')}/s`,
  );
  child.kill('SIGTERM');
  await once(child, 'exit');
}

interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

/** Owes so many webhooks per second, and compares when each was committed with when its first byte came. */
async function measureLatency(perSecond: number, title: string): Promise<Percentiles> {
  const committed = new Map<string, number>();
  const each = Math.max(1, Math.round((perSecond * STEP_MS) / 1000));
  const startedMs = performance.now();
  const steps = Math.round((perSecond * seconds) / each);
  const inserts: Promise<void>[] = [];
  for (let step = 0; step < steps; step += 1) {
    const batch = Array.from({ length: each }, (_, index) => aDelivery(wellUrls[(step * each + index) % wellUrls.length]));
    inserts.push(
      owe(batch).then(() => {
        const now = performance.timeOrigin + performance.now();
        for (const { id } of batch) committed.set(id, now);
      }),
    );
    const dueMs = startedMs + ((step + 1) * each * 1000) / perSecond;
    await systemClock.sleep(Math.max(0, dueMs - performance.now()));
  }
  await Promise.all(inserts);
  const arrivals = await arrivalsOf([...committed.keys()]);
  const waits = Array.from(committed, ([id, committedMs]) => Math.max(0, (arrivals.get(id) ?? Number.POSITIVE_INFINITY) - committedMs));
  waits.sort((one, other) => one - other);
  const at = (share: number) => waits[Math.min(waits.length - 1, Math.floor(waits.length * share))] ?? 0;
  const percentiles = { p50: at(0.5), p99: at(0.99) };
  print(`${title}, p50 / p99`, `${percentiles.p50.toFixed(0)} / ${percentiles.p99.toFixed(0)} ms`);
  return percentiles;
}

async function measureMemory(): Promise<void> {
  const before = await memory();
  let highest = before;
  const hostile = ports.hostile.map((port) => `http://127.0.0.1:${port}/hook`);
  await owe(Array.from({ length: hostile.length * PER_HOSTILE }, (_, index) => aDelivery(hostile[index % hostile.length])));
  const untilMs = performance.now() + 2 * seconds * 1000;
  while (performance.now() < untilMs) {
    highest = Math.max(highest, await memory());
    await systemClock.sleep(250);
  }
  print(`memory with ${hostile.length} hostile receivers, before → highest`, `${before} → ${highest} MB (+${highest - before})`);
}

async function memory(): Promise<number> {
  dispatcher.send('memory');
  const [bytes] = await once(dispatcher, 'message');
  return Math.round(Number(bytes) / 1024 / 1024);
}

/** Resolves when nothing is left to be sent. */
async function settled(): Promise<void> {
  while ((await engine.deliveries.list(callerId, { state: 'PENDING', limit: 1 })).deliveries.length > 0) await systemClock.sleep(20);
}

/** Milliseconds since the epoch at which each of these came. Waits for the last one. */
async function arrivalsOf(ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
  for (;;) {
    receivers.send('arrivals');
    const arrivals = new Map<string, number>((await once(receivers, 'message'))[0] satisfies Arrivals);
    if (ids.every((id) => arrivals.has(id))) return arrivals;
    await systemClock.sleep(100);
  }
}

function owe(owed: readonly OwedDelivery[]): Promise<void> {
  return insertDeliveries(database.sql, owed);
}

function aDelivery(url = ''): OwedDelivery {
  return {
    id: newId(systemClock),
    callerId,
    jobId: newId(systemClock),
    url,
    contentType: 'application/json',
    body: BODY,
    schedule: [0, 3_600],
    event: 'request.completed',
    sequence: 3,
  };
}

async function startDispatcher(): Promise<ChildProcess> {
  secretKey ??= newSecretKey();
  const child = startChild('webhook-dispatcher.ts', postgres.url, secretKey);
  await once(child, 'message');
  return child;
}

function startChild(file: string, ...args: readonly string[]): ChildProcess {
  const child = fork(join(import.meta.dirname, file), args);
  started.defer(() => {
    child.kill('SIGKILL');
  });
  return child;
}

function print(what: string, figure: string): void {
  console.log(`${what.padEnd(58)} ${figure}`);
}

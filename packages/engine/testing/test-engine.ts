/** A whole engine for a test: its own database, its own queue prefix, its own folder, closed in the right order. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, type Log, type Model, newId, systemClock, type Upstream, type WebhookEncoder } from '@claimcheck/core';
import { Redis } from 'ioredis';
import { expect } from 'vitest';
import type { S3Options } from '../assets-s3.ts';
import type { SignWebhook } from '../context.ts';
import { type Engine, type EngineOptions, openEngine, type RunningDispatcher, type RunningSweep, type RunningWorker } from '../index.ts';
import { type AllowList, parseAllowList } from '../outbound/index.ts';
import type { OutputSettings } from '../outputs.ts';
import { newSecretKey, parseSecretKeys } from '../secret-box.ts';
import { type Database, openDatabase, type Sql } from '../storage/connection.ts';
import { aCaller, aCatalog, aModel, PROVIDER } from './fixtures.ts';
import { createTestDatabase, redisUrl, type TestDatabase } from './index.ts';

/** What the suite runs on: `describe.each(QUEUES)('on %s', (queue) => …)`. */
export const QUEUES = [['redis'], ['postgres']] as const;
export type QueueName = (typeof QUEUES)[number][0];

const SECRET_KEY = newSecretKey();

export interface TestEngineOptions {
  /** The default is the one that needs no other server. */
  readonly queue?: QueueName;
  readonly redisUrl?: string;
  readonly databaseUrl?: string;
  readonly settings?: Partial<EngineOptions['settings']>;
  readonly encodeWebhook?: WebhookEncoder;
  readonly signWebhook?: SignWebhook;
  readonly clock?: Clock;
  readonly limitedRoutes?: EngineOptions['limitedRoutes'];
  /** As in SECRET_KEY; undefined for the one that all test engines share. */
  readonly secretKeys?: string;
  /** The loopback addresses unless given: the receivers of tests are there. */
  readonly webhookAllow?: AllowList;
  /** The loopback addresses unless given: the upstreams of tests are there. */
  readonly upstreamAllow?: AllowList;
  readonly outputs?: OutputSettings;
  /** Where files are stored; in a folder unless given. */
  readonly s3?: S3Options;
  readonly uploads?: EngineOptions['uploads'];
}

export interface TestEngine extends AsyncDisposable {
  readonly engine: Engine;
  readonly databaseUrl: string;
  /** A pool beside the engine's, for looking and for preparing rows. */
  readonly database: Database;
  readonly sql: Sql;
  /** See `createTestDatabase`. */
  setClockAhead(seconds: number): Promise<void>;
  readonly callerId: string;
  readonly assetsFolder: string;
  readonly queuePrefix: string;
  /** Everything that was logged, newest last. */
  readonly logged: readonly { readonly message: string; readonly fields: object }[];
  /** Ids of the entries that wait in a provider's queue. */
  doorbells(provider?: string): Promise<string[]>;
  /** How many entries workers hold at a route's gate. */
  heldAtGate(provider: string, model: string): Promise<number>;
  /** Loses every entry and all limits, as a Redis that was flushed does. */
  loseDoorbells(): Promise<void>;
  /** Makes workers that hold entries look as if they had died a while ago. */
  loseWorkers(): Promise<void>;
  /** What the queue of a provider, or of a route's gate, is limited to. */
  limitsOf(provider: string, model?: string): Promise<Record<string, number>>;
  /** Starts a worker that is stopped with the engine. */
  startWorker(upstream: Upstream, workerId?: string, models?: Model[]): RunningWorker;
  startDispatcher(): RunningDispatcher;
  /** Starts the sweep, which also rings for retries. */
  startSweep(): RunningSweep;
  /** Another process of the same installation: same database, same queue. */
  sibling(options?: Pick<TestEngineOptions, 'clock' | 'settings' | 'secretKeys' | 'webhookAllow'>): Promise<TestEngine>;
}

export async function createTestEngine(options: TestEngineOptions = {}): Promise<TestEngine> {
  await using opened = new AsyncDisposableStack();
  const database = opened.use(await createTestDatabase());
  const assetsFolder = await mkdtemp(join(tmpdir(), 'claimcheck-assets-'));
  opened.defer(() => rm(assetsFolder, { recursive: true, force: true }));
  const engine = opened.use(await open(options, database, assetsFolder, `test-${newId(systemClock)}`));
  const all = opened.move();
  return { ...engine, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function open(options: TestEngineOptions, owned: TestDatabase, assetsFolder: string, queuePrefix: string): Promise<TestEngine> {
  await using opened = new AsyncDisposableStack();
  const logged: { message: string; fields: object }[] = [];
  const note = (fields: object, message: string) => logged.push({ message, fields });
  const log: Log = { debug: () => {}, info: note, warn: note, error: note };
  const database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 4 });
  opened.defer(() => database.close());
  const engine = openEngine({
    databaseUrl: options.databaseUrl ?? owned.url,
    ...(options.queue === 'redis' && { redisUrl: options.redisUrl ?? redisUrl() }),
    queuePrefix,
    assetsFolder,
    upstreamAllow: options.upstreamAllow ?? parseAllowList('127.0.0.1,::1').allow,
    ...(options.outputs && { outputs: options.outputs }),
    ...(options.s3 && { s3: options.s3 }),
    ...(options.uploads && { uploads: options.uploads }),
    settings: { resultTtlSeconds: 3600, webhookSchedule: [0, 5, 300], webhookLogSeconds: 86_400, ...options.settings },
    encodeWebhook:
      options.encodeWebhook ?? ((job) => ({ contentType: 'application/json', body: JSON.stringify({ id: job.id, state: job.state }) })),
    ...(options.signWebhook && { signWebhook: options.signWebhook }),
    secretKeys: parseSecretKeys(options.secretKeys ?? SECRET_KEY) ?? [],
    webhookAllow: options.webhookAllow ?? parseAllowList('127.0.0.1,::1').allow,
    log,
    random: () => 0.5,
    ...(options.clock && { clock: options.clock }),
    ...(options.limitedRoutes && { limitedRoutes: options.limitedRoutes }),
  });
  opened.defer(() => engine.close());
  // Connections are made in the background; a doorbell that is rung before would wait for the sweep.
  await expect.poll(() => engine.health(), { timeout: 60_000, interval: 5 }).toMatchObject({ queue: 'ok' });
  const callerId = await aCaller(database.sql);
  const doorbells = options.queue === 'redis' ? redisDoorbells(queuePrefix, opened) : postgresDoorbells(database.sql);
  const running = opened.move();
  return {
    engine,
    databaseUrl: owned.url,
    setClockAhead: owned.setClockAhead,
    database,
    sql: database.sql,
    callerId,
    assetsFolder,
    queuePrefix,
    logged,
    ...doorbells,
    startWorker(upstream, workerId = 'a worker', models = [aModel]) {
      const worker = engine.startWorker({
        workerId,
        upstreams: new Map([[PROVIDER, upstream]]),
        catalog: aCatalog(...models),
      });
      running.defer(() => worker.stop());
      return worker;
    },
    startDispatcher() {
      const dispatcher = engine.startDispatcher();
      let stopped: Promise<void> | undefined;
      const stop = () => {
        stopped ??= dispatcher.stop();
        return stopped;
      };
      running.defer(stop);
      return { stop };
    },
    startSweep() {
      const sweep = engine.sweep.start();
      running.defer(() => sweep.stop());
      return sweep;
    },
    sibling: (changed = {}) => open({ ...options, ...changed }, owned, assetsFolder, queuePrefix),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

type Doorbells = Pick<TestEngine, 'doorbells' | 'heldAtGate' | 'loseDoorbells' | 'loseWorkers' | 'limitsOf'>;

const LIMITS = ['concurrency', 'max', 'duration'];

function queueName(provider: string, model?: string): string {
  return model === undefined ? `invoke-${provider}` : `invoke-${provider}~${model}`;
}

function asLimits(settings: readonly (readonly [string, string])[]): Record<string, number> {
  return Object.fromEntries(settings.filter(([field]) => LIMITS.includes(field)).map(([field, value]) => [field, Number(value)]));
}

function redisDoorbells(prefix: string, opened: AsyncDisposableStack): Doorbells {
  const redis = new Redis(redisUrl());
  opened.defer(() => redis.disconnect());
  return {
    async doorbells(provider = PROVIDER) {
      const queue = `${prefix}:invoke-${provider}`;
      return [...(await redis.lrange(`${queue}:wait`, 0, -1)), ...(await redis.zrange(`${queue}:prioritized`, '0', '-1'))];
    },
    heldAtGate: (provider, model) => redis.llen(`${prefix}:${queueName(provider, model)}:active`),
    async loseDoorbells() {
      const keys = await redis.keys(`${prefix}:*`);
      if (keys.length > 0) await redis.del(...keys);
    },
    async loseWorkers() {
      for (const lock of await redis.keys(`${prefix}:*:lock`)) {
        await redis.del(lock);
        const [, queue = '', id = ''] = /^(.*):([^:]+):lock$/.exec(lock) ?? [];
        await redis.sadd(`${queue}:stalled`, id);
        await redis.del(`${queue}:stalled-check`);
      }
    },
    async limitsOf(provider, model) {
      return asLimits(Object.entries(await redis.hgetall(`${prefix}:${queueName(provider, model)}:meta`)));
    },
  };
}

function postgresDoorbells(sql: Sql): Doorbells {
  return {
    async doorbells(provider = PROVIDER) {
      const rows = await sql<{ id: string }[]>`
        select id from bullmq.job where queue = ${`invoke-${provider}`} and state::text <> 'active'`;
      return rows.map(({ id }) => id);
    },
    async heldAtGate(provider, model) {
      return (await sql`select from bullmq.job where queue = ${queueName(provider, model)} and state::text = 'active'`).length;
    },
    async loseDoorbells() {
      await sql`delete from bullmq.job`;
      await sql`delete from bullmq.meta`;
    },
    async loseWorkers() {
      await sql`update bullmq.job set lock_token = 'of the dead', locked_until_ms = 0, stalled_marked = true where state::text = 'active'`;
      await sql`delete from bullmq.meta where field = 'stalled-check'`;
    },
    async limitsOf(provider, model) {
      const rows = await sql<{ field: string; value: string }[]>`
        select field, value from bullmq.meta where queue = ${queueName(provider, model)}`;
      return asLimits(rows.map(({ field, value }) => [field, value]));
    },
  };
}

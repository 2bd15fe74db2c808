/**
 * All of BullMQ. An entry is a doorbell: it carries a job's id and means "look in Postgres". Doorbells may be lost or doubled;
 * the claim in Postgres decides. One queue per provider, so that a slow one cannot hold up the others.
 *
 * On Redis when there is a `redisUrl`, else on BullMQ's own Postgres backend: the same code, one factory.
 */
import { type Log, type Priority, systemClock } from '@claimcheck/core';
import { createPostgresBackend, Queue, runMigrations, Worker, withBackend } from 'bullmq';
import { Redis, type RedisOptions } from 'ioredis';
import pg from 'pg';

export interface Doorbell {
  readonly provider: string;
  readonly jobId: string;
  /** The job's newest attempt: makes the entry's id unique per round, so that ringing twice for one round is harmless. */
  readonly attempt: number;
  readonly priority: Priority;
}

export interface DoorbellQueue {
  /** @throws when the queue's store does not answer; the sweep rings again. */
  ring(doorbells: readonly Doorbell[]): Promise<void>;
  /** Calls `onRing` with a job's id for each doorbell, at most `concurrency` at once. It must not reject. */
  consume(provider: string, concurrency: number, onRing: (jobId: string) => Promise<void>): Consumer;
  /** Resolves when the store answers, rejects otherwise. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

export interface Consumer {
  /** Takes no new doorbells, and resolves when the running ones are done. */
  close(): Promise<void>;
}

export interface QueueOptions {
  readonly redisUrl?: string;
  readonly databaseUrl: string;
  /** Separates installations that share a Redis. */
  readonly prefix?: string;
  readonly log: Log;
}

/** A killed worker's doorbell rings again within lockDuration + stalledInterval. BullMQ's defaults would take 60 s. */
const WORKER_SETTINGS = { lockDuration: 10_000, stalledInterval: 5_000, maxStalledCount: 10 } as const;
/** Nothing is kept: Postgres remembers, and a kept entry would swallow the next ring of the same id. */
const ENTRY_SETTINGS = { attempts: 1, removeOnComplete: true, removeOnFail: true } as const;
/** BullMQ takes entries without a priority, 0, before all others, and then the lowest number first. */
const PRIORITY_NUMBERS = { high: 0, normal: 10, low: 20 } as const satisfies Record<Priority, number>;
const BULLMQ_SCHEMA = 'bullmq';

export function openQueue(options: QueueOptions): DoorbellQueue {
  const store = options.redisUrl === undefined ? openPostgresStore(options) : openRedisStore(options.redisUrl, options);
  const queues = new Map<string, EntryQueue>();
  const add = async (provider: string, entries: Parameters<EntryQueue['addBulk']>[0]): Promise<void> => {
    const name = `invoke-${provider}`;
    const queue = queues.get(name) ?? store.openQueue(name);
    queues.set(name, queue);
    try {
      await queue.addBulk(entries);
    } catch (error) {
      // One that was made while the store was away never works again, so the next ring gets another.
      if (queues.get(name) === queue) queues.delete(name);
      queue.close().catch(() => {});
      throw error;
    }
  };
  return {
    async ring(doorbells) {
      const byProvider = Map.groupBy(doorbells, ({ provider }) => provider);
      await Promise.all(
        Array.from(byProvider, ([provider, rung]) =>
          add(
            provider,
            rung.map(({ jobId, attempt, priority }) => ({
              name: 'run',
              data: { jobId },
              opts: { ...ENTRY_SETTINGS, jobId: `${jobId}-${attempt}`, priority: PRIORITY_NUMBERS[priority] },
            })),
          ),
        ),
      );
    },
    consume: (provider, concurrency, onRing) => store.openWorker(`invoke-${provider}`, concurrency, onRing),
    ping: store.ping,
    async close() {
      await Promise.all(Array.from(queues.values(), (queue) => queue.close()));
      await store.close();
    },
  };
}

/** Creates BullMQ's own tables, which its Postgres backend needs. Calling it again changes nothing. */
export async function migrateQueue(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'claimcheck-migrate' });
  await client.connect();
  try {
    await runMigrations(client, BULLMQ_SCHEMA);
  } finally {
    await client.end();
  }
}

/** Resolves when a Redis server answers within `timeoutMs`, however often it must be tried; rejects with the last reason. */
export async function pingRedis(redisUrl: string, timeoutMs: number): Promise<void> {
  let reason: unknown = new Error(`no answer within ${timeoutMs} ms`);
  const client = new Redis(redisUrl, { maxRetriesPerRequest: null, retryStrategy: () => 200 });
  client.on('error', (error) => {
    reason = error;
  });
  const over = new AbortController();
  try {
    const timeout = systemClock.sleep(timeoutMs, over.signal).then(() => Promise.reject(reason));
    await Promise.race([client.ping(), timeout]);
  } finally {
    over.abort();
    client.disconnect();
  }
}

/** What of a Redis server's settings decides whether doorbells survive there. Undefined where the server does not tell. */
export interface RedisDurability {
  /** Anything but `noeviction` throws entries away when memory is full. */
  readonly evictionPolicy: string | undefined;
  /** Without its append-only file a killed server forgets everything since its last snapshot. */
  readonly isAppendOnly: boolean | undefined;
}

export async function readRedisDurability(redisUrl: string): Promise<RedisDurability> {
  const client = new Redis(redisUrl, { maxRetriesPerRequest: 1, commandTimeout: 2_000 });
  client.on('error', () => {});
  try {
    const info = `${await client.info('memory')}\n${await client.info('persistence')}`;
    const appendOnly = /^aof_enabled:(\d)/m.exec(info)?.[1];
    return {
      evictionPolicy: /^maxmemory_policy:([\w-]+)/m.exec(info)?.[1],
      isAppendOnly: appendOnly === undefined ? undefined : appendOnly === '1',
    };
  } finally {
    client.disconnect();
  }
}

interface Entry {
  readonly jobId: string;
}

/** What is used of a BullMQ queue, whichever store it stands on. */
interface EntryQueue {
  addBulk(entries: { name: string; data: Entry; opts: { jobId: string; attempts: number; priority: number } }[]): Promise<unknown>;
  close(): Promise<void>;
}

interface Store {
  openQueue(name: string): EntryQueue;
  openWorker(name: string, concurrency: number, onRing: (jobId: string) => Promise<void>): Consumer;
  ping(): Promise<void>;
  close(): Promise<void>;
}

function openRedisStore(redisUrl: string, { log, prefix }: QueueOptions): Store {
  const clients: Redis[] = [];
  const connect = (settings: RedisOptions) => {
    const client = new Redis(redisUrl, { retryStrategy: (attempt) => Math.min(attempt * 100, 2_000), ...settings });
    client.on('error', (error) => log.warn({ error }, 'redis connection failed'));
    clients.push(client);
    return client;
  };
  // A submission must not hang on a Redis that is down: it fails fast and the sweep rings later. Failing alone would go on for ever on a
  // connection that is dead without a word, so a socket that owes an answer for longer is dropped.
  const producer = connect({ enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: 2_000, socketTimeout: 3_000 });
  const common = prefix === undefined ? {} : { prefix };
  return {
    openQueue(name) {
      const queue = new Queue<Entry>(name, { connection: producer, skipWaitingForReady: true, ...common });
      queue.on('error', (error) => log.warn({ error, queue: name }, 'queue failed'));
      return queue;
    },
    openWorker(name, concurrency, onRing) {
      // Blocking reads may take long, so no commandTimeout; a silent socket is dropped instead.
      const connection = connect({ maxRetriesPerRequest: null, socketTimeout: 15_000 });
      const worker = new Worker<Entry>(name, (entry) => onRing(entry.data.jobId), {
        connection,
        concurrency,
        ...WORKER_SETTINGS,
        ...common,
      });
      worker.on('error', (error) => log.warn({ error, queue: name }, 'worker failed'));
      return worker;
    },
    async ping() {
      await producer.ping();
    },
    async close() {
      for (const client of clients) client.disconnect();
    },
  };
}

function openPostgresStore({ databaseUrl, log }: QueueOptions): Store {
  const backend = withBackend(createPostgresBackend);
  // One pool for all queues and workers; each worker keeps one connection of it for LISTEN.
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    application_name: 'claimcheck-queue',
    options: `-c search_path=${BULLMQ_SCHEMA}`,
    max: 30,
    connectionTimeoutMillis: 5_000,
    query_timeout: 10_000,
    keepAlive: true,
  });
  pool.on('error', (error) => log.warn({ error }, 'queue connection failed'));
  return {
    openQueue(name) {
      const queue = new backend.Queue<Entry>(name, { connection: pool });
      queue.on('error', (error) => log.warn({ error, queue: name }, 'queue failed'));
      return queue;
    },
    openWorker(name, concurrency, onRing) {
      const worker = new backend.Worker<Entry>(name, (entry) => onRing(entry.data.jobId), {
        connection: pool,
        concurrency,
        ...WORKER_SETTINGS,
      });
      worker.on('error', (error) => log.warn({ error, queue: name }, 'worker failed'));
      return worker;
    },
    async ping() {
      await pool.query('select 1');
    },
    async close() {
      await pool.end();
    },
  };
}

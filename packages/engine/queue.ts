/**
 * All of BullMQ. An entry is a doorbell: it carries a job's id and means "look in Postgres". Doorbells may be lost or doubled;
 * the claim in Postgres decides. One queue per provider, so that a slow one cannot hold up the others.
 *
 * Limits are BullMQ's own, of a queue, so they hold for the workers of all processes: an entry is taken when an attempt may start and held
 * until it is over, whether it starts a run or resumes one. A route with limits of its own has a queue in front of its provider's, its gate:
 * who has been let through there waits in the provider's queue for what the provider allows.
 *
 * On Redis when there is a `redisUrl`, else on BullMQ's own Postgres backend: the same code, one factory.
 */
import { type Clock, type LimitedRoute, type Limits, type Log, type Priority, systemClock } from '@claimcheck/core';
import { createPostgresBackend, type PostgresQueueBackend, Queue, runMigrations, Worker, withBackend } from 'bullmq';
import { Redis, type RedisOptions } from 'ioredis';
import pg from 'pg';
import { type LimitedQueue, type QueueLimits, queueLimits, setLimits } from './queue-limits.ts';

export interface Doorbell {
  readonly provider: string;
  readonly model: string;
  readonly jobId: string;
  /** The job's newest attempt: makes the entry's id unique per round, so that ringing twice for one round is harmless. */
  readonly attempt: number;
  readonly priority: Priority;
}

export interface DoorbellQueue {
  /** Rings at the gate of the route where it has one, else at the provider. @throws when the store does not answer; the sweep rings again. */
  ring(doorbells: readonly Doorbell[]): Promise<void>;
  /**
   * Rings at the provider for those whose gate has let them through. They go before others of their priority, as they have waited already.
   * Throws like `ring`.
   */
  letThrough(doorbells: readonly Doorbell[]): Promise<void>;
  /**
   * Takes doorbells back that nobody has heard yet, of jobs that have ended. Each would use up a start of those that the rate allows, until a
   * queue in which jobs run out of time does nothing else. Throws like `ring`.
   */
  silence(doorbells: readonly Doorbell[]): Promise<void>;
  /** Starts taking the doorbells of a provider, or of a route's gate. `onRing` must not reject. */
  consume(options: ConsumeOptions, onRing: (doorbell: Doorbell) => Promise<Answer>): Consumer;
  /** Resolves when the store answers, rejects otherwise. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

export interface ConsumeOptions {
  readonly provider: string;
  /** Of the route whose gate it is; unset for the provider's own queue. */
  readonly model?: string;
  /** Doorbells that this process holds at a time. */
  readonly concurrency: number;
  /** For the consumers of all processes together; those that are not given are lifted. All must give the same. */
  readonly limits?: Limits;
}

/** `left` says that nobody looked: it rings again at once, before all others, so that this is for consumers that are being closed. */
export type Answer = 'answered' | 'left';

export interface Consumer {
  /** Takes no new doorbells, and resolves when the running ones are done. */
  close(): Promise<void>;
}

export interface QueueOptions {
  readonly redisUrl?: string;
  readonly databaseUrl: string;
  /** Separates installations that share a Redis. */
  readonly prefix?: string;
  /** The routes with limits of their own; none unless given. */
  readonly limitedRoutes?: readonly LimitedRoute[];
  readonly clock?: Clock;
  readonly log: Log;
}

const WORKER_SETTINGS = {
  /** A killed worker's doorbell rings again within lockDuration + stalledInterval. BullMQ's defaults would take 60 s. */
  lockDuration: 10_000,
  stalledInterval: 5_000,
  maxStalledCount: 10,
  /** After a refused connection. BullMQ would wait for 15 s, long after a store that restarts is back. */
  runRetryDelay: 500,
  autorun: false,
} as const;
/** Nothing is kept: Postgres remembers, and a kept entry would swallow the next ring of the same id. */
const ENTRY_SETTINGS = { attempts: 1, removeOnComplete: true, removeOnFail: true } as const;
/** BullMQ takes entries without a priority, 0, before all others, and then the lowest number first. */
const PRIORITY_NUMBERS = { high: 0, normal: 10, low: 20 } as const satisfies Record<Priority, number>;
/** How far ahead of their own priority those are who come from a gate. */
const AHEAD = 5;
const FIRST_OF_ALL: Place = { priority: PRIORITY_NUMBERS.high, lifo: true };
const BULLMQ_SCHEMA = 'bullmq';
/** Limits are looked at this often: a Redis that was flushed or replaced has lost them. */
const LIMITS_EVERY_MS = 5_000;
const LIMITS_AGAIN_MS = 1_000;

export function openQueue(options: QueueOptions): DoorbellQueue {
  const { clock = systemClock, log, limitedRoutes = [] } = options;
  const store = options.redisUrl === undefined ? openPostgresStore(options) : openRedisStore(options.redisUrl, options);
  const queues = new Map<string, EntryQueue>();
  const gates = new Set(limitedRoutes.map(({ provider, model }) => queueName(provider, model)));

  async function use<Result>(name: string, work: (queue: EntryQueue) => Promise<Result>): Promise<Result> {
    const queue = queues.get(name) ?? store.openQueue(name);
    queues.set(name, queue);
    try {
      return await work(queue);
    } catch (error) {
      // One that was made while the store was away never works again, so the next use gets another.
      if (queues.get(name) === queue) queues.delete(name);
      queue.close().catch(() => {});
      throw error;
    }
  }

  async function add(entries: readonly Entry[], nameOf: (entry: Entry) => string, placeOf: (entry: Entry) => Place): Promise<void> {
    const adding = Array.from(Map.groupBy(entries, nameOf), ([name, added]) =>
      use(name, (queue) =>
        queue.addBulk(added.map((data) => ({ name: 'run', data, opts: { ...ENTRY_SETTINGS, jobId: entryId(data), ...placeOf(data) } }))),
      ),
    );
    await Promise.all(adding);
  }

  /** The queue of the route's gate, where it has one. */
  function gateOf({ provider, model }: Doorbell): string | undefined {
    const name = queueName(provider, model);
    return gates.has(name) ? name : undefined;
  }

  function ring(doorbells: readonly Doorbell[]): Promise<void> {
    return add(
      doorbells.map((doorbell) => entryOf(doorbell, false)),
      (entry) => gateOf(entry) ?? queueName(entry.provider),
      ({ priority }) => ({ priority: PRIORITY_NUMBERS[priority] }),
    );
  }

  return {
    ring,
    letThrough: (doorbells) =>
      add(
        doorbells.map((doorbell) => entryOf(doorbell, true)),
        ({ provider }) => queueName(provider),
        ({ priority }) => ({ priority: Math.max(PRIORITY_NUMBERS[priority] - AHEAD, 0) }),
      ),
    async silence(doorbells) {
      const removing = doorbells.flatMap((doorbell) => {
        const gate = gateOf(doorbell);
        const names = [queueName(doorbell.provider), ...(gate === undefined ? [] : [gate])];
        const ids = [false, true].map((isAgain) => entryId({ ...doorbell, isAgain }));
        return names.flatMap((name) => ids.map((id) => use(name, (queue) => queue.remove(id))));
      });
      await Promise.all(removing);
    },
    consume({ provider, model, concurrency, limits = {} }, onRing) {
      const name = queueName(provider, model);
      const stored = queueLimits(limits);
      const stopping = new AbortController();
      let worker: EntryWorker | undefined;
      const keeping = keepLimits(name, stored, start, stopping.signal);
      let closing: Promise<void> | undefined;
      async function start(): Promise<void> {
        worker = await store.openWorker(name, Math.min(concurrency, stored.concurrency ?? concurrency), stored, onEntry);
        if (stopping.signal.aborted) await worker.close();
        else worker.run();
      }
      async function onEntry(entry: Entry): Promise<void> {
        // Its route has limits that it did not have when the doorbell rang.
        if (model === undefined && !entry.isLetThrough && gateOf(entry) !== undefined) return ring([entry]);
        if ((await onRing(entry)) === 'answered') return;
        // Before this entry is done: were its place free for a moment, the next in line would take it, beside one that holds it already.
        const again = add(
          [{ ...entry, isAgain: !entry.isAgain }],
          () => name,
          () => FIRST_OF_ALL,
        );
        await again.catch((error: unknown) => log.warn({ error, queue: name }, 'doorbell not rung'));
      }
      async function close(): Promise<void> {
        stopping.abort();
        await worker?.close();
        await keeping;
      }
      return {
        close() {
          closing ??= close();
          return closing;
        },
      };
    },
    ping: store.ping,
    async close() {
      await Promise.all(Array.from(queues.values(), (queue) => queue.close()));
      await store.close();
    },
  };

  /** Sets a queue's limits, starts its worker then, and sets them again when the store has lost them. */
  async function keepLimits(name: string, limits: QueueLimits, start: () => Promise<void>, signal: AbortSignal): Promise<void> {
    let isStarted = false;
    await store.connected(signal);
    while (!signal.aborted) {
      try {
        if (await use(name, (queue) => setLimits(queue, limits))) log.info({ queue: name, ...limits }, 'limits set');
        if (!isStarted && !signal.aborted) await start();
        isStarted = true;
      } catch (error) {
        log.warn({ error, queue: name }, isStarted ? 'limits not set' : 'queue not ready');
      }
      await clock.sleep(isStarted ? LIMITS_EVERY_MS : LIMITS_AGAIN_MS, signal).catch(() => {});
    }
  }
}

/** Names and ids may contain no colon, and a model's name may contain anything. */
function queueName(provider: string, model?: string): string {
  return model === undefined ? `invoke-${provider}` : `invoke-${provider}~${encodeURIComponent(model)}`;
}

/** An entry that is being worked on cannot be added, so one that is left goes by another name, and back. */
function entryId({ jobId, attempt, isAgain }: Pick<Entry, 'jobId' | 'attempt' | 'isAgain'>): string {
  return isAgain ? `${jobId}-${attempt}-again` : `${jobId}-${attempt}`;
}

function entryOf({ provider, model, jobId, attempt, priority }: Doorbell, isLetThrough: boolean): Entry {
  return { provider, model, jobId, attempt, priority, isLetThrough, isAgain: false };
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

interface Entry extends Doorbell {
  /** True once the gate of its route has let it through. */
  readonly isLetThrough: boolean;
  /** It was left, and the one before it may not be gone yet. */
  readonly isAgain: boolean;
}

/** In its queue: by priority, behind those of the same, or before them with `lifo`. */
interface Place {
  readonly priority: number;
  readonly lifo?: boolean;
}

/** What is used of a BullMQ queue, whichever store it stands on. */
interface EntryQueue extends LimitedQueue {
  addBulk(entries: { name: string; data: Entry; opts: Place & { jobId: string; attempts: number } }[]): Promise<unknown>;
  remove(id: string): Promise<unknown>;
  close(): Promise<void>;
}

interface EntryWorker {
  run(): void;
  close(): Promise<void>;
}

interface Store {
  openQueue(name: string): EntryQueue;
  /** It takes nothing until it is told to run. @throws when the store is away: a worker that was made then never works. */
  openWorker(name: string, concurrency: number, limits: QueueLimits, onEntry: (entry: Entry) => Promise<void>): Promise<EntryWorker>;
  /** Resolves when there is a connection, or when the signal aborts. */
  connected(signal: AbortSignal): Promise<void>;
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** The rate of a queue once more, as workers know it themselves: it holds among them also while the store has lost its own. */
function limiterOf({ max, duration }: QueueLimits): { readonly limiter?: { readonly max: number; readonly duration: number } } {
  return max === undefined || duration === undefined ? {} : { limiter: { max, duration } };
}

/** How long a worker that has done what it took may take to tell Redis. */
const CLOSE_MS = 1_500;

function openRedisStore(redisUrl: string, { log, prefix }: QueueOptions): Store {
  const clients = new Set<Redis>();
  const connect = (settings: RedisOptions) => {
    const client = new Redis(redisUrl, { retryStrategy: (attempt) => Math.min(attempt * 100, 2_000), ...settings });
    client.on('error', (error) => log.warn({ error }, 'redis connection failed'));
    clients.add(client);
    return client;
  };
  const drop = (client: Redis) => {
    // What waits to connect again must first do so: it would not tell anybody that it is dropped, neither BullMQ nor who awaits a command.
    connectNow(client);
    if (client.status !== 'end') client.disconnect();
    clients.delete(client);
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
    async openWorker(name, concurrency, limits, onEntry) {
      // Blocking reads may take long, so no commandTimeout; a silent socket is dropped instead.
      const patient = { maxRetriesPerRequest: null, socketTimeout: 15_000 };
      const connection = connect(patient);
      const used = [connection];
      // BullMQ makes one more of it, to wait for entries. Who must end it must know it.
      connection.duplicate = (settings) => {
        const duplicate = connect({ ...patient, ...settings });
        used.push(duplicate);
        return duplicate;
      };
      const settings = { ...WORKER_SETTINGS, ...limiterOf(limits), ...common };
      const entries = new Set<Promise<void>>();
      const handle = ({ data }: { readonly data: Entry }) => {
        const handling = onEntry(data).finally(() => entries.delete(handling));
        entries.add(handling);
        return handling;
      };
      const worker = new Worker<Entry>(name, handle, { connection, concurrency, ...settings });
      worker.on('error', (error) => log.warn({ error, queue: name }, 'worker failed'));
      const { run, close } = entryWorker(worker, name, log);
      return {
        run,
        async close() {
          // BullMQ waits for a connection to end, which one that waits to connect again never does.
          used.forEach(connectNow);
          const over = new AbortController();
          const closed = close().finally(() => over.abort());
          // Without a Redis it would wait for ever to say what is done.
          const tooLong = Promise.allSettled(entries).then(() => systemClock.sleep(CLOSE_MS, over.signal));
          const givenUp = tooLong.then(
            () => log.warn({ queue: name }, 'worker closed without redis, its doorbells ring again'),
            () => {},
          );
          await Promise.race([closed, givenUp]);
          used.forEach(drop);
        },
      };
    },
    connected(signal) {
      const { promise, resolve } = Promise.withResolvers<void>();
      if (producer.status === 'ready') resolve();
      else producer.once('ready', resolve);
      signal.addEventListener('abort', () => resolve());
      return promise;
    },
    async ping() {
      await producer.ping();
    },
    async close() {
      clients.forEach(drop);
    },
  };
}

/** Ends the wait of a client that waits before it connects again. */
function connectNow(client: Redis): void {
  if (client.status === 'reconnecting') client.connect().catch(() => {});
}

/** Connections for short statements; each worker adds one of its own. */
const POOL_SIZE = 20;
const STATEMENT_TIMEOUT_MS = 10_000;

function openPostgresStore({ databaseUrl, log }: QueueOptions): Store {
  const backend = withBackend(createPatientBackend);
  // One pool for all queues and workers; each worker keeps one connection of it for LISTEN.
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    application_name: 'claimcheck-queue',
    // A server that hears no more of a client must not keep its locks: an entry that is locked is passed over by all workers.
    options: `-c search_path=${BULLMQ_SCHEMA} -c statement_timeout=${STATEMENT_TIMEOUT_MS} -c idle_in_transaction_session_timeout=30000`,
    max: POOL_SIZE,
    connectionTimeoutMillis: 5_000,
    // The server's answer that it gave up must be able to arrive.
    query_timeout: STATEMENT_TIMEOUT_MS + 2_000,
    keepAlive: true,
  });
  pool.on('error', (error) => log.warn({ error }, 'queue connection failed'));
  // BullMQ borrows connections without listening for their errors. The loss of one would end the process; its statement fails anyway.
  pool.on('connect', (client) => client.on('error', () => {}));
  return {
    openQueue(name) {
      const queue = new backend.Queue<Entry>(name, { connection: pool });
      queue.on('error', (error) => log.warn({ error, queue: name }, 'queue failed'));
      return queue;
    },
    async openWorker(name, concurrency, limits, onEntry) {
      pool.options.max += 1;
      const settings = { ...WORKER_SETTINGS, ...limiterOf(limits) };
      const worker = new backend.Worker<Entry>(name, (entry) => onEntry(entry.data), { connection: pool, concurrency, ...settings });
      worker.on('error', (error) => log.warn({ error, queue: name }, 'worker failed'));
      const { run, close } = entryWorker(worker, name, log);
      async function closeAndGiveBack(): Promise<void> {
        await close();
        pool.options.max -= 1;
      }
      try {
        // It keeps what came of its first connection. Were that a failure, running it would fail at once, again and again, without ever letting
        // anything else happen in the process; were it closed before, the pool would never get that connection back.
        await worker.waitUntilReady();
      } catch (error) {
        await closeAndGiveBack();
        throw error;
      }
      return { run, close: closeAndGiveBack };
    },
    // Each statement connects by itself.
    connected: () => Promise.resolve(),
    async ping() {
      await pool.query('select 1');
    },
    async close() {
      await pool.end();
    },
  };
}

const FULL_QUEUE_WAIT_MS = 250;
const FAILED_WAIT_MS = 250;

/**
 * BullMQ's Postgres backend ends the wait for an entry at once while any waits, also where the queue's concurrency lets nobody take it: a worker
 * that finds the queue full would ask some hundred times a second. Who finishes an entry takes the next one without this wait. Nor does a worker
 * wait when it could not ask, unless the connection was refused: a database that starts up, or is full, would be asked without a pause.
 *
 * After a wait that failed it would trust its signals alone, for an hour at a time, and none would come: the connection on which it listens most
 * likely died with the one that failed, and it would go on with that. So no wait fails, and after a failure another connection listens.
 */
function createPatientBackend(...options: Parameters<typeof createPostgresBackend>): PostgresQueueBackend {
  const backend = createPostgresBackend(...options);
  const waitForJob = backend.waitForJob.bind(backend);
  const moveToActive = backend.moveToActive.bind(backend);
  let isListeningInDoubt = false;
  async function afterFailure(): Promise<void> {
    isListeningInDoubt = true;
    await systemClock.sleep(FAILED_WAIT_MS);
  }
  async function listenAnew(): Promise<void> {
    const listening = await backend.connection.getListenClient();
    // BullMQ lets go of it when it hears of an error.
    if (listening instanceof pg.Client) listening.emit('error', new Error('listening anew, as the database could not be asked'));
    isListeningInDoubt = false;
  }
  backend.waitForJob = async (timeoutSeconds) => {
    try {
      if (isListeningInDoubt) await listenAnew();
      if (!(await backend.isMaxed())) return await waitForJob(timeoutSeconds);
      await systemClock.sleep(FULL_QUEUE_WAIT_MS);
    } catch {
      await afterFailure();
    }
    return null;
  };
  backend.moveToActive = async (...entry) => {
    try {
      return await moveToActive(...entry);
    } catch (error) {
      await afterFailure();
      throw error;
    }
  };
  return backend;
}

function entryWorker(worker: { run(): Promise<void>; close(): Promise<void> }, name: string, log: Log): EntryWorker {
  return {
    run() {
      worker.run().catch((error: unknown) => log.warn({ error, queue: name }, 'worker failed'));
    },
    close: () => worker.close(),
  };
}

/**
 * The place of one scenario: a database and a Redis of its own, proxies in front of both and of the receiver, the processes, and the books
 * that are kept for the verdict.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@claimcheck/core';
import { type Environment, type Fleet, openFleet, type PartProcess } from './fleet.ts';
import { makeClient, type Submitted } from './load.ts';
import { type Observer, observe } from './observer.ts';
import type { PostgresServer } from './postgres-server.ts';
import type { Random } from './random.ts';
import { type Receiver, startReceiver } from './receiver.ts';
import type { RedisServer } from './redis-server.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';
import { type Submission, startUpstream, type Upstream } from './upstream.ts';
import { lookFor, withSignal } from './waiting.ts';

export type QueueKind = 'redis' | 'postgres';

export interface Servers {
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
}

export interface ArenaOptions {
  readonly servers: Servers;
  readonly queue: QueueKind;
  readonly name: string;
  readonly dir: string;
  /** Jobs to drive through the scenario. */
  readonly jobs: number;
  readonly random: Random;
  readonly size: FleetSize;
  /** Variables of every process. */
  readonly environment?: Environment;
  /** Multiplies what recovery may take: a machine that does much else at the time is slow for reasons of its own. */
  readonly slack: number;
  readonly signal: AbortSignal;
  readonly report: (line: string) => void;
}

export interface FleetSize {
  readonly api: number;
  readonly worker: number;
  readonly dispatcher: number;
}

export interface Arena extends Servers, AsyncDisposable {
  readonly queue: QueueKind;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly fleet: Fleet;
  readonly upstream: Upstream;
  readonly receiver: Receiver;
  readonly observer: Observer;
  readonly proxies: { readonly postgres: TcpProxy; readonly redis: TcpProxy; readonly receiver: TcpProxy };
  readonly databaseUrl: string;

  /** Submits jobs of ordinary length; resolves when all are acknowledged. */
  submitMany(count: number, durationMs?: readonly [min: number, max: number]): Promise<readonly Submitted[]>;
  /** Submits one job; `api` gets the first try. Without a duration it ends when the upstream is told so by the tag. */
  submit(tag: string, options?: { readonly durationMs?: number; readonly gate?: boolean; readonly api?: PartProcess }): Promise<Submitted>;
  /** A name that no other job of the scenario has. */
  newTag(): string;
  /** Runs `round` as often as asked for 2,000 jobs, fewer times for fewer; the jobs are submitted along with the rounds. */
  rounds(of2000: number, round: (number: number) => Promise<void>, durationMs?: readonly [min: number, max: number]): Promise<void>;
  /** Cancels a job as its caller. */
  cancel(id: string): Promise<void>;
  /** Resolves when the job was submitted upstream, at once when it was before. */
  started(id: string): Promise<unknown>;
  /** A wait that ends with the scenario. */
  wait<Value>(promise: Promise<Value>): Promise<Value>;
  until(look: () => Promise<boolean>): Promise<void>;
  /** How long a fault lasts, where that is what makes the fault. */
  pause(ms: number): Promise<void>;

  /** Books injected faults. */
  count(faults?: number): void;
  /**
   * Books the time from now until `progress`, which the scenario waits for at its end at the latest. More than `limitSeconds` breaks an
   * invariant. Resolves when it has come, or when it is too late for that.
   */
  expectRecovery(limitSeconds: number, progress: Promise<unknown>): Promise<void>;
  /** As `expectRecovery`, for any new job: small ones are submitted until one of them reaches the upstream. */
  expectWork(limitSeconds: number): Promise<void>;
  violate(sentence: string): void;
  /** kill -9 of a worker, with a record of the submissions whose outcome it took with it. */
  killWorker(worker: PartProcess): Promise<void>;
  /** Starts a process in the stead of one that was ended and waits until it works. */
  replace(part: PartProcess['part'], environment?: Environment): Promise<PartProcess>;
  /** Since then workers could lose leases without dying: a submission whose handle they could not save may have been repeated. */
  blind(sinceMs: number): Promise<void>;
  /** Waits for what was expected, and until no job is unfinished and each webhook was heard. Gives up at the scenario's deadline. */
  settle(): Promise<void>;

  readonly acknowledged: ReadonlyMap<string, string>;
  /** Idempotency keys that were sent. */
  readonly keysUsed: number;
  readonly faults: number;
  readonly recoveries: readonly number[];
  readonly violations: readonly string[];
  /** How many repeated submissions of the job are explained. */
  blindSubmits(jobId: string): number;
}

const API_KEY = 'the key of the fault suite, long enough';
const MODELS_DIR = fileURLToPath(new URL('models/', import.meta.url));
/** A handle is saved right after the answer; one that is not saved after this long, on a busy machine too, is a fault of ours. */
const HANDLE_SAVED_MS = 5_000;
/** How often a new job is tried while the service recovers. */
const PROBE_MS = 100;
const FULL_JOBS = 2_000;
const DURATION_MS = [200, 1_200] as const;

export async function openArena(options: ArenaOptions): Promise<Arena> {
  const { servers, queue, name, random, signal, report } = options;
  await using started = new AsyncDisposableStack();
  const database = `chaos_${name.replaceAll('-', '_')}_${queue}`;
  const databaseUrl = await servers.postgres.createDatabase(database);
  started.defer(() => servers.postgres.dropDatabase(database));
  if (queue === 'redis') await servers.redis.command('FLUSHALL');
  const upstream = started.use(await startUpstream());
  const receiver = started.use(await startReceiver());
  const proxies = {
    postgres: started.use(await startTcpProxy(servers.postgres.port)),
    redis: started.use(await startTcpProxy(servers.redis.port)),
    receiver: started.use(await startTcpProxy(receiver.port)),
  };
  const observer = started.use(observe(databaseUrl));
  const logDir = join(options.dir, `${name}-${queue}`);
  await mkdir(logDir, { recursive: true });
  const fleet = started.use(
    openFleet({
      logDir,
      environment: {
        PORT: '0',
        DATABASE_URL: proxies.postgres.through(databaseUrl),
        ...(queue === 'redis' && { REDIS_URL: `redis://127.0.0.1:${proxies.redis.port}` }),
        DATA_DIR: join(options.dir, 'data'),
        MODELS_DIR,
        BOOTSTRAP_API_KEY: API_KEY,
        // Nothing may be purged before the verdict.
        RESULT_TTL_SECONDS: '864000',
        // A send that a fault broke is made again soon.
        WEBHOOK_RETRY_SCHEDULE: '0,1,2,2,2,2,4,4,4,4,8,8,8,8,8,8,8,8,8,8',
        WEBHOOK_ALLOW_NETWORKS: '127.0.0.1,::1',
        SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
        LOG_LEVEL: 'info',
        CHAOS_UPSTREAM_URL: upstream.url,
        ...options.environment,
      },
    }),
  );
  for (const part of ['api', 'worker', 'dispatcher'] as const) for (let n = 0; n < options.size[part]; n += 1) fleet.start(part);

  const violations: string[] = [];
  const recoveries: number[] = [];
  const expected: Promise<void>[] = [];
  const blindSubmits = new Map<string, number>();
  const killedAt = new Map<number, number>();
  let faults = 0;
  let tags = 0;
  const wait = <Value>(promise: Promise<Value>) => withSignal(promise, signal);
  const until = async (look: () => Promise<boolean>) => void (await lookFor(async () => ((await look()) ? true : undefined), signal));
  const violate = (sentence: string) => {
    violations.push(sentence);
    report(`BROKEN: ${sentence}`);
  };
  const client = makeClient({
    apis: () => fleet.live('api'),
    key: API_KEY,
    webhookUrl: `http://127.0.0.1:${proxies.receiver.port}/`,
    signal,
    violate,
  });
  const newTag = () => {
    tags += 1;
    return `${name}-${tags}`;
  };
  const mayRepeat = (jobId: string) => blindSubmits.set(jobId, (blindSubmits.get(jobId) ?? 0) + 1);
  /** Books the submissions, answered a moment before `sinceMs` or later, whose handle was not saved: they may be repeated. */
  const forgive = async (sinceMs: number, isAffected: (submission: Submission) => boolean) => {
    const open = Array.from(upstream.submissions).filter(([, made]) => {
      const last = made.at(-1);
      return (
        last &&
        last.atMs <= (killedAt.get(last.pid) ?? last.atMs) &&
        isAffected(last) &&
        (last.answeredAtMs === undefined || last.answeredAtMs > sinceMs - HANDLE_SAVED_MS)
      );
    });
    const unsaved = await observer.rows<{ job_id: string }>(
      `select job_id from attempts where job_id = any($1::uuid[]) and handle is null and (finished_at is null or outcome = 'lost')`,
      [open.map(([jobId]) => jobId)],
    );
    for (const { job_id } of unsaved) mayRepeat(job_id);
  };
  await until(async () => (['api', 'worker', 'dispatcher'] as const).every((part) => fleet.live(part).length >= options.size[part]));
  const owned = started.move();

  const arena: Arena = {
    ...servers,
    queue,
    random,
    signal,
    fleet,
    upstream,
    receiver,
    observer,
    proxies,
    databaseUrl,
    newTag,
    wait,
    until,
    violate,
    pause: (ms) => systemClock.sleep(ms, signal),
    cancel: client.cancel,
    started: (id) => (upstream.submissions.has(id) ? Promise.resolve() : wait(upstream.hears(id))),
    submit: (tag, { durationMs, gate, api } = {}) =>
      client.submit({ tag, ...(durationMs !== undefined && { duration_ms: durationMs }), ...(gate && { gate }) }, api),
    submitMany: (count, [min, max] = DURATION_MS) =>
      Promise.all(Array.from({ length: count }, () => client.submit({ tag: newTag(), duration_ms: random.whole(min, max) }))),
    async rounds(of2000, round, durationMs) {
      const count = Math.max(1, Math.round((of2000 * options.jobs) / FULL_JOBS));
      for (let number = 0; number < count; number += 1) {
        const share = Math.floor(((number + 1) * options.jobs) / count) - Math.floor((number * options.jobs) / count);
        if (number % Math.ceil(count / 10) === 0) report(`round ${number + 1} of ${count}`);
        await wait(Promise.all([arena.submitMany(share, durationMs), round(number)]));
      }
    },
    count(more = 1) {
      faults += more;
    },
    expectRecovery(limitSeconds, progress) {
      const sinceMs = performance.now();
      const seen = wait(progress).then(
        () => {
          const seconds = (performance.now() - sinceMs) / 1000;
          recoveries.push(seconds);
          if (seconds > limitSeconds * options.slack) violate(`recovery took ${seconds.toFixed(1)} s, more than ${limitSeconds} s`);
        },
        (error: unknown) => violate(`no recovery: ${error instanceof Error ? error.message : error}`),
      );
      expected.push(seen);
      return seen;
    },
    async expectWork(limitSeconds) {
      const over = new AbortController();
      const reached = Promise.withResolvers<void>();
      void arena.expectRecovery(limitSeconds, reached.promise);
      // That it never came is told where it is expected.
      void reached.promise.then(
        () => over.abort(),
        () => over.abort(),
      );
      while (!over.signal.aborted) {
        void arena
          .submit(newTag(), { durationMs: 200 })
          .then(({ id }) => arena.started(id))
          .then(() => reached.resolve(), reached.reject);
        await systemClock.sleep(PROBE_MS, AbortSignal.any([signal, over.signal])).catch(() => {});
        signal.throwIfAborted();
      }
    },
    async killWorker(worker) {
      const killed = fleet.end(worker, 'SIGKILL');
      killedAt.set(worker.pid, performance.now());
      await killed;
      await forgive(performance.now(), ({ pid }) => pid === worker.pid);
      faults += 1;
    },
    async replace(part, environment) {
      const process = fleet.start(part, environment);
      await wait(process.ready);
      return process;
    },
    blind: (sinceMs) => forgive(sinceMs, () => true),
    async settle() {
      await Promise.all(expected);
      let left = '';
      try {
        await until(async () => {
          const [open] = await observer.rows<{ count: number }>('select count(*)::integer as count from jobs where finished_at is null');
          const ended = await observer.rows<{ id: string }>('select id from jobs where finished_at is not null');
          const unheard = ended.filter(({ id }) => !receiver.received.has(id)).length;
          left = `${open?.count} jobs unfinished, ${unheard} webhooks to come`;
          return open?.count === 0 && unheard === 0;
        });
      } catch {
        violate(`the scenario did not settle in time: ${[left, ...(await standings(observer))].join('; ')}`);
      }
    },
    get acknowledged() {
      return client.acknowledged;
    },
    get keysUsed() {
      return tags;
    },
    get faults() {
      return faults;
    },
    recoveries,
    violations,
    blindSubmits(jobId) {
      // What a killed worker had sent still arrives.
      const late = upstream.submissions.get(jobId)?.filter(({ pid, atMs }) => atMs > (killedAt.get(pid) ?? Number.POSITIVE_INFINITY));
      return (blindSubmits.get(jobId) ?? 0) + (late?.length ?? 0);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  return arena;
}

/** Where jobs stand that have not ended, a few of them, with their entries in a queue on Postgres. */
async function standings({ rows }: Observer): Promise<readonly string[]> {
  const jobs = await rows<{ text: string }>(`
    select format('%s is %s in attempt %s, due since %s, rung %s ago, its lease good for %s', id, state, attempt, now() - available_at,
      now() - rung_at, coalesce((lease_until - now())::text, 'nothing')) as text
    from jobs where finished_at is null order by id limit 3`);
  // There are none where the queue is on Redis.
  const entries = await rows<{ text: string }>(`
    select format('its entry %s is %s, stalled %s times, locked until %s', job.id, job.state, stalled_count,
      coalesce(to_timestamp(locked_until_ms / 1000)::text, 'never')) as text
    from bullmq.job join jobs on job.id like jobs.id || '-%' where finished_at is null order by job.id limit 6`).catch(() => []);
  return [...jobs, ...entries].map(({ text }) => text);
}

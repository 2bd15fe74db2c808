/** A Redis that dies, forgets, is full, or falls silent. Postgres has every job, so none is lost, and work goes on by itself. */
import type { Arena } from '../arena.ts';
import { LIMITS, type Scenario } from '../scenario.ts';

const SILENT_MS = 3_000;
const FULL_MS = 3_000;
const DOWN_AT_BOOT_MS = 4_000;

const redisScenario = (scenario: Omit<Scenario, 'queues'>): Scenario => ({ ...scenario, queues: ['redis'] });

export const redisScenarios: readonly Scenario[] = [
  redisScenario({
    name: 'redis-killed-3s',
    summary: 'SIGKILL of Redis, back after 3 seconds',
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(6, () => killRedis(arena, 3_000)),
  }),
  redisScenario({
    name: 'redis-killed-12s',
    summary: 'SIGKILL of Redis, back after 12 seconds',
    deadlineSeconds: 180,
    run: (arena) => arena.rounds(3, () => killRedis(arena, 12_000)),
  }),
  redisScenario({
    name: 'redis-flushed',
    summary: 'FLUSHALL while hundreds of jobs wait',
    // Few runs at a time, so that jobs wait.
    environment: { CHAOS_CONCURRENCY: '16' },
    deadlineSeconds: 240,
    run: (arena) => arena.rounds(5, () => flush(arena), [50, 250]),
  }),
  redisScenario({
    name: 'redis-full',
    summary: 'Redis at its maxmemory, refusing every write, for 3 seconds',
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(4, async () => {
        const used = /used_memory:(\d+)/.exec(await arena.redis.command('INFO', 'memory'))?.[1];
        await arena.redis.command('CONFIG', 'SET', 'maxmemory', used ?? '1000000');
        arena.count();
        await arena.pause(FULL_MS);
        await arena.redis.command('CONFIG', 'SET', 'maxmemory', '0');
        await arena.expectWork(LIMITS.redisBack);
      }),
  }),
  redisScenario({
    name: 'redis-half-open',
    summary: 'every connection to Redis dead without a word; new ones work 3 seconds later',
    deadlineSeconds: 240,
    run: (arena) =>
      arena.rounds(4, async () => {
        await arena.proxies.redis.set('half-open');
        arena.count();
        const back = arena.pause(SILENT_MS).then(() => arena.proxies.redis.set('forward'));
        await Promise.all([arena.expectWork(LIMITS.halfOpen), back]);
      }),
  }),
  redisScenario({
    name: 'redis-down-at-boot',
    summary: 'workers that start while Redis is down',
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(3, async () => {
        await Promise.all(arena.fleet.live('worker').map((worker) => arena.fleet.end(worker, 'SIGTERM')));
        await arena.redis.kill();
        const workers = [arena.fleet.start('worker'), arena.fleet.start('worker')];
        arena.count(workers.length);
        await arena.pause(DOWN_AT_BOOT_MS);
        await arena.redis.start();
        await arena.expectWork(LIMITS.redisBack);
        await arena.until(async () => arena.fleet.live('worker').length >= workers.length);
      }),
  }),
];

async function killRedis(arena: Arena, downMs: number): Promise<void> {
  await arena.redis.kill();
  arena.count();
  await arena.pause(downMs);
  await arena.redis.start();
  await arena.expectWork(LIMITS.redisBack);
}

async function flush(arena: Arena): Promise<void> {
  const waiting = () => arena.observer.rows<{ id: string }>(`select id from jobs where state = 'QUEUED'`);
  await arena.until(async () => (await waiting()).length > 0);
  await arena.redis.command('FLUSHALL');
  arena.count();
  const forgotten = await waiting();
  const healed = Promise.all(forgotten.map(({ id }) => arena.started(id)));
  void arena.expectRecovery(LIMITS.flushed, healed);
  await arena.wait(healed);
}

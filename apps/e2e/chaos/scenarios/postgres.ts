/** A Postgres that crashes, cuts connections, falls silent, or is locked. Nothing is acknowledged that it does not have, and nobody exits. */
import type { Arena } from '../arena.ts';
import { BOTH, LIMITS, type Scenario } from '../scenario.ts';

const SILENT_MS = 3_000;
const AWAY_MS = 2_000;
/** Longer than a lease, so that one locked job must not cost the leases of others. */
const LOCKED_MS = 12_000;
const NEIGHBOURS = 100;
const LOOK_EVERY = 30;

export const postgresScenarios: readonly Scenario[] = [
  {
    name: 'postgres-crash',
    summary: 'immediate stop of Postgres, started again at once',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(8, () =>
        whileBlind(arena, async () => {
          await arena.postgres.crash();
          arena.count();
          await arena.postgres.restart();
          await arena.expectWork(LIMITS.postgresRestart);
        }),
      ),
  },
  {
    name: 'postgres-refuses',
    summary: 'Postgres that refuses connections, or closes each one it accepts, for 2 seconds',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(8, (number) =>
        whileBlind(arena, async () => {
          await arena.proxies.postgres.set(number % 2 === 0 ? 'refuse' : 'close');
          arena.count();
          await arena.pause(AWAY_MS);
          await arena.proxies.postgres.set('forward');
          await arena.expectWork(LIMITS.postgresRestart);
        }),
      ),
  },
  {
    name: 'postgres-terminated',
    summary: 'hundreds of backends terminated, one at a time, whoever they serve',
    queues: BOTH,
    deadlineSeconds: 240,
    run: (arena) =>
      arena.rounds(300, async (number) => {
        await terminateOne(arena);
        if (number % LOOK_EVERY === 0) await arena.expectWork(LIMITS.postgresRestart);
      }),
  },
  {
    name: 'postgres-half-open',
    summary: 'every connection to Postgres dead without a word; new ones work 3 seconds later',
    queues: BOTH,
    deadlineSeconds: 300,
    run: (arena) =>
      arena.rounds(3, () =>
        whileBlind(arena, async () => {
          await arena.proxies.postgres.set('half-open');
          arena.count();
          const back = arena.pause(SILENT_MS).then(() => arena.proxies.postgres.set('forward'));
          await Promise.all([arena.expectWork(LIMITS.halfOpen), back]);
        }),
      ),
  },
  {
    name: 'postgres-locked-row',
    summary: 'the row of a running job locked for 12 seconds by a stranger',
    queues: BOTH,
    deadlineSeconds: 240,
    run: (arena) => {
      const locked: string[] = [];
      return arena.rounds(3, () => lockRow(arena, locked));
    },
  },
];

/** A worker that cannot reach the database cannot renew its leases: another one may start its runs anew, though nobody was killed. */
async function whileBlind(arena: Arena, fault: () => Promise<void>): Promise<void> {
  const sinceMs = performance.now();
  await fault();
  await arena.blind(sinceMs);
}

/** `locked` are those of earlier rounds: their own leases may be lost, as nobody could renew them. */
async function lockRow(arena: Arena, locked: string[]): Promise<void> {
  // Neighbours that run for longer than a lease, so that it must be renewed meanwhile.
  await arena.submitMany(NEIGHBOURS, [LOCKED_MS, 2 * LOCKED_MS]);
  const tag = arena.newTag();
  const looked = arena.upstream.catchNext('check', tag);
  const { id } = await arena.submit(tag);
  (await arena.wait(looked)).release();
  locked.push(id);
  const lock = await arena.observer.lock('select from jobs where id = $1 for update', [id]);
  try {
    arena.count();
    await arena.expectWork(LIMITS.postgresRestart);
    await arena.pause(LOCKED_MS);
  } finally {
    await lock.letGo();
  }
  arena.upstream.finish(tag);
  const robbed = await arena.observer.rows<{ job_id: string }>(`select job_id from attempts where outcome = 'lost' and job_id <> all($1)`, [
    locked,
  ]);
  if (robbed.length > 0) arena.violate(`${robbed.length} running jobs lost their leases to one locked row`);
}

async function terminateOne(arena: Arena): Promise<void> {
  const backends = await arena.observer.rows<{ pid: number }>(
    `select pid from pg_stat_activity where datname = current_database() and application_name like 'claimcheck%' order by pid`,
  );
  if (backends.length === 0) return;
  await arena.observer.rows('select pg_terminate_backend($1)', [arena.random.pick(backends).pid]);
  arena.count();
}

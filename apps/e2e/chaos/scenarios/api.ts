/** APIs that die while they take a submission in. The client comes back under its Idempotency-Key and must end up with one job. */
import type { Arena } from '../arena.ts';
import type { PartProcess } from '../fleet.ts';
import { BOTH, type Scenario } from '../scenario.ts';
import { startTcpProxy } from '../tcp-proxy.ts';

/** The client is at another API at once. */
const ANSWERED_SECONDS = 5;
/** A new job checks that its caller exists, and waits here when that row is locked. */
const LOCK_CALLERS = 'select from callers for update';

export const apiScenarios: readonly Scenario[] = [
  {
    name: 'api-before-commit',
    summary: 'kill -9 of an API whose insert has not been committed',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(15, async () => {
        const api = arena.random.pick(arena.fleet.live('api'));
        await killWhileInserting(arena, api, () => Promise.resolve());
        await arena.replace('api');
      }),
  },
  {
    name: 'api-after-commit',
    summary: 'kill -9 of an API after the commit, before it has answered',
    queues: BOTH,
    deadlineSeconds: 180,
    run: (arena) =>
      arena.rounds(15, async () => {
        // One with a way to the database of its own, on which answers can be held back.
        await using proxy = await startTcpProxy(arena.postgres.port);
        const api = await arena.replace('api', { DATABASE_URL: proxy.through(arena.databaseUrl) });
        await killWhileInserting(arena, api, async (tag, letGo) => {
          await proxy.set('hold-answers');
          await letGo();
          await arena.until(async () => (await arena.observer.rows(`select from jobs where input ->> 'tag' = $1`, [tag])).length > 0);
        });
      }),
  },
];

/** Kills the API while an insert of its own waits for a lock, `then` having happened. Resolves when the client has its answer after all. */
async function killWhileInserting(
  arena: Arena,
  api: PartProcess,
  then: (tag: string, letGo: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const tag = arena.newTag();
  const lock = await arena.observer.lock(LOCK_CALLERS);
  try {
    const acknowledged = arena.submit(tag, { durationMs: 300, api });
    // Awaited below, unless the scenario's deadline comes first.
    acknowledged.catch(() => {});
    await arena.until(async () => (await lock.waiting()).includes(`claimcheck-api-${api.pid}`));
    await then(tag, lock.letGo);
    await arena.fleet.end(api, 'SIGKILL');
    arena.count();
    await lock.letGo();
    void arena.expectRecovery(ANSWERED_SECONDS, acknowledged);
    await arena.wait(acknowledged);
  } finally {
    await lock.letGo();
  }
}

/** The fault suite in short: `npm run chaos` has all scenarios, at full size. */
import { describe, expect, test } from 'vitest';
import type { QueueKind } from './chaos/arena.ts';
import { runScenario } from './chaos/run.ts';
import type { Scenario } from './chaos/scenario.ts';
import { SCENARIOS } from './chaos/scenarios/index.ts';
import { startServers } from './chaos/servers.ts';

const JOBS = 40;
/** Other test files keep the machine busy at the same time: here it counts that nothing is lost, not how soon. */
const SLACK = 5;
/** A second API is for the scenarios that kill one. */
const SIZE = { api: 1 };

/** Each row has servers of its own and runs beside the other: most of the time is spent waiting for leases to run out. */
const RUNS: readonly (readonly [queue: QueueKind, scenarios: readonly string[]])[] = [
  ['redis', ['worker-after-submit', 'redis-killed-3s', 'cancel-races']],
  ['postgres', ['worker-in-ending', 'postgres-crash', 'doorbells-doubled']],
];

describe.concurrent('jobs and webhooks survive', () => {
  test.each(RUNS)(
    'with the queue on %s: %j',
    async (queue, names) => {
      await using servers = await startServers();
      for (const name of names) {
        const scenario = SCENARIOS.find((one) => one.name === name);
        if (!scenario) throw new Error(`there is no scenario ${name}`);
        const { signal } = new AbortController();
        const run = { scenario, queue, jobs: JOBS, seed: 1, slack: SLACK, size: SIZE, servers, dir: servers.dir, signal, report: () => {} };
        const verdict = await runScenario(run);
        expect(verdict.broken, name).toEqual([]);
        expect(verdict, name).toMatchObject({ lost: 0, duplicateTerminals: 0, webhooksMissing: 0, unaskedExits: 0 });
        expect(verdict.acknowledged).toBeGreaterThanOrEqual(JOBS);
        expect(verdict.faults).toBeGreaterThan(0);
        expect(verdict.duplicateSubmits).toBeLessThanOrEqual(verdict.duplicateSubmitsAllowed);
      }
    },
    400_000,
  );
});

test('a verdict names every invariant that does not hold', async () => {
  await using servers = await startServers();
  const sabotage: Scenario = {
    name: 'sabotage',
    summary: 'what the product must never do, done by hand',
    queues: ['postgres'],
    size: { api: 1, worker: 1 },
    // The webhook that never arrives is waited for this long.
    deadlineSeconds: 40,
    async run(arena) {
      const [gone, twice, paid] = await arena.submitMany(3, [50, 100]);
      await arena.settle();
      await arena.observer.rows('delete from jobs where id = $1', [gone?.id]);
      const copied =
        'insert into job_events (job_id, sequence, type, state, progress) select $1, 99, type, state, progress from job_events';
      await arena.observer.rows(`${copied} where job_id = $1 and state = 'COMPLETED'`, [twice?.id]);
      const headers = { 'idempotency-key': `${paid?.id}-scripted`, 'x-pid': '1' };
      await fetch(`${arena.upstream.url}/runs`, { method: 'POST', headers, body: JSON.stringify({ tag: 'again', duration_ms: 0 }) });
      process.kill(arena.fleet.live('worker')[0]?.pid ?? 0, 'SIGKILL');
      await arena.proxies.receiver.set('refuse');
      await arena.submitMany(1, [50, 100]);
    },
  };
  const { signal } = new AbortController();
  const run = { scenario: sabotage, queue: 'postgres', jobs: 4, seed: 1, servers, dir: servers.dir, signal, report: () => {} } as const;
  const verdict = await runScenario(run);
  expect(verdict).toMatchObject({ lost: 1, duplicateTerminals: 1, webhooksMissing: 1, unaskedExits: 1, duplicateSubmits: 1 });
  expect(verdict.broken.join('\n')).toMatch(
    /did not settle(.|\n)*SIGKILL unasked(.|\n)*not terminal(.|\n)*more than once(.|\n)*never told to their webhook(.|\n)*more often than kills explain/,
  );
}, 300_000);

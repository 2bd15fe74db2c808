/** The fault suite in short: `npm run chaos` has all scenarios, at full size. */
import { describe, expect, test } from 'vitest';
import type { QueueKind } from './chaos/arena.ts';
import { runScenario } from './chaos/run.ts';
import { SCENARIOS } from './chaos/scenarios/index.ts';
import { startServers } from './chaos/servers.ts';

const JOBS = 60;
/** Other test files keep the machine busy at the same time. */
const SLACK = 3;

/** Each row has servers of its own and runs beside the others: most of the time is spent waiting for leases to run out. */
const RUNS: readonly (readonly [queue: QueueKind, scenarios: readonly string[]])[] = [
  ['redis', ['worker-after-submit', 'cancel-races']],
  ['redis', ['redis-killed-3s', 'doorbells-doubled']],
  ['postgres', ['worker-in-ending', 'cancel-races']],
  ['postgres', ['postgres-crash', 'api-after-commit', 'doorbells-doubled']],
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
        const run = { scenario, queue, jobs: JOBS, seed: 1, slack: SLACK, servers, dir: servers.dir, signal, report: () => {} };
        const verdict = await runScenario(run);
        expect(verdict.broken, name).toEqual([]);
        expect(verdict, name).toMatchObject({ lost: 0, duplicateTerminals: 0, webhooksMissing: 0, unaskedExits: 0 });
        expect(verdict.acknowledged).toBeGreaterThanOrEqual(JOBS);
        expect(verdict.faults).toBeGreaterThan(0);
        expect(verdict.duplicateSubmits).toBeLessThanOrEqual(verdict.duplicateSubmitsAllowed);
      }
    },
    120_000,
  );
});

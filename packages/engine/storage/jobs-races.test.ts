/** What several processes do to the same jobs at once. Each race is run, not reasoned about. */
import { type JsonText, newId, systemClock } from '@claimcheck/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { aCaller, aJob, OUTPUT } from '../testing/fixtures.ts';
import { createTestDatabase, type TestDatabase } from '../testing/index.ts';
import { type Database, openDatabase } from './connection.ts';
import { expireJobs } from './due-jobs.ts';
import { claimJobs, endJobs, recordProgress, renewLeases, requeueJobs, saveHandles } from './transitions.ts';

let owned: TestDatabase;
let here: Database;
let there: Database;
let callerId: string;

beforeAll(async () => {
  owned = await createTestDatabase();
  here = openDatabase({ url: owned.url, applicationName: 'here' });
  there = openDatabase({ url: owned.url, applicationName: 'there' });
  callerId = await aCaller(here.sql);
});
afterAll(async () => {
  await Promise.all([here.close(), there.close()]);
  await owned[Symbol.asyncDispose]();
});

const TTL = 3600;
const CANCELLED = { state: 'CANCELLED', failure: { code: 'cancelled', message: 'x' } } as const;
const COMPLETED = { state: 'COMPLETED', output: OUTPUT } as const;

function manyJobs(count: number, fields: Partial<Parameters<typeof aJob>[1]>): Promise<string[]> {
  return Promise.all(Array.from({ length: count }, () => aJob(here.sql, { callerId, ...fields })));
}

/** Holds the rows of these jobs until the statements under `work` all wait for them, so that they race from the same start. */
async function fromTheSameStart<Result>(ids: readonly string[], waiters: number, work: () => Promise<Result>): Promise<Result> {
  const held = Promise.withResolvers<Result>();
  await there.sql.begin(async (sql) => {
    await sql`select id from jobs where id = any(${ids}) order by id for update`;
    const racing = work();
    held.resolve(racing);
    const blocked = async () => {
      const [row] = await there.sql`
        select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      return row?.count;
    };
    await expect.poll(blocked, { interval: 2 }).toBeGreaterThanOrEqual(waiters);
  });
  return held.promise;
}

test('of 20 claims by two processes at once exactly one owns the job', async () => {
  for (const jobId of await manyJobs(10, {})) {
    const claims = await Promise.all(
      Array.from({ length: 20 }, (_, index) => claimJobs((index % 2 ? here : there).sql, [{ jobId, workerId: `worker ${index}` }], 10)),
    );
    const owners = claims.flat().filter((claimed) => claimed !== undefined);
    expect(owners).toHaveLength(1);
    const attempts = await here.sql`select number from attempts where job_id = ${jobId}`;
    expect(attempts).toEqual([{ number: 1 }]);
  }
});

test('of 20 claims that wait for the same row exactly one owns the job', async () => {
  const [jobId = ''] = await manyJobs(1, {});
  const claims = await fromTheSameStart([jobId], 5, () =>
    Promise.all(Array.from({ length: 20 }, () => claimJobs(here.sql, [{ jobId, workerId: 'w' }], 10))),
  );
  expect(claims.flat().filter((claimed) => claimed !== undefined)).toHaveLength(1);
});

test('of two endings at once exactly one wins, and its result is what is kept', async () => {
  const ids = await manyJobs(50, { state: 'PROCESSING' });
  const races = await Promise.all(
    ids.map(async (jobId) =>
      Promise.all([endJobs(here.sql, [{ jobId, attempt: 1, ...COMPLETED }], TTL), endJobs(there.sql, [{ jobId, ...CANCELLED }], TTL)]),
    ),
  );
  for (const [index, race] of races.entries()) {
    const winners = race.flat().filter((job) => job !== undefined);
    expect(winners).toHaveLength(1);
    const [row] = await here.sql`
      select state, (select count(*)::int from job_events where job_id = jobs.id and state in ('COMPLETED', 'CANCELLED')) as ends
      from jobs where id = ${ids[index] ?? ''}`;
    expect(row).toEqual({ state: winners[0]?.state, ends: 1 });
  }
});

test('a cancellation is never lost to a claim that happens at the same time', async () => {
  // The claim takes the row first; the cancellation began while the job still waited.
  const [jobId = ''] = await manyJobs(1, {});
  const [, [cancelled]] = await fromTheSameStart([jobId], 2, async () => {
    const claim = claimJobs(here.sql, [{ jobId, workerId: 'w' }], 10);
    const blocked = () => here.sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await expect.poll(blocked, { interval: 2 }).toHaveLength(1);
    return Promise.all([claim, endJobs(here.sql, [{ jobId, ...CANCELLED }], TTL)]);
  });
  expect(cancelled?.state).toBe('CANCELLED');
  const ids = await manyJobs(100, {});
  const ends = await Promise.all(
    ids.map(async (id) => {
      const [, [ended]] = await Promise.all([
        claimJobs(here.sql, [{ jobId: id, workerId: 'w' }], 10),
        endJobs(there.sql, [{ jobId: id, ...CANCELLED }], TTL),
      ]);
      return ended?.state;
    }),
  );
  expect(new Set(ends)).toEqual(new Set(['CANCELLED']));
});

test('a job is never completed after it was cancelled', async () => {
  const ids = await manyJobs(20, { state: 'PROCESSING' });
  for (const jobId of ids) await endJobs(there.sql, [{ jobId, ...CANCELLED }], TTL);
  expect(
    await endJobs(
      here.sql,
      ids.map((jobId) => ({ jobId, attempt: 1, ...COMPLETED })),
      TTL,
    ),
  ).toEqual(ids.map(() => undefined));
});

describe('overlapping batches in opposite orders do not deadlock', () => {
  type Batch = (database: Database, ids: readonly string[]) => Promise<unknown>;
  const BATCHES: Record<string, Batch> = {
    claims: ({ sql }, ids) =>
      claimJobs(
        sql,
        ids.map((jobId) => ({ jobId, workerId: 'w' })),
        10,
      ),
    'ends by owners': ({ sql }, ids) =>
      endJobs(
        sql,
        ids.map((jobId) => ({ jobId, attempt: 1, ...COMPLETED })),
        TTL,
      ),
    cancellations: ({ sql }, ids) =>
      endJobs(
        sql,
        ids.map((jobId) => ({ jobId, ...CANCELLED })),
        TTL,
      ),
    retries: ({ sql }, ids) =>
      requeueJobs(
        sql,
        ids.map((jobId) => ({ jobId, attempt: 1, outcome: 'released', delayMs: 0 })),
      ),
    renewals: ({ sql }, ids) =>
      renewLeases(
        sql,
        ids.map((jobId) => ({ jobId, attempt: 1 })),
        10,
      ),
    'progress reports': ({ sql }, ids) =>
      recordProgress(
        sql,
        ids.map((jobId) => ({ jobId, attempt: 1, progress: 0.5 })),
      ),
    handles: ({ sql }, ids) =>
      saveHandles(
        sql,
        ids.map((jobId) => ({ jobId, attempt: 1, handle: `"${newId(systemClock)}"` as JsonText })),
      ),
    expiries: ({ sql }, ids) => expireJobs(sql, ids),
  };

  test.each(Object.keys(BATCHES))('%s against every other kind', async (name) => {
    const batch = BATCHES[name];
    for (const other of Object.values(BATCHES)) {
      const ids = await manyJobs(40, { state: 'PROCESSING' });
      const rounds = Array.from({ length: 4 }, () => [batch?.(here, ids), other(there, ids.toReversed())]).flat();
      await Promise.all(rounds);
    }
  });
});

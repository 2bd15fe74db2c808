import { isTerminal, type JsonText, STATES, type State, TRANSITIONS } from '@claimcheck/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { aCaller, aJob, aSubmission, OUTPUT } from '../testing/fixtures.ts';
import { createTestDatabase, type TestDatabase } from '../testing/index.ts';
import { type Database, openDatabase } from './connection.ts';
import { deleteJobs, expireJobs, listExpired, listPoisonous, listSilent } from './due-jobs.ts';
import { listJobs, readJobs } from './jobs.ts';
import { insertJobs } from './submissions.ts';
import { claimJobs, type Ending, endJobs, recordProgress, renewLeases, requeueJobs, rescueJobs, saveHandles } from './transitions.ts';

let owned: TestDatabase;
let database: Database;
let callerId: string;

beforeAll(async () => {
  owned = await createTestDatabase();
  database = openDatabase({ url: owned.url, applicationName: 'test' });
  callerId = await aCaller(database.sql);
});
afterAll(async () => {
  await database.close();
  await owned[Symbol.asyncDispose]();
});

const TTL = 3600;
const FAILURE = { code: 'provider_error', message: 'It broke.' } as const;

function endingIn(state: State): Pick<Ending, 'state' | 'output' | 'failure'> {
  if (!isTerminal(state)) throw new Error('not an end');
  return state === 'COMPLETED' ? { state, output: OUTPUT } : { state, failure: FAILURE };
}

/** Everything that is kept about a job. */
async function everythingOf(id: string): Promise<unknown> {
  const { sql } = database;
  return {
    job: await sql`select * from jobs where id = ${id}`,
    attempts: await sql`select * from attempts where job_id = ${id} order by number`,
    events: await sql`select * from job_events where job_id = ${id} order by sequence`,
  };
}

/** Every way a job can become `to`; each says whether it did. */
const WAYS: Record<State, Record<string, (jobId: string, attempt: number) => Promise<boolean>>> = {
  QUEUED: {
    'is given back': async (jobId, attempt) => {
      const [job] = await requeueJobs(database.sql, [{ jobId, attempt, outcome: 'released', delayMs: 0 }]);
      return job !== undefined;
    },
    'is tried again': async (jobId, attempt) => {
      const [job] = await requeueJobs(database.sql, [{ jobId, attempt, outcome: 'failed', failure: FAILURE, delayMs: 0 }]);
      return job !== undefined;
    },
    'is rescued': async (jobId) => {
      await database.sql`update jobs set lease_until = now() - interval '1 second' where id = ${jobId} and lease_until is not null`;
      return (await rescueJobs(database.sql, { crashesMax: 3, limit: 100 })).some(({ id }) => id === jobId);
    },
  },
  PROCESSING: {
    'is claimed': async (jobId) => {
      const [claimed] = await claimJobs(database.sql, [{ jobId, workerId: 'w' }], 10);
      return claimed !== undefined;
    },
  },
  COMPLETED: endingWays('COMPLETED'),
  FAILED: endingWays('FAILED'),
  CANCELLED: endingWays('CANCELLED'),
};

function endingWays(state: State) {
  return {
    'is ended': async (jobId: string) => (await endJobs(database.sql, [{ jobId, ...endingIn(state) }], TTL))[0] !== undefined,
  };
}

const WAY_CASES = STATES.flatMap((from) =>
  STATES.flatMap((to) =>
    Object.entries(WAYS[to]).map(([way, go]) => ({ from, to, way, go, allowed: TRANSITIONS[from].some((state) => state === to) })),
  ),
);

describe('of all pairs of states', () => {
  test.each(WAY_CASES.filter(({ allowed }) => allowed))('$from becomes $to when it $way', async ({ from, to, go }) => {
    const id = await aJob(database.sql, { callerId, state: from });
    expect(await go(id, from === 'QUEUED' ? 0 : 1)).toBe(true);
    const [row] = await database.sql`select state, event_count from jobs where id = ${id}`;
    expect(row?.state).toBe(to);
    const events = await database.sql`select sequence, state from job_events where job_id = ${id} order by sequence`;
    expect(events.at(-1)).toEqual({ sequence: row?.event_count, state: to });
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
  });

  test.each(WAY_CASES.filter(({ allowed }) => !allowed))('$from never becomes $to because it $way', async ({ from, go }) => {
    const id = await aJob(database.sql, { callerId, state: from });
    const before = await everythingOf(id);
    expect(await go(id, from === 'QUEUED' ? 0 : 1)).toBe(false);
    expect(await everythingOf(id)).toEqual(before);
  });

  test('every pair is among these cases', () => {
    expect(new Set(WAY_CASES.map(({ from, to }) => `${from}>${to}`)).size).toBe(STATES.length ** 2);
  });

  test.each(['COMPLETED', 'FAILED', 'CANCELLED'] as const)('a waiting job has no owner who could make it %s', async (state) => {
    const id = await aJob(database.sql, { callerId, state: 'QUEUED', attempt: 1 });
    expect(await endJobs(database.sql, [{ jobId: id, attempt: 1, ...endingIn(state) }], TTL)).toEqual([undefined]);
  });
});

describe('a worker whose attempt is not the newest', () => {
  const stale = { attempt: 1 };
  const jobOfAttemptTwo = () => aJob(database.sql, { callerId, state: 'PROCESSING', attempt: 2, handle: 'theirs' });

  test.each([
    ['end the job', async (jobId: string) => (await endJobs(database.sql, [{ jobId, ...stale, ...endingIn('COMPLETED') }], TTL))[0]],
    ['give it back', async (jobId: string) => (await requeueJobs(database.sql, [{ jobId, ...stale, outcome: 'released', delayMs: 0 }]))[0]],
    ['report progress', async (jobId: string) => (await recordProgress(database.sql, [{ jobId, ...stale, progress: 0.9 }]))[0]],
    ['save a handle', async (jobId: string) => (await saveHandles(database.sql, [{ jobId, ...stale, handle: '"mine"' as JsonText }]))[0]],
    ['renew its lease', async (jobId: string) => (await renewLeases(database.sql, [{ jobId, ...stale }], 1000))[0]],
  ])('cannot %s', async (_, write) => {
    const id = await jobOfAttemptTwo();
    const before = await everythingOf(id);
    expect(await write(id)).toBeUndefined();
    expect(await everythingOf(id)).toEqual(before);
  });

  test.each([
    [
      'end the job',
      async (jobId: string) => (await endJobs(database.sql, [{ jobId, attempt: 2, ...endingIn('COMPLETED') }], TTL))[0]?.state,
      'COMPLETED',
    ],
    [
      'give it back',
      async (jobId: string) => (await requeueJobs(database.sql, [{ jobId, attempt: 2, outcome: 'released', delayMs: 0 }]))[0]?.state,
      'QUEUED',
    ],
    [
      'save a handle',
      async (jobId: string) => (await saveHandles(database.sql, [{ jobId, attempt: 2, handle: '"mine"' as JsonText }])).length,
      1,
    ],
    ['renew its lease', async (jobId: string) => (await renewLeases(database.sql, [{ jobId, attempt: 2 }], 1000)).length, 1],
  ])('is told apart from the newest, which can %s', async (_, write, outcome) => {
    expect(await write(await jobOfAttemptTwo())).toBe(outcome);
  });
});

test('a job that a stranger has locked counts as held, and keeps nobody else from renewing', async () => {
  const [locked = '', free = ''] = await Promise.all(
    Array.from({ length: 2 }, () => aJob(database.sql, { callerId, state: 'PROCESSING', leaseSeconds: 5 })),
  );
  const leaseOf = async (id: string) =>
    (await database.sql<{ left: number }[]>`select extract(epoch from lease_until - now())::integer as left from jobs where id = ${id}`)[0]
      ?.left;
  await database.sql.begin(async (stranger) => {
    await stranger`select from jobs where id = ${locked} for update`;
    const renewed = await renewLeases(
      database.sql,
      [locked, free].map((jobId) => ({ jobId, attempt: 1 })),
      1_000,
    );
    expect(renewed.map(({ jobId }) => jobId).toSorted()).toEqual([locked, free].toSorted());
    expect(await leaseOf(free)).toBeGreaterThan(900);
    expect(await leaseOf(locked)).toBeLessThanOrEqual(5);
  });
});

describe('submissions', () => {
  async function insert(submissions: Parameters<typeof insertJobs>[1]) {
    const insertions = await insertJobs(database.sql, submissions, 60);
    return insertions.flatMap((insertion) => (insertion.kind === 'created' ? [insertion.job] : []));
  }

  test('come back in their order, with a first event and their place in the queue', async () => {
    const provider = 'a queue of its own';
    const ids = Array.from({ length: 5 }, (_, index) => `019b7602-7c00-7000-8000-00000000000${index}`);
    const jobs = await insert(ids.map((id) => ({ id, submission: aSubmission(callerId, { provider, sessionId: id }) })));
    expect(jobs.map(({ id, sessionId, queuePosition, state, attempt }) => ({ id, sessionId, queuePosition, state, attempt }))).toEqual(
      ids.map((id, queuePosition) => ({ id, sessionId: id, queuePosition, state: 'QUEUED', attempt: 0 })),
    );
    const events = await database.sql`select job_id, sequence, state from job_events where job_id = any(${ids}) order by job_id`;
    expect(events).toEqual(ids.map((job_id) => ({ job_id, sequence: 1, state: 'QUEUED' })));
  });

  test('keep the exact text of their input', async () => {
    const input = '{"z":12345678901234567890,"a":1.0,"a2":"\\u00e9\\n{}\\"\\\\", "n":null}' as JsonText;
    const id = '019b7602-7c00-7000-8000-000000000010';
    const [job] = await insert([{ id, submission: aSubmission(callerId, { input }) }]);
    expect(job?.input).toBe(input);
    expect((await readJobs(database.sql, [{ id, callerId }]))[0]?.input).toBe(input);
  });
});

describe('reading', () => {
  test('answers in the order of the questions, with undefined for foreign, unknown and expired jobs', async () => {
    const stranger = await aCaller(database.sql);
    const mine = await aJob(database.sql, { callerId });
    const foreign = await aJob(database.sql, { callerId: stranger });
    const expired = await aJob(database.sql, { callerId, state: 'COMPLETED', expiresInSeconds: -1 });
    const unknown = '019b7602-7c00-7000-8000-0000000000ff';
    const jobs = await readJobs(
      database.sql,
      [foreign, mine, unknown, expired, mine].map((id) => ({ id, callerId })),
    );
    expect(jobs.map((job) => job?.id)).toEqual([undefined, mine, undefined, undefined, mine]);
  });

  test('counts the jobs ahead in the same queue, waiting ones only', async () => {
    const provider = 'positions';
    const first = await aJob(database.sql, { callerId, provider, state: 'PROCESSING' });
    const waiting = [await aJob(database.sql, { callerId, provider }), await aJob(database.sql, { callerId, provider })];
    await aJob(database.sql, { callerId, provider: 'another' });
    waiting.sort();
    const positions = await readJobs(
      database.sql,
      [first, ...waiting].map((id) => ({ id, callerId })),
    );
    expect(positions.map((job) => job?.queuePosition)).toEqual([undefined, 0, 1]);
  });

  test('lists only the own, living jobs, the newest first, by state and behind a cursor', async () => {
    const me = await aCaller(database.sql);
    const ids = [];
    for (const state of ['QUEUED', 'COMPLETED', 'QUEUED'] as const)
      ids.unshift(await aJob(database.sql, { callerId: me, state, id: idOf(ids.length) }));
    await aJob(database.sql, { callerId: me, state: 'FAILED', expiresInSeconds: -1 });
    const list = async (filter: object) => (await listJobs(database.sql, { callerId: me, limit: 10, ...filter })).map(({ id }) => id);
    expect(await list({})).toEqual(ids);
    expect(await list({ limit: 2 })).toEqual(ids.slice(0, 2));
    expect(await list({ before: ids[0] })).toEqual(ids.slice(1));
    expect(await list({ state: 'QUEUED' })).toEqual([ids[0], ids[2]]);
    expect(await list({ state: ['QUEUED', 'COMPLETED'] })).toEqual(ids);
    expect(await list({ skip: 1, limit: 1 })).toEqual([ids[1]]);
    expect(await list({ state: [] })).toEqual([]);
    expect(await list({ model: 'another' })).toEqual([]);
  });

  test('can be of one model and one time', async () => {
    const me = await aCaller(database.sql);
    const id = await aJob(database.sql, { callerId: me });
    const [job] = await readJobs(database.sql, [{ id, callerId: me }]);
    if (!job) throw new Error('the job is gone');
    const list = async (filter: object) => (await listJobs(database.sql, { callerId: me, limit: 10, ...filter })).length;
    const around = (ms: number) => new Date(job.createdAt.getTime() + ms);
    expect(await list({ model: job.model, createdAfter: around(-1), createdBefore: around(1) })).toBe(1);
    expect(await list({ createdAfter: around(1) })).toBe(0);
    expect(await list({ createdBefore: around(-1) })).toBe(0);
  });
});

function idOf(number: number): string {
  return `019b7602-7c00-7000-9000-0000000000${String(number).padStart(2, '0')}`;
}

describe('an attempt', () => {
  test('takes over the handle of a run that was given back or lost, and of no other', async () => {
    const released = await aJob(database.sql, { callerId, state: 'PROCESSING', handle: { run: 1 } });
    const lost = await aJob(database.sql, { callerId, state: 'PROCESSING', handle: { run: 2 }, leaseSeconds: -1 });
    const failed = await aJob(database.sql, { callerId, state: 'PROCESSING', handle: { run: 3 } });
    await requeueJobs(database.sql, [
      { jobId: released, attempt: 1, outcome: 'released', delayMs: 0 },
      { jobId: failed, attempt: 1, outcome: 'failed', failure: FAILURE, delayMs: 0 },
    ]);
    await rescueJobs(database.sql, { crashesMax: 3, limit: 10 });
    const claims = [released, lost, failed].map((jobId) => ({ jobId, workerId: 'w' }));
    const attempts = await claimJobs(database.sql, claims, 10);
    expect(attempts.map((attempt) => [attempt?.job.attempt, attempt?.handle, attempt?.failedAttempts])).toEqual([
      [2, '{"run":1}', 0],
      [2, '{"run":2}', 0],
      [2, undefined, 1],
    ]);
  });

  test('begins no earlier than its retry is due', async () => {
    const jobId = await aJob(database.sql, { callerId, state: 'PROCESSING' });
    await requeueJobs(database.sql, [{ jobId, attempt: 1, outcome: 'failed', failure: FAILURE, delayMs: 60_000 }]);
    expect(await claimJobs(database.sql, [{ jobId, workerId: 'w' }], 10)).toEqual([undefined]);
    await database.sql`update jobs set available_at = db_now() where id = ${jobId}`;
    expect((await claimJobs(database.sql, [{ jobId, workerId: 'w' }], 10))[0]?.job.attempt).toBe(2);
  });

  test('reports progress forwards only', async () => {
    const jobId = await aJob(database.sql, { callerId, state: 'PROCESSING' });
    for (const progress of [0.5, 0.25, 0.75]) await recordProgress(database.sql, [{ jobId, attempt: 1, progress }]);
    const events = await database.sql`select progress from job_events where job_id = ${jobId} and type = 'progress' order by sequence`;
    expect(events).toEqual([{ progress: 0.5 }, { progress: 0.75 }]);
  });
});

describe('upkeep', () => {
  test('gives jobs of vanished workers back until they have lost too many, then names them', async () => {
    const rescued = await aJob(database.sql, { callerId, state: 'PROCESSING', leaseSeconds: -1, crashedAttempts: 1 });
    const poisonous = await aJob(database.sql, { callerId, state: 'PROCESSING', leaseSeconds: -1, crashedAttempts: 2 });
    const alive = await aJob(database.sql, { callerId, state: 'PROCESSING', leaseSeconds: 5 });
    const ids = (await rescueJobs(database.sql, { crashesMax: 3, limit: 10 })).map(({ id }) => id);
    expect(ids).toEqual([rescued]);
    expect(await listPoisonous(database.sql, { crashesMax: 3, limit: 10 })).toEqual([{ jobId: poisonous, attempt: 1 }]);
    expect(await database.sql`select state from jobs where id = ${alive}`).toEqual([{ state: 'PROCESSING' }]);
  });

  test('names waiting jobs whose doorbell rang long ago, once per silence', async () => {
    const silent = await aJob(database.sql, { callerId });
    await aJob(database.sql, { callerId });
    await database.sql`update jobs set rung_at = now() - interval '1 minute', available_at = now() - interval '1 minute' where id = ${silent}`;
    const options = { silentSeconds: 15, limit: 1000 };
    expect((await listSilent(database.sql, options)).map(({ id }) => id)).toEqual([silent]);
    expect(await listSilent(database.sql, options)).toEqual([]);
  });

  test('deletes expired jobs with all that is theirs, and no other', async () => {
    const expired = await aJob(database.sql, { callerId, state: 'COMPLETED', expiresInSeconds: -1 });
    const living = await aJob(database.sql, { callerId, state: 'COMPLETED' });
    for (const [token, id] of [
      ['a', expired],
      ['b', living],
    ] as const)
      await database.sql`insert into assets (token, job_id, content_type, file_name, bytes, sha256) values (${token}, ${id}, 'x', 'x', 1, 'x')`;
    expect(await listExpired(database.sql, 1000)).toContain(expired);
    await deleteJobs(database.sql, [expired, living]);
    const count = async (id: string) => {
      const [row] = await database.sql`
        select (select count(*) from jobs where id = ${id})::int as jobs, (select count(*) from attempts where job_id = ${id})::int as attempts,
          (select count(*) from job_events where job_id = ${id})::int as events, (select count(*) from assets where job_id = ${id})::int as assets`;
      return row;
    };
    expect(await count(expired)).toEqual({ jobs: 0, attempts: 0, events: 0, assets: 0 });
    expect(await count(living)).toEqual({ jobs: 1, attempts: 1, events: 3, assets: 1 });
  });

  test('expires only jobs that have ended', async () => {
    const ended = await aJob(database.sql, { callerId, state: 'FAILED' });
    const running = await aJob(database.sql, { callerId, state: 'PROCESSING' });
    expect(await expireJobs(database.sql, [ended, running])).toEqual([ended]);
    expect((await readJobs(database.sql, [{ id: ended, callerId }]))[0]).toBeUndefined();
  });
});

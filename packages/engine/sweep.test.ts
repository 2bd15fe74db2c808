import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aDelivery, aJob, anUpstream, aSubmission } from './testing/fixtures.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine({ settings: { resultTtlSeconds: 100 } });
});
afterEach(() => owned[Symbol.asyncDispose]());

const nothing = { rescued: 0, quarantined: 0, timedOut: 0, rung: 0, rungAgain: 0, purged: 0 };
const aJobIn = (fields: object) => aJob(owned.sql, { callerId: owned.callerId, ...fields });
const countOf = async (table: 'jobs' | 'attempts' | 'job_events' | 'assets' | 'deliveries' | 'sends') => {
  const counts = await owned.sql`
    select (select count(*)::int from jobs) as jobs, (select count(*)::int from attempts) as attempts,
      (select count(*)::int from job_events) as job_events, (select count(*)::int from assets) as assets,
      (select count(*)::int from deliveries) as deliveries, (select count(*)::int from sends) as sends`;
  return counts[0]?.[table];
};

test('a sweep with nothing to do does nothing and says nothing', async () => {
  await aJobIn({});
  await aJobIn({ state: 'PROCESSING' });
  await aJobIn({ state: 'COMPLETED' });
  const before = await owned.sql`select * from jobs order by id`;
  expect(await owned.engine.sweep.once()).toEqual(nothing);
  expect(await owned.sql`select * from jobs order by id`).toEqual(before);
  expect(owned.logged).toEqual([]);
});

describe('an ended job', () => {
  test('is readable for as long as results are kept, then gone with its rows and files', async () => {
    const id = await aJobIn({ state: 'PROCESSING' });
    const { location } = await owned.engine.assets.store(id, { bytes: Buffer.from('x'), contentType: 'text/plain', fileName: 'x' });
    const token = 'asset' in location ? location.asset : '';
    const path = join(owned.assetsFolder, token.slice(0, 2), token);
    const reference = { id, callerId: owned.callerId };
    await owned.engine.cancel(reference);
    await owned.setClockAhead(95);
    expect(await owned.engine.sweep.once()).toEqual(nothing);
    expect(await owned.engine.read(reference)).toMatchObject({ state: 'CANCELLED' });
    await access(path);
    await owned.setClockAhead(101);
    expect(await owned.engine.read(reference)).toBeUndefined();
    expect(await owned.engine.sweep.once()).toEqual({ ...nothing, purged: 1 });
    for (const table of ['jobs', 'attempts', 'job_events', 'assets'] as const) expect(await countOf(table)).toBe(0);
    await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('that is one of many is purged in batches until none is left', async () => {
    await owned.sql`
      insert into jobs (id, caller_id, dialect, model, provider, input, base_url, state, failure_code, failure_message, finished_at, expires_at, deadline_at)
      select gen_random_uuid(), ${owned.callerId}, 'native', 'm', 'p', '{}', 'u', 'FAILED', 'internal', 'x', db_now(), db_now(), db_now()
      from generate_series(1, 1200)`;
    const purged: number[] = [];
    do purged.push((await owned.engine.sweep.once()).purged);
    while (purged.at(-1) !== 0);
    expect(Math.max(...purged)).toBeLessThanOrEqual(500);
    expect(purged.reduce((sum, count) => sum + count)).toBe(1200);
    expect(await countOf('jobs')).toBe(0);
  });

  test('may be purged by several processes at once', async () => {
    await using other = await owned.sibling();
    for (let made = 0; made < 50; made++) await aJobIn({ state: 'COMPLETED', expiresInSeconds: -1 });
    await Promise.all([owned, other, owned, other].map(({ engine }) => engine.sweep.once()));
    expect(await countOf('jobs')).toBe(0);
  });
});

describe('a delivery', () => {
  test('that is still owed outlives its job', async () => {
    const id = await aJobIn({ state: 'PROCESSING', webhookUrl: 'http://127.0.0.1:1/' });
    await owned.engine.cancel({ id, callerId: owned.callerId });
    await owned.setClockAhead(100_000);
    expect(await owned.engine.sweep.once()).toMatchObject({ purged: 1 });
    expect(await owned.sql`select job_id, state from deliveries`).toEqual([{ job_id: id, state: 'PENDING' }]);
  });

  test.each(['DELIVERED', 'FAILED', 'HELD'] as const)(
    'that is %s can be looked at for as long as the log is kept, then is gone with its sends',
    async (state) => {
      const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: 'http://127.0.0.1:1/', state });
      await owned.sql`insert into sends (delivery_id, number, started_at, duration_ms) values (${id}, 1, now(), 1)`;
      await owned.setClockAhead(86_300);
      await owned.engine.sweep.once();
      expect(await countOf('deliveries')).toBe(1);
      await owned.setClockAhead(86_401);
      await owned.engine.sweep.once();
      expect([await countOf('deliveries'), await countOf('sends')]).toEqual([0, 0]);
    },
  );
});

describe('the message of a delivery', () => {
  test.each([
    ['DELIVERED', null],
    ['FAILED', 'secret content'],
    ['HELD', 'secret content'],
    ['PENDING', 'secret content'],
  ] as const)('that is %s is %j once results of its time are gone: it is kept only while it is owed', async (state, body) => {
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: 'http://127.0.0.1:1/', state, body: 'secret content' });
    await owned.setClockAhead(95);
    await owned.engine.sweep.once();
    expect(await owned.sql`select body from deliveries where id = ${id}`).toEqual([{ body: 'secret content' }]);
    await owned.setClockAhead(101);
    await owned.engine.sweep.once();
    expect(await owned.sql`select body from deliveries where id = ${id}`).toEqual([{ body }]);
  });
});

test('of a job that its caller removes, nothing stays in what was delivered, and what is owed is kept', async () => {
  const id = await aJobIn({ state: 'COMPLETED' });
  const fields = { callerId: owned.callerId, url: 'http://127.0.0.1:1/', jobId: id, body: 'secret content' };
  const delivered = await aDelivery(owned.sql, { ...fields, state: 'DELIVERED' });
  const owed = await aDelivery(owned.sql, { ...fields, url: 'http://127.0.0.1:2/' });
  await owned.engine.purge({ id, callerId: owned.callerId });
  const bodyOf = async (delivery: string) =>
    (await owned.sql<{ body: string }[]>`select body from deliveries where id = ${delivery}`)[0]?.body;
  expect([await bodyOf(delivered), await bodyOf(owed)]).toEqual([null, 'secret content']);
});

describe('a worker that died', () => {
  test('with more attempts than one signal can name gives all of them back', async () => {
    await owned.sql`
      with dead as (
        insert into jobs (id, caller_id, dialect, model, provider, input, base_url, state, attempt, lease_until, deadline_at)
        select gen_random_uuid(), ${owned.callerId}, 'native', 'm', 'p', '{}', 'u', 'PROCESSING', 1, db_now() - interval '1 second', db_now() + interval '1 hour'
        from generate_series(1, 700) returning id
      )
      insert into attempts (job_id, number, provider, worker_id) select id, 1, 'p', 'dead' from dead`;
    const rescued: number[] = [];
    do rescued.push((await owned.engine.sweep.once()).rescued);
    while (rescued.at(-1) !== 0);
    expect(rescued.reduce((sum, count) => sum + count)).toBe(700);
    expect(await owned.sql`select distinct state from jobs`).toEqual([{ state: 'QUEUED' }]);
  });

  test('has its job failed, and not given to another, once the deadline is past', async () => {
    const id = await aJobIn({ state: 'PROCESSING', leaseSeconds: -1 });
    await owned.sql`update jobs set deadline_at = db_now() - interval '1 second' where id = ${id}`;
    expect(await owned.engine.sweep.once()).toEqual({ ...nothing, timedOut: 1 });
    expect(await owned.engine.read({ id, callerId: owned.callerId })).toMatchObject({ state: 'FAILED', failure: { code: 'timeout' } });
  });

  test('is noticed by one of several sweeps at once', async () => {
    await using other = await owned.sibling();
    await aJobIn({ state: 'PROCESSING', leaseSeconds: -1 });
    const reports = await Promise.all([owned, other, owned, other].map(({ engine }) => engine.sweep.once()));
    expect(reports.reduce((sum, { rescued }) => sum + rescued, 0)).toBe(1);
    expect(await owned.sql`select crashed_attempts from jobs`).toEqual([{ crashed_attempts: 1 }]);
  });
});

describe.each(QUEUES)('on %s, a sweep that was started', (queue) => {
  test('brings jobs to their end whose doorbells were lost, by itself', async () => {
    await using engine = await createTestEngine({ queue });
    const { id } = await engine.engine.submit(aSubmission(engine.callerId));
    await expect.poll(() => engine.doorbells()).toHaveLength(1);
    await engine.loseDoorbells();
    engine.startWorker(anUpstream());
    await engine.setClockAhead(20);
    engine.startSweep();
    const ended = await engine.engine.wait({ id, callerId: engine.callerId }, { until: 'end', timeoutMs: 60_000 });
    expect(ended?.state).toBe('COMPLETED');
  });
});

test('a sweep goes on after one that failed', async () => {
  const clock = createTestClock();
  await using engine = await owned.sibling({ clock });
  await owned.sql`alter table deliveries rename to away`;
  engine.startSweep();
  await expect.poll(() => engine.logged.map(({ message }) => message)).toContain('sweep failed');
  await owned.sql`alter table away rename to deliveries`;
  const id = await aJobIn({ state: 'PROCESSING', leaseSeconds: -1 });
  // It rests in between, also when no job is scheduled.
  await expect.poll(() => clock.sleeping).toContain(1_000);
  clock.advance(1_000);
  await expect.poll(async () => (await owned.sql`select state from jobs where id = ${id}`)[0]?.state).toBe('QUEUED');
});

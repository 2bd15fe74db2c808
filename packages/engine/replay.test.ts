import { AppError, type Log, newId, type Replay, systemClock } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ReplayRange } from './deliveries.ts';
import { stepReplays } from './replay.ts';
import { stepReplay } from './storage/resends.ts';
import { aCaller, aDelivery, type DeliveryFields } from './testing/fixtures.ts';
import { listen } from './testing/index.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const NOWHERE = 'http://127.0.0.1:1/hook';
const POLL = { timeout: 60_000, interval: 10 };
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
/** Everything that these tests make. */
const EVER: ReplayRange = { since: new Date('2020-01-01T00:00:00Z') };

let owned: TestEngine;
let stranger: string;
beforeEach(async () => {
  owned = await createTestEngine();
  stranger = await aCaller(owned.sql);
});
afterEach(() => owned[Symbol.asyncDispose]());

const failed = (fields: Partial<DeliveryFields> = {}) =>
  aDelivery(owned.sql, { callerId: owned.callerId, url: NOWHERE, state: 'FAILED', ...fields });
const start = (range: ReplayRange = EVER) => owned.engine.deliveries.startReplay(owned.callerId, range);
const step = ({ database }: TestEngine = owned) => stepReplays({ database, log });
const read = ({ id, callerId }: Replay) => owned.engine.deliveries.readReplay({ id, callerId });
/** Those that a replay has made due. */
const dueIds = async () =>
  (await owned.sql<{ id: string }[]>`select id from deliveries where state = 'PENDING' and trigger = 'replay' order by id`).map(
    ({ id }) => id,
  );
const errorOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('a replay', () => {
  test('makes what FAILED or was HELD due again, and is done then', async () => {
    const ids = [await failed(), await failed({ state: 'HELD' })].toSorted();
    const others = [await failed({ state: 'DELIVERED' }), await failed({ state: 'PENDING' })];
    const replay = await start();
    expect(replay).toMatchObject({ callerId: owned.callerId, states: ['FAILED', 'HELD'], perSecond: 50, queued: 0 });
    expect(replay).not.toHaveProperty('finishedAt');
    expect(await step()).toBeUndefined();
    expect(await dueIds()).toEqual(ids);
    expect(await read(replay)).toEqual({ ...replay, queued: 2, finishedAt: expect.any(Date) });
    const untouched = await owned.sql`select claim, trigger from deliveries where id = any(${others}::uuid[])`;
    expect(untouched).toEqual(others.map(() => ({ claim: 0, trigger: 'auto' })));
  });

  test('takes DELIVERED ones when asked, and only the states it was asked for', async () => {
    const delivered = await failed({ state: 'DELIVERED' });
    await failed();
    await start({ ...EVER, states: ['DELIVERED'] });
    await step();
    expect(await dueIds()).toEqual([delivered]);
  });

  test('remembers where each delivery returns when it fails', async () => {
    const ids = [await failed(), await failed({ state: 'HELD' })];
    await start();
    await step();
    const rows =
      await owned.sql`select falls_back_to, finished_at, failure_code, claim from deliveries where id = any(${ids}::uuid[]) order by falls_back_to`;
    expect(rows).toEqual(['FAILED', 'HELD'].map((state) => ({ falls_back_to: state, finished_at: null, failure_code: null, claim: 1 })));
  });

  test('leaves out test sends, lost messages and what belongs to others', async () => {
    const test = await failed();
    await owned.sql`update deliveries set job_id = null where id = ${test}`;
    const erased = await failed({ state: 'DELIVERED' });
    await owned.sql`update deliveries set body = null where id = ${erased}`;
    await failed({ callerId: stranger });
    const replay = await start({ ...EVER, states: ['FAILED', 'HELD', 'DELIVERED'] });
    expect(await step()).toBeUndefined();
    expect(await dueIds()).toEqual([]);
    expect(await read(replay)).toMatchObject({ queued: 0, finishedAt: expect.any(Date) });
  });

  test('begins with what was made at its first instant and ends short of its last', async () => {
    const madeAt = async (instant: string) => {
      const id = await failed();
      await owned.sql`update deliveries set created_at = ${instant}::text::timestamptz where id = ${id}`;
      return id;
    };
    await madeAt('2026-01-01T11:59:59.999Z');
    const first = await madeAt('2026-01-01T12:00:00Z');
    const last = await madeAt('2026-01-01T12:59:59.999Z');
    await madeAt('2026-01-01T13:00:00Z');
    await start({ since: new Date('2026-01-01T12:00:00Z'), before: new Date('2026-01-01T13:00:00Z') });
    await step();
    expect(await dueIds()).toEqual([first, last].toSorted());
  });

  test('reaches to now at the latest', async () => {
    const [{ now } = { now: new Date(0) }] = await owned.sql<{ now: Date }[]>`select db_now() as now`;
    const far = await start({ ...EVER, before: new Date('9999-12-31T00:00:00Z') });
    const open = await start();
    for (const { before } of [far, open]) expect(Math.abs(before.getTime() - now.getTime())).toBeLessThan(60_000);
  });

  test.each([
    ['its first instant is to come', { since: new Date('9999-12-31T00:00:00Z') }],
    ['its first instant is its last', { since: new Date(5_000), before: new Date(5_000) }],
    ['it is turned around', { since: new Date(6_000), before: new Date(5_000) }],
  ])('is refused when %s', async (_case, range) => {
    const error = await errorOf(start(range));
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({ code: 'invalid_parameters', problems: [{ pointer: '/since' }] });
    expect(await owned.sql`select from replays`).toEqual([]);
  });

  test('may begin at instants that only mathematicians know', async () => {
    const id = await failed();
    await start({ since: new Date('-000100-01-01T00:00:00Z') });
    await step();
    expect(await dueIds()).toEqual([id]);
  });

  test('is one of ten at a time', async () => {
    for (let count = 0; count < 10; count += 1) await start();
    expect(await errorOf(start())).toMatchObject({ code: 'conflict' });
    await owned.engine.deliveries.startReplay(stranger, EVER);
    await step();
    expect(await start()).toMatchObject({ queued: 0 });
  });

  test('is forgotten with the log it worked on', async () => {
    const old = await start();
    await step();
    await owned.setClockAhead(86_300);
    const young = await start();
    expect(await read(old)).toBeDefined();
    await owned.setClockAhead(86_401);
    await start();
    expect(await read(old)).toBeUndefined();
    expect(await read(young)).toBeDefined();
  });

  test('of another caller is unknown, and cannot be stopped', async () => {
    const replay = await start();
    const foreign = { id: replay.id, callerId: stranger };
    expect(await owned.engine.deliveries.readReplay(foreign)).toBeUndefined();
    expect(await owned.engine.deliveries.stopReplay(foreign)).toBeUndefined();
    expect(await read(replay)).toEqual(replay);
    expect(await owned.engine.deliveries.readReplay({ id: newId(systemClock), callerId: owned.callerId })).toBeUndefined();
  });

  test('that is stopped goes no further, and stopping it again changes nothing', async () => {
    for (let count = 0; count < 3; count += 1) await failed();
    const replay = await start({ ...EVER, perSecond: 1 });
    await step();
    const stopped = await owned.engine.deliveries.stopReplay(replay);
    expect(stopped).toMatchObject({ queued: 1, finishedAt: expect.any(Date) });
    await owned.setClockAhead(10);
    expect(await step()).toBeUndefined();
    expect(await owned.engine.deliveries.stopReplay(replay)).toEqual(stopped);
    expect(await dueIds()).toHaveLength(1);
  });
});

describe('the pace of a replay', () => {
  test('is so many deliveries a second, the oldest first', async () => {
    const ids = (await Promise.all(Array.from({ length: 7 }, () => failed()))).toSorted();
    const replay = await start({ ...EVER, perSecond: 2 });
    const wait = await step();
    expect(wait).toBeGreaterThan(500);
    expect(wait).toBeLessThanOrEqual(1_000);
    expect(await dueIds()).toEqual(ids.slice(0, 2));
    // Before its time nothing happens, however often it is tried.
    await step();
    expect(await dueIds()).toHaveLength(2);
    await owned.setClockAhead(1.1);
    await step();
    expect(await dueIds()).toEqual(ids.slice(0, 4));
    expect(await read(replay)).toMatchObject({ queued: 4 });
    // What was missed is not made up for in a burst.
    await owned.setClockAhead(100);
    expect(await step()).toBeGreaterThan(500);
    expect(await dueIds()).toHaveLength(6);
  });

  test('does not suffer from the many that it is not about', async () => {
    const wanted: string[] = [];
    for (let count = 0; count < 12; count += 1) {
      const id = await failed({ state: count % 5 === 0 ? 'FAILED' : 'DELIVERED' });
      if (count % 5 === 0) wanted.push(id);
    }
    const replay = await start({ ...EVER, perSecond: 1_000 });
    // Four looks at three each, and one that finds the end.
    for (let looks = 0; looks < 10; looks += 1) {
      await owned.setClockAhead(looks + 1);
      await stepReplay(owned.sql, { lookAt: 3 });
    }
    expect(await dueIds()).toEqual(wanted.toSorted());
    expect(await read(replay)).toMatchObject({ queued: 3, finishedAt: expect.any(Date) });
  });

  test('leaves nothing out when a look has more than a second may have', async () => {
    const ids = await Promise.all(Array.from({ length: 7 }, () => failed()));
    const replay = await start({ ...EVER, perSecond: 2 });
    for (let second = 1; second <= 6; second += 1) {
      await stepReplay(owned.sql, { lookAt: 3 });
      await owned.setClockAhead(second * 1.1);
    }
    expect(await dueIds()).toEqual(ids.toSorted());
    expect(await read(replay)).toMatchObject({ queued: 7, finishedAt: expect.any(Date) });
  });

  test('is kept by several replays, each its own', async () => {
    for (let count = 0; count < 4; count += 1) await failed();
    for (let count = 0; count < 4; count += 1) await failed({ state: 'HELD' });
    await start({ ...EVER, states: ['FAILED'], perSecond: 1 });
    await start({ ...EVER, states: ['HELD'], perSecond: 2 });
    await step();
    expect(await dueIds()).toHaveLength(3);
  });
});

describe('the progress of a replay', () => {
  test('is where another process goes on when one dies between two steps', async () => {
    const ids = await Promise.all(Array.from({ length: 6 }, () => failed()));
    const replay = await start({ ...EVER, perSecond: 2 });
    {
      await using dying = await owned.sibling();
      await step(dying);
    }
    await using next = await owned.sibling();
    for (let second = 1; second <= 4; second += 1) {
      await owned.setClockAhead(second * 1.1);
      await step(next);
    }
    expect(await dueIds()).toEqual(ids.toSorted());
    expect(await owned.sql`select distinct claim from deliveries`).toEqual([{ claim: 1 }]);
    expect(await read(replay)).toMatchObject({ queued: 6, finishedAt: expect.any(Date) });
  });

  test('is not saved without what it stands for when a process dies in the middle of a step', async () => {
    const ids = await Promise.all(Array.from({ length: 3 }, () => failed()));
    const replay = await start({ ...EVER, perSecond: 2 });
    const dying = owned.sql.begin(async (sql) => {
      expect(await stepReplay(sql, { lookAt: 100 })).toMatchObject({ queued: 2 });
      throw new Error('killed');
    });
    await expect(dying).rejects.toThrow('killed');
    expect(await dueIds()).toEqual([]);
    expect(await read(replay)).toEqual(replay);
    await step();
    await owned.setClockAhead(2);
    await step();
    expect(await dueIds()).toEqual(ids.toSorted());
  });

  test('is made by one process at a time: two that step at once take nothing twice and pass nothing over', async () => {
    const ids = await Promise.all(Array.from({ length: 60 }, () => failed()));
    await using other = await owned.sibling();
    const replay = await start({ ...EVER, perSecond: 5 });
    for (let second = 1; second <= 15; second += 1) {
      await Promise.all([step(), step(other), step(), step(other)]);
      expect((await dueIds()).length).toBeLessThanOrEqual(5 * second);
      await owned.setClockAhead(second * 1.1);
    }
    expect(await dueIds()).toEqual(ids.toSorted());
    expect(await owned.sql`select distinct claim from deliveries`).toEqual([{ claim: 1 }]);
    expect(await read(replay)).toMatchObject({ queued: 60, finishedAt: expect.any(Date) });
  });

  test('is not held up by a step that another process has not finished', async () => {
    await failed();
    await start();
    const begun = Promise.withResolvers<void>();
    const mayEnd = Promise.withResolvers<void>();
    const slow = owned.sql.begin(async (sql) => {
      await stepReplay(sql, { lookAt: 100 });
      begun.resolve();
      await mayEnd.promise;
    });
    await begun.promise;
    expect(await stepReplay(owned.sql, { lookAt: 100 })).toBeUndefined();
    mayEnd.resolve();
    await slow;
    expect(await owned.sql`select distinct claim from deliveries`).toEqual([{ claim: 1 }]);
  });

  test('does not count what somebody sends again at the same moment', async () => {
    const id = await failed();
    const replay = await start();
    const begun = Promise.withResolvers<void>();
    const mayEnd = Promise.withResolvers<void>();
    // As a resend does it, with the row locked until the replay has come to it.
    const resend = owned.sql.begin(async (sql) => {
      await sql`
        update deliveries set state = 'PENDING', trigger = 'manual', finished_at = null, failure_code = null, falls_back_to = state, claim = claim + 1
        where id = ${id}`;
      begun.resolve();
      await mayEnd.promise;
    });
    await begun.promise;
    const stepping = step();
    const waits = () => owned.sql`select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
    await expect.poll(waits, POLL).toHaveLength(1);
    mayEnd.resolve();
    await Promise.all([resend, stepping]);
    expect(await owned.sql`select trigger, falls_back_to, claim from deliveries`).toEqual([
      { trigger: 'manual', falls_back_to: 'FAILED', claim: 1 },
    ]);
    expect(await read(replay)).toMatchObject({ queued: 0, finishedAt: expect.any(Date) });
  });
});

describe('what is replayed', () => {
  test('is sent under its id, also to a disabled endpoint, whose success ends that', async () => {
    const received: unknown[] = [];
    await using receiver = await listen((request, response) => {
      received.push(request.headers['webhook-id']);
      response.end();
    });
    const id = await failed({ url: receiver.url, state: 'HELD' });
    await owned.sql`
      insert into webhook_endpoints (caller_id, endpoint, url, disabled_at, disabled_reason)
      select caller_id, endpoint, url, db_now(), 'failing' from deliveries where id = ${id}`;
    owned.startDispatcher();
    await start();
    await step();
    const state = async () => (await owned.engine.deliveries.read({ id, callerId: owned.callerId }))?.delivery;
    await expect.poll(async () => (await state())?.state, POLL).toBe('DELIVERED');
    expect(received).toEqual([id]);
    expect((await state())?.endpoint).toEqual({ state: 'ok' });
  });

  test('and fails again is as it was, and is not held against its endpoint', async () => {
    await using receiver = await listen((_request, response) => response.writeHead(500).end());
    const ids = [await failed({ url: receiver.url }), await failed({ url: receiver.url, state: 'HELD' })];
    owned.startDispatcher();
    await start();
    await step();
    const sends = () => owned.sql`select trigger, status from sends`;
    await expect.poll(sends, POLL).toEqual(ids.map(() => ({ trigger: 'replay', status: 500 })));
    const rows = await owned.sql`select state from deliveries order by state`;
    expect(rows).toEqual([{ state: 'FAILED' }, { state: 'HELD' }]);
    expect(await owned.sql`select from webhook_endpoints`).toEqual([]);
  });
});

import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../testing/index.ts';
import { startTcpProxy } from '../testing/tcp-proxy.ts';
import { type Database, openDatabase } from './connection.ts';

let owned: TestDatabase;

beforeAll(async () => {
  owned = await createTestDatabase();
});
afterAll(() => owned[Symbol.asyncDispose]());

test('JSON columns keep the text as it came, numbers and order of keys too', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  const text = '{"b": 12345678901234567890, "a":1.0,  "b2":[1e2]}';
  const [row] = await database.sql`select ${text}::text::json as document`;
  expect(row?.document).toBe(text);
  await database.close();
});

test('arrays go to the server and come back as they are', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  const texts = ['plain', '', 'NULL', 'a,b', '{c}', '"quoted"', String.raw`back\slash`, 'tab\tline\n', ' spaces ', 'ü', null];
  const ids = ['01a1fc15-50cc-784f-a4c1-4fad1b9e6054', null];
  const [row] = await database.sql`
    select ${texts}::text[] as texts, ${ids}::uuid[] as ids, ${[1, -2, null]}::integer[] as numbers, ${[0.5, 1e-7]}::float8[] as fractions,
      ${[true, false, null]}::boolean[] as truths, ${[]}::text[] as nothing, (select count(*)::integer from unnest(${texts}::text[])) as count`;
  expect(row).toEqual({
    texts,
    ids,
    numbers: [1, -2, null],
    fractions: [0.5, 1e-7],
    truths: [true, false, null],
    nothing: [],
    count: texts.length,
  });
  await database.close();
});

test('a statement that runs too long ends with an error, and the connection works on', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1, statementTimeoutMs: 100 });
  await expect(database.sql`select pg_sleep(60)`).rejects.toMatchObject({ code: '57014' });
  expect(await database.sql`select 1 as one`).toEqual([{ one: 1 }]);
  await database.close();
});

test('a transaction whose client fell silent does not keep its locks', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  const [row] = await database.sql`select current_setting('idle_in_transaction_session_timeout') as timeout`;
  expect(row).toEqual({ timeout: '30s' });
  await database.close();
});

test('a connection that goes half-open ends its query with an error, and the pool works again through a new one', async () => {
  await using proxy = await startTcpProxy(owned.url, 5432);
  const database = openDatabase({ url: proxy.through(owned.url), applicationName: 'test', poolSize: 1, statementTimeoutMs: 100 });
  await database.sql`select 1`;
  proxy.silence();
  const startedMs = performance.now();
  await expect(database.sql`select 1`).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  // The deadline, and two seconds of grace.
  expect(performance.now() - startedMs).toBeLessThan(9_000);
  proxy.revive();
  expect(await database.sql`select 2 as two`).toEqual([{ two: 2 }]);
  expect(proxy.connections).toBeGreaterThan(1);
  await database.close();
});

test('a server that accepts and then says nothing ends the first query with an error', async () => {
  await using proxy = await startTcpProxy(owned.url, 5432);
  proxy.silence();
  const database = openDatabase({ url: proxy.through(owned.url), applicationName: 'test', poolSize: 1, connectTimeoutMs: 200 });
  await expect(database.sql`select 1`).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  await expect(database.orm((orm) => orm.execute('select 1'))).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  proxy.revive();
  expect(await database.sql`select 2 as two`).toEqual([{ two: 2 }]);
  await database.close();
});

test('a connection that rests for longer than the deadline is not taken for a dead one', async () => {
  await using proxy = await startTcpProxy(owned.url, 5432);
  const rested = openDatabase({ url: proxy.through(owned.url), applicationName: 'test', poolSize: 1, statementTimeoutMs: 100 });
  const busy = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  await rested.sql`select 1`;
  await busy.sql`select pg_sleep(2.3)`;
  expect(await rested.sql`select 2 as two`).toEqual([{ two: 2 }]);
  expect(proxy.connections).toBe(1);
  await Promise.all([rested.close(), busy.close()]);
});

test('a refused connection ends queries with an error, and the pool works once the server is back', async () => {
  await using proxy = await startTcpProxy(owned.url, 5432);
  const database = openDatabase({ url: proxy.through(owned.url), applicationName: 'test', poolSize: 2 });
  await database.sql`select 1`;
  await proxy.refuse();
  await expect(database.sql`select 1`).rejects.toThrow();
  await proxy.accept();
  await expect.poll(() => database.sql`select 2 as two`.catch(() => 'not yet')).toEqual([{ two: 2 }]);
  await database.close();
});

/** Ends the backends that sleep, once there are `count` of them. */
async function terminateSleepers(admin: Database, count: number): Promise<void> {
  const sleepers = () => admin.sql`
    select pid from pg_stat_activity where application_name = 'victims' and query like '%pg_sleep%' and state = 'active'`;
  await expect.poll(sleepers, { interval: 5 }).toHaveLength(count);
  await admin.sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victims'`;
}

test('terminated backends end their statements with an error, and the next statement works', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'victims', poolSize: 3 });
  const admin = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  const broken = [1, 2, 3].map(() => database.sql`select pg_sleep(30)`.catch((error: unknown) => error));
  await terminateSleepers(admin, 3);
  for (const error of await Promise.all(broken)) expect(error).toBeInstanceOf(Error);
  expect(await Promise.all([1, 2, 3, 4].map(() => database.sql`select 1 as one`))).toHaveLength(4);
  await Promise.all([database.close(), admin.close()]);
});

test('a backend that is terminated in a transaction kills neither the process nor the pool', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'victims', poolSize: 1 });
  const admin = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  for (let round = 1; round <= 3; round++) {
    const broken = database.sql.begin((sql) => sql`select pg_sleep(30)`).catch((error: unknown) => error);
    await terminateSleepers(admin, 1);
    expect(await broken).toBeInstanceOf(Error);
    expect(await database.sql.begin((sql) => sql`select 2 as two`)).toEqual([{ two: 2 }]);
  }
  await Promise.all([database.close(), admin.close()]);
});

test('a connection that is cut in a transaction kills neither the process nor the pool', async () => {
  await using proxy = await startTcpProxy(owned.url, 5432);
  const database = openDatabase({ url: proxy.through(owned.url), applicationName: 'victims', poolSize: 1 });
  const admin = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  const broken = database.sql.begin((sql) => sql`select pg_sleep(30)`);
  const refused = expect(broken).rejects.toThrow();
  const sleepers = () =>
    admin.sql`select from pg_stat_activity where query like '%pg_sleep%' and state = 'active' and application_name = 'victims'`;
  await expect.poll(sleepers, { interval: 5 }).toHaveLength(1);
  await proxy.refuse();
  await refused;
  await proxy.accept();
  await expect.poll(() => database.sql`select 2 as two`.catch(() => 'not yet')).toEqual([{ two: 2 }]);
  await Promise.all([database.close(), admin.close()]);
});

test('a transaction whose work throws is rolled back, and its connection goes on', async () => {
  const database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  const spoilt = database.sql.begin(async (sql) => {
    await sql`create table spoilt ()`;
    throw new Error('changed my mind');
  });
  await expect(spoilt).rejects.toThrow('changed my mind');
  await expect(database.sql.begin((sql) => sql`select * from spoilt`)).rejects.toMatchObject({ code: '42P01' });
  expect(await database.sql`select to_regclass('spoilt') as spoilt`).toEqual([{ spoilt: null }]);
  await database.close();
});

test('a server that comes and goes under load leaves a pool that works, and no statement that never ends', async () => {
  await using proxy = await startTcpProxy(owned.url, 5432);
  const database = openDatabase({ url: proxy.through(owned.url), applicationName: 'test', poolSize: 5 });
  let over = false;
  const ended = { well: 0, badly: 0 };
  const callers = Array.from({ length: 12 }, async (_, caller) => {
    while (!over) {
      const statement = caller % 3 === 0 ? database.sql.begin((sql) => sql`select pg_sleep(0.001)`) : database.sql`select pg_sleep(0.001)`;
      await statement.then(
        () => ended.well++,
        () => ended.badly++,
      );
    }
  });
  for (let round = 1; round <= 10; round++) {
    const before = ended.well;
    await expect.poll(() => ended.well, { interval: 1 }).toBeGreaterThan(before + 20);
    await proxy.refuse();
    await proxy.accept();
  }
  const before = ended.well;
  await expect.poll(() => ended.well, { interval: 1 }).toBeGreaterThan(before + 20);
  over = true;
  await Promise.all(callers);
  expect(ended.badly).toBeGreaterThan(0);
  await database.close();
});

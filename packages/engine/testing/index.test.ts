import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import postgres from 'postgres';
import { expect, test } from 'vitest';
import { createTestDatabase, listen, redisUrl } from './index.ts';

async function query<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

test('a test database has every migration, and what happens in it is not seen in another', async () => {
  await using one = await createTestDatabase();
  await using two = await createTestDatabase();
  const files = (await readdir(new URL('../../../migrations/', import.meta.url))).filter((file) => file.endsWith('.sql'));
  await query(one.url, (sql) => sql`create table only_here ()`);
  const [seen] = await query(
    two.url,
    (sql) => sql`select to_regclass('only_here') as other, (select count(*)::int from schema_migrations) as migrations`,
  );
  expect(seen).toEqual({ other: null, migrations: files.length });
});

test('the clock of a test database can be set ahead, and of that one alone', async () => {
  await using one = await createTestDatabase();
  await using two = await createTestDatabase();
  await one.setClockAhead(3_600);
  const ahead = (url: string) => query(url, (sql) => sql`select extract(epoch from db_now() - now())::int as seconds`);
  expect(await ahead(one.url)).toMatchObject([{ seconds: 3_600 }]);
  expect(await ahead(two.url)).toMatchObject([{ seconds: 0 }]);
});

test('many test databases can be made at once', async () => {
  const databases = await Promise.all(Array.from({ length: 8 }, () => createTestDatabase()));
  expect(new Set(databases.map(({ url }) => url)).size).toBe(8);
  await Promise.all(databases.map((database) => database[Symbol.asyncDispose]()));
});

test('a disposed database is gone, even while someone is connected', async () => {
  const database = await createTestDatabase();
  const sql = postgres(database.url, { max: 1 });
  await sql`select 1`;
  await database[Symbol.asyncDispose]();
  await expect(query(database.url, (sql) => sql`select 1`)).rejects.toMatchObject({ code: '3D000' });
  await sql.end();
});

test('the Redis of the run answers', async () => {
  const { hostname, port, protocol } = new URL(redisUrl());
  expect(protocol).toMatch(/^rediss?:$/);
  const socket = connect(Number(port || 6379), hostname);
  socket.write('PING\r\n');
  // A server with a password answers too, by asking for it.
  const answer = await new Promise((resolve, reject) => socket.once('data', resolve).once('error', reject));
  socket.destroy();
  expect(String(answer)).toMatch(/^(\+PONG|-NOAUTH)/);
});

test('a test server answers over HTTP until it is closed', async () => {
  const server = await listen((request, response) => response.end(request.url));
  expect(await (await fetch(`${server.url}/path`)).text()).toBe('/path');
  await server.close();
  await expect(fetch(server.url)).rejects.toThrow();
});

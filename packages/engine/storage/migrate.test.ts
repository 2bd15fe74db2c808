import { readdir } from 'node:fs/promises';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { migrateDatabase } from '../index.ts';
import { createTestDatabase, type TestDatabase } from '../testing/index.ts';
import { type Database, openDatabase } from './connection.ts';
import { checkSchema, MigrationError, migrate } from './migrate.ts';

let names: string[];

beforeAll(async () => {
  const files = await readdir(new URL('../../../migrations/', import.meta.url));
  names = files.filter((file) => file.endsWith('.sql')).map((file) => file.slice(0, -4));
  names.sort();
});

/** A database as `create database` leaves it. */
async function emptyDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  const sql = postgres(database.url, { max: 1, onnotice: () => {} });
  await sql.unsafe('drop schema if exists bullmq cascade; drop schema public cascade; create schema public');
  await sql.end();
  return database;
}

test('an empty database gets every migration in order, and nothing the second time', async () => {
  await using database = await emptyDatabase();
  expect(await migrate(database.url)).toEqual(names);
  expect(await migrate(database.url)).toEqual([]);
});

test('of two processes that migrate at once one applies everything and the other nothing', async () => {
  await using database = await emptyDatabase();
  const applied = await Promise.all([migrateDatabase(database.url), migrateDatabase(database.url), migrateDatabase(database.url)]);
  expect(applied.flat()).toEqual(names);
});

test('a migration that fails leaves nothing behind', async () => {
  await using database = await emptyDatabase();
  const sql = postgres(database.url, { max: 1, onnotice: () => {} });
  // In the way of a table that comes late in the file.
  await sql`create table sends (id integer)`;
  await expect(migrate(database.url)).rejects.toMatchObject({ code: '42P07' });
  const tables = await sql`select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'`;
  expect(tables.map(({ relname }) => relname)).toEqual(['sends']);
  await sql.end();
});

describe('a schema that does not fit the code', () => {
  let owned: TestDatabase;
  let database: Database;
  beforeAll(async () => {
    owned = await createTestDatabase();
    database = openDatabase({ url: owned.url, applicationName: 'test', poolSize: 1 });
  });
  afterAll(async () => {
    await database.close();
    await owned[Symbol.asyncDispose]();
  });

  async function refusals(): Promise<unknown[]> {
    return Promise.all([migrate(owned.url).catch((error: unknown) => error), checkSchema(database.sql).catch((error: unknown) => error)]);
  }

  test('fits as it was migrated', async () => {
    await expect(checkSchema(database.sql)).resolves.toBeUndefined();
  });

  test('because an applied file was changed is refused with its name', async () => {
    await database.sql`update schema_migrations set checksum = 'other' where version = 1`;
    for (const error of await refusals()) {
      expect(error).toBeInstanceOf(MigrationError);
      expect(error).toMatchObject({ message: `Migration ${names[0]} was changed after it had been applied: restore the file.` });
    }
    await database.sql`delete from schema_migrations where version = 1`;
  });

  test('because a file was not applied yet is refused by the check, with what to run', async () => {
    await expect(checkSchema(database.sql)).rejects.toThrow(
      `The database lacks 1 migration(s), the first is ${names[0]}: run "npm run migrate".`,
    );
  });

  test('because it is newer is refused with what to install', async () => {
    await database.sql`insert into schema_migrations (version, name, checksum) values (9999, '9999_future', 'x')`;
    for (const error of await refusals()) {
      expect(error).toBeInstanceOf(MigrationError);
      expect(error).toMatchObject({
        message: 'The database has migration 9999_future, which this version of claimcheck does not know: install a newer version.',
      });
    }
  });
});

import type { PgColumn } from 'drizzle-orm/pg-core';
import { expect, test } from 'vitest';
import { createTestDatabase } from '../testing/index.ts';
import { openDatabase } from './connection.ts';
import { getTableConfig, PgTable } from './drizzle.ts';
import * as schema from './schema.ts';

interface Column {
  readonly type: string;
  readonly nullable: boolean;
}

/** Drizzle's name of a type as Postgres spells it. */
function typeOf(column: PgColumn): string {
  return column.getSQLType().replace('timestamp with time zone', 'timestamptz');
}

test('the tables of Drizzle are those of the migrated database, column by column, in both directions', async () => {
  await using database = await createTestDatabase();
  const { sql, close } = openDatabase({ url: database.url, applicationName: 'test', poolSize: 1 });
  const rows = await sql<{ table: string; column: string; type: string; nullable: boolean }[]>`
    select class.relname as table, attname as column, replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz') as type,
      not attnotnull as nullable
    from pg_attribute join pg_class as class on class.oid = attrelid
    where class.relnamespace = 'public'::regnamespace and class.relkind = 'r' and attnum > 0 and not attisdropped`;
  await close();
  const migrated: Record<string, Record<string, Column>> = {};
  for (const { table, column, type, nullable } of rows) migrated[table] = { ...migrated[table], [column]: { type, nullable } };
  // Migrations keep their own book.
  delete migrated.schema_migrations;

  const drawn: Record<string, Record<string, Column>> = {};
  for (const table of Object.values(schema)) {
    if (!(table instanceof PgTable)) continue;
    const { name, columns, primaryKeys } = getTableConfig(table);
    const keyed = new Set(primaryKeys.flatMap((key) => key.columns.map((column) => column.name)));
    drawn[name] = Object.fromEntries(
      columns.map((column) => [column.name, { type: typeOf(column), nullable: !column.notNull && !keyed.has(column.name) }]),
    );
  }
  expect(Object.keys(drawn)).not.toHaveLength(0);
  expect(drawn).toEqual(migrated);
});

/** Applies `migrations/NNNN_name.sql` in order, each once, under an advisory lock so that several processes may start together. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { StartError } from '@claimcheck/core';
import { openDatabase, type Sql } from './connection.ts';

const MIGRATIONS_FOLDER = new URL('../../../migrations/', import.meta.url);
/** Any constant of our own; the lock is per database. */
const MIGRATION_LOCK = 0x636c6169;

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the text: an applied file must never change. */
  readonly checksum: string;
}

/** The schema and the code do not fit each other; the message says which way and what to do. */
export class MigrationError extends StartError {
  override readonly name = 'MigrationError';
}

/** Brings the database to the newest schema. Returns the names it applied; calling it again applies nothing. */
export async function migrate(databaseUrl: string): Promise<readonly string[]> {
  const migrations = await readMigrations();
  const database = openDatabase({ url: databaseUrl, applicationName: 'claimcheck-migrate', poolSize: 1, statementTimeoutMs: 0 });
  try {
    return await database.sql.begin(async (sql) => {
      await sql`select pg_advisory_xact_lock(${MIGRATION_LOCK})`;
      await sql`
        create table if not exists schema_migrations (
          version integer primary key,
          name text not null,
          checksum text not null,
          applied_at timestamptz not null default now()
        )`;
      const pending = pendingMigrations(migrations, await sql<Applied[]>`select version, name, checksum from schema_migrations`);
      for (const migration of pending) {
        await sql.script(migration.sql);
        await sql`insert into schema_migrations (version, name, checksum) values (${migration.version}, ${migration.name}, ${migration.checksum})`;
      }
      return pending.map(({ name }) => name);
    });
  } finally {
    await database.close();
  }
}

/** Resolves when the database has exactly the schema of this code. @throws MigrationError otherwise. */
export async function checkSchema(sql: Sql): Promise<void> {
  const [{ exists } = { exists: false }] = await sql<{ exists: boolean }[]>`select to_regclass('schema_migrations') is not null as exists`;
  const applied = exists ? await sql<Applied[]>`select version, name, checksum from schema_migrations` : [];
  const pending = pendingMigrations(await readMigrations(), applied);
  if (pending.length > 0) {
    throw new MigrationError(`The database lacks ${pending.length} migration(s), the first is ${pending[0]?.name}: run "npm run migrate".`);
  }
}

interface Applied {
  readonly version: number;
  readonly name: string;
  readonly checksum: string;
}

function pendingMigrations(migrations: readonly Migration[], applied: readonly Applied[]): readonly Migration[] {
  const known = new Map(migrations.map((migration) => [migration.version, migration]));
  for (const { version, name, checksum } of applied) {
    const migration = known.get(version);
    if (!migration)
      throw new MigrationError(
        `The database has migration ${name}, which this version of claimcheck does not know: install a newer version.`,
      );
    if (migration.checksum !== checksum)
      throw new MigrationError(`Migration ${name} was changed after it had been applied: restore the file.`);
  }
  const done = new Set(applied.map(({ version }) => version));
  return migrations.filter(({ version }) => !done.has(version));
}

async function readMigrations(): Promise<readonly Migration[]> {
  const files = (await readdir(MIGRATIONS_FOLDER)).filter((file) => /^\d{4}_[a-z0-9_]+\.sql$/.test(file)).sort();
  return Promise.all(
    files.map(async (file) => {
      const sql = await readFile(new URL(file, MIGRATIONS_FOLDER), 'utf8');
      return { version: Number(file.slice(0, 4)), name: file.slice(0, -4), sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

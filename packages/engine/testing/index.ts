/** What tests use of the run's services: a database of their own, Redis, and real HTTP servers. */
import { randomBytes } from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import { systemClock } from '@claimcheck/core';
import postgres from 'postgres';
import { inject } from 'vitest';

export { type Program, providePrograms } from './programs.ts';

export interface TestDatabase extends AsyncDisposable {
  readonly url: string;
  /** Sets the database's clock this far ahead of the real one, for everyone who uses it: what was to expire by then has expired. */
  setClockAhead(seconds: number): Promise<void>;
}

/** Postgres says so while another session is connected to the template, as autovacuum is now and then. */
const TEMPLATE_IN_USE = '55006';
const TRIES = 50;

/** A migrated and otherwise empty database for one test file or test. Disposing drops it, whoever is still connected. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const template = new URL(inject('templateDatabaseUrl'));
  const name = `test_${randomBytes(8).toString('hex')}`;
  for (let tries = 1; ; tries++) {
    try {
      // Copying files costs half of what writing every block to the log does, which is the default.
      const admin = administrator();
      await admin`create database ${admin(name)} template ${admin(template.pathname.slice(1))} strategy file_copy`;
      break;
    } catch (error) {
      if (tries === TRIES || !(error instanceof postgres.PostgresError) || error.code !== TEMPLATE_IN_USE) throw error;
      await systemClock.sleep(20);
    }
  }
  return {
    url: databaseUrl(name),
    setClockAhead: async (seconds) => {
      const body = `select now() + interval '${Number(seconds)} seconds'`;
      await runOn(name, (sql) =>
        sql.unsafe(`create or replace function db_now() returns timestamptz language sql stable as $$ ${body} $$`),
      );
    },
    // From the server's own database, so that nobody is connected to the template, or to what is dropped.
    [Symbol.asyncDispose]: async () => {
      const admin = administrator();
      await admin`drop database if exists ${admin(name)} with (force)`;
    },
  };
}

/** The run's Redis. All test files share it: keep apart by a prefix of your own. */
export function redisUrl(): string {
  return inject('redisUrl');
}

export interface TestServer extends AsyncDisposable {
  /** Without a trailing slash. */
  readonly url: string;
  close(): Promise<void>;
}

/** A real HTTP server on a free port of the loopback address. Closing breaks what is still open. */
export async function listen(handler: RequestListener): Promise<TestServer> {
  const server = createServer(handler);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('a server that listens on a port has an address');
  const close = async () => {
    if (!server.listening) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
  return { url: `http://127.0.0.1:${address.port}`, close, [Symbol.asyncDispose]: close };
}

function databaseUrl(name: string): string {
  const url = new URL(inject('templateDatabaseUrl'));
  url.pathname = `/${name}`;
  return url.href;
}

let administering: postgres.Sql | undefined;

/** One connection for all databases of a test file; it closes by itself, so that it does not hold up the end. */
function administrator(): postgres.Sql {
  administering ??= postgres(databaseUrl('postgres'), { max: 1, idle_timeout: 5, onnotice: () => {} });
  return administering;
}

async function runOn(database: string, work: (sql: postgres.Sql) => Promise<unknown>): Promise<void> {
  const sql = postgres(databaseUrl(database), { max: 1, onnotice: () => {} });
  try {
    await work(sql);
  } finally {
    await sql.end();
  }
}

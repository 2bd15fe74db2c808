/** Opens the engine for a process of the service: waits for its servers, checks the schema, connects. */
import { type Job, type Log, StartError, type WebhookMessage } from '@claimcheck/core';
import { type Engine, openEngine } from './index.ts';
import { waitForDatabase, waitForRedis } from './migrate.ts';
import { type EngineVariables, engineOptionsFrom } from './settings.ts';
import { openDatabase } from './storage/connection.ts';
import { checkSchema } from './storage/migrate.ts';

/** A database that is started together with us, as by compose, may take this long. */
export const DATABASE_WAIT_MS = 30_000;
const REDIS_WAIT_MS = 10_000;

export interface ConnectOptions {
  readonly variables: EngineVariables;
  readonly log: Log;
  readonly applicationName: string;
  readonly encodeWebhook: (job: Job) => WebhookMessage;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
}

/** @throws StartError that names the variable of a server that does not answer, or what to do about an old schema. */
export async function connectEngine({ variables, log, signal, ...options }: ConnectOptions): Promise<Engine> {
  const url = requireDatabaseUrl(variables);
  await waitForDatabase({ databaseUrl: url, timeoutMs: DATABASE_WAIT_MS, signal, onWait: () => log.info({}, 'waiting for the database') });
  if (variables.REDIS_URL !== undefined) await waitForRedis(variables.REDIS_URL, REDIS_WAIT_MS);
  const database = openDatabase({ url, applicationName: options.applicationName, poolSize: 1 });
  try {
    await checkSchema(database.sql);
  } finally {
    await database.close();
  }
  return openEngine({ ...engineOptionsFrom(variables, url), ...options, log });
}

/** @throws StartError when DATABASE_URL is unset: only the standalone app brings a database of its own. */
export function requireDatabaseUrl(variables: Pick<EngineVariables, 'DATABASE_URL'>): string {
  if (variables.DATABASE_URL === undefined) {
    throw new StartError('DATABASE_URL is not set: name a PostgreSQL database, or run "npm start", which brings its own.');
  }
  return variables.DATABASE_URL;
}

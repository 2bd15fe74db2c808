/** Opens the engine for a process of the service: waits for its servers, checks the schema and the bucket, connects. */
import { type LimitedRoute, type Log, StartError, systemClock, type WebhookEncoder } from '@claimcheck/core';
import { openS3Place, type S3Options } from './assets-s3.ts';
import type { SignWebhook } from './context.ts';
import { type Engine, openEngine } from './index.ts';
import { waitForDatabase, waitForRedis } from './migrate.ts';
import { readRedisDurability } from './queue.ts';
import { keyIdIn, keyIdOf } from './secret-box.ts';
import { type EngineVariables, engineOptionsFrom, MAKE_SECRET_KEY } from './settings.ts';
import { clockSkewMs, openDatabase, type Sql } from './storage/connection.ts';
import { checkSchema } from './storage/migrate.ts';
import { findSealedSamples } from './storage/webhook-secrets.ts';

/** A database that is started together with us, as by compose, may take this long. */
export const DATABASE_WAIT_MS = 30_000;
const REDIS_WAIT_MS = 10_000;
const CLOCK_SKEW_MS_MAX = 1_000;

export interface ConnectOptions {
  readonly variables: EngineVariables;
  readonly log: Log;
  readonly applicationName: string;
  readonly encodeWebhook: WebhookEncoder;
  /** As EngineOptions. */
  readonly signWebhook?: SignWebhook;
  /** As EngineOptions. */
  readonly limitedRoutes?: readonly LimitedRoute[];
  /** True for a process that signs webhooks or shows their secrets: without SECRET_KEY it does not start. */
  readonly needsSecretKey: boolean;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
}

/** @throws StartError that names the variable of a server that does not answer, or what to do about an old schema. */
export async function connectEngine({ variables, log, signal, needsSecretKey, ...options }: ConnectOptions): Promise<Engine> {
  const url = requireDatabaseUrl(variables);
  if (needsSecretKey && variables.SECRET_KEY === undefined) {
    throw new StartError(
      `SECRET_KEY is not set, which encrypts webhook secrets: ${MAKE_SECRET_KEY}, and give it to every API and dispatcher.`,
    );
  }
  await waitForDatabase({ databaseUrl: url, timeoutMs: DATABASE_WAIT_MS, signal, onWait: () => log.info({}, 'waiting for the database') });
  if (variables.REDIS_URL !== undefined) {
    await waitForRedis(variables.REDIS_URL, REDIS_WAIT_MS);
    await warnOfRedis(variables.REDIS_URL, log);
  }
  const database = openDatabase({ url, applicationName: options.applicationName, poolSize: 1 });
  try {
    await checkSchema(database.sql);
    await warnOfClock(database.sql, log);
    if (needsSecretKey) await warnOfKeys(database.sql, variables, log);
  } finally {
    await database.close();
  }
  const engineOptions = engineOptionsFrom(variables, url);
  if (engineOptions.s3) await checkBucket(engineOptions.s3);
  return openEngine({ ...engineOptions, ...options, log });
}

/** @throws StartError when files could not be stored there, or read. */
async function checkBucket(s3: S3Options): Promise<void> {
  const place = openS3Place(s3);
  try {
    await place.check();
  } finally {
    place.close?.();
  }
}

/** Such a Redis works, and the sweep brings back what it forgets, but later than anyone wants. */
async function warnOfRedis(redisUrl: string, log: Log): Promise<void> {
  const { evictionPolicy, isAppendOnly } = await readRedisDurability(redisUrl);
  if (evictionPolicy !== undefined && evictionPolicy !== 'noeviction') {
    log.warn({ evictionPolicy }, 'this Redis throws queue entries away when it is full: set maxmemory-policy to noeviction');
  }
  if (isAppendOnly === false) log.warn({}, 'this Redis forgets queue entries when it is killed: set appendonly to yes');
}

/** The service does all else meanwhile, and a caller whose secret is lost for good can still rotate, so this does not end the start. */
async function warnOfKeys(sql: Sql, { SECRET_KEY = [] }: EngineVariables, log: Log): Promise<void> {
  const known = new Set(SECRET_KEY.map(keyIdOf));
  const keyIds = (await findSealedSamples(sql)).map(keyIdIn).filter((keyId) => !known.has(keyId));
  if (keyIds.length > 0)
    log.error({ keyIds }, 'webhook secrets are encrypted with keys that are not in SECRET_KEY: add those behind the first');
}

/** The database's clock decides everything that matters; a wrong local one only misleads people and waits inside this process. */
async function warnOfClock(sql: Sql, log: Log): Promise<void> {
  const skewMs = await clockSkewMs(sql, systemClock);
  if (Math.abs(skewMs) > CLOCK_SKEW_MS_MAX)
    log.warn({ skewMs }, 'the clock of this machine differs from that of the database: synchronise both');
}

/** @throws StartError when DATABASE_URL is unset: only the standalone app brings a database of its own. */
export function requireDatabaseUrl(variables: Pick<EngineVariables, 'DATABASE_URL'>): string {
  if (variables.DATABASE_URL === undefined) {
    throw new StartError('DATABASE_URL is not set: name a PostgreSQL database, or run "npm start", which brings its own.');
  }
  return variables.DATABASE_URL;
}

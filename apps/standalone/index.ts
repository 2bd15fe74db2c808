/** Everything in one process: API, worker and dispatcher, with an embedded Postgres unless DATABASE_URL names another. */
import { startApi } from '@claimcheck/api';
import { loadCatalog } from '@claimcheck/catalog';
import { type Environment, type Log, limitedRoutes, type Running, StartError } from '@claimcheck/core';
import { loadDialects, webhookEncoder, webhookSigner } from '@claimcheck/dialects';
import { startDispatcherApp } from '@claimcheck/dispatcher';
import {
  type AllowList,
  connectEngine,
  DATABASE_WAIT_MS,
  DEFAULT_CALLER,
  type Engine,
  migrateDatabase,
  parseAllowList,
  waitForDatabase,
} from '@claimcheck/engine';
import { startEmbeddedPostgres } from '@claimcheck/engine/embedded-postgres';
import { loadProviders, openProviders } from '@claimcheck/providers';
import { startWorkerApp } from '@claimcheck/worker';
import type { StandaloneVariables } from './config.ts';
import { ownSecretKeys } from './secret-key.ts';

export interface StandaloneOptions {
  readonly variables: StandaloneVariables;
  /** Where adapters find their own variables. */
  readonly environment: Environment;
  readonly log: Log;
  /** Ends a start that takes too long for the operator. */
  readonly signal: AbortSignal;
}

export interface Standalone extends Running {
  readonly url: string;
  /** A key that was made because there was none; it cannot be shown again. */
  readonly newKey?: string;
}

/** Starts everything; when it resolves the service takes requests. @throws StartError. */
export async function startStandalone({ variables, environment, log, signal }: StandaloneOptions): Promise<Standalone> {
  // What can be wrong without a database is found before one is started.
  const knownProviders = await loadProviders();
  const catalog = await loadCatalog({
    ...(variables.MODELS_DIR !== undefined && { modelsDir: variables.MODELS_DIR }),
    providers: knownProviders,
  });
  const providers = openProviders(knownProviders, environment);
  const dialects = await loadDialects();
  // Last started, first stopped.
  await using started = new AsyncDisposableStack();
  const database = variables.DATABASE_URL === undefined ? await startEmbedded(variables, log) : externalDatabase(variables.DATABASE_URL);
  started.defer(() => database.stop());
  await waitForDatabase({
    databaseUrl: database.url,
    timeoutMs: DATABASE_WAIT_MS,
    signal,
    onWait: () => log.info({}, 'waiting for the database'),
  });
  const applied = await migrateDatabase(database.url);
  if (applied.length > 0) log.info({ applied }, 'database migrated');
  const engine = await connectEngine({
    variables: {
      ...variables,
      DATABASE_URL: database.url,
      SECRET_KEY: variables.SECRET_KEY ?? (await ownSecretKeys(variables.DATA_DIR)),
      WEBHOOK_ALLOW_NETWORKS: webhookAllowOf(variables),
    },
    log,
    signal,
    applicationName: 'claimcheck',
    needsSecretKey: true,
    limitedRoutes: limitedRoutes(catalog.list()),
    encodeWebhook: webhookEncoder(dialects, { statusNumbering: variables.WEBHOOK_STATUS_NUMBERING }),
    signWebhook: webhookSigner(dialects),
  });
  started.defer(() => engine.close());
  const dispatcher = startDispatcherApp({ engine, log });
  const worker = startWorkerApp({ engine, catalog, providers, variables, log });
  started.defer(async () => {
    await Promise.all([worker.stop(), dispatcher.stop()]);
  });
  const api = await startApi({
    engine,
    catalog,
    dialects,
    providers,
    variables,
    log,
  });
  started.defer(() => api.stop());
  const newKey = await firstKey(engine, variables);
  const running = started.move();
  return {
    url: variables.PUBLIC_URL ?? api.url,
    ...(newKey !== undefined && { newKey }),
    ...(database.broken && { broken: database.broken }),
    stop: () => running.disposeAsync(),
  };
}

/**
 * Who tries the service on one machine has the receiver there as well. As soon as others can reach it, they must not be able to call what
 * listens on loopback through it.
 */
function webhookAllowOf({ HOST, WEBHOOK_ALLOW_NETWORKS }: StandaloneVariables): AllowList {
  const isLocal = HOST === 'localhost' || HOST === '::1' || /^127(\.\d+){3}$/.test(HOST);
  return WEBHOOK_ALLOW_NETWORKS ?? parseAllowList(isLocal ? '127.0.0.1,::1' : '').allow;
}

interface StartedDatabase {
  readonly url: string;
  stop(): Promise<void>;
  readonly broken?: Promise<never>;
}

function externalDatabase(url: string): StartedDatabase {
  return { url, stop: () => Promise.resolve() };
}

async function startEmbedded({ DATA_DIR }: StandaloneVariables, log: Log): Promise<StartedDatabase> {
  const embedded = await startEmbeddedPostgres({ dataDir: DATA_DIR, log });
  let stopping = false;
  const broken = Promise.withResolvers<never>();
  // Nobody may be waiting for it, as when it dies while the start fails for another reason.
  broken.promise.catch(() => {});
  void embedded.exited.then(() => {
    if (!stopping)
      broken.reject(new StartError('The embedded database ended by itself; its last words are in the log. Start again to recover.'));
  });
  return {
    url: embedded.url,
    broken: broken.promise,
    stop() {
      stopping = true;
      return embedded.stop();
    },
  };
}

/** A key for whoever started a service that has none. */
async function firstKey({ keys }: Engine, { BOOTSTRAP_API_KEY }: StandaloneVariables): Promise<string | undefined> {
  if (BOOTSTRAP_API_KEY !== undefined || (await keys.exist())) return undefined;
  return (await keys.create({ caller: DEFAULT_CALLER, name: 'made at the first start' })).key;
}

/** The engine: what the service does, over Postgres and BullMQ. Apps use this file only. */
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { type Clock, type LimitedRoute, type Log, systemClock, type WebhookEncoder } from '@claimcheck/core';
import { openAssetStore } from './assets.ts';
import { openDiskPlace } from './assets-disk.ts';
import { openS3Place, type S3Options } from './assets-s3.ts';
import { type Cancelling, makeCancelling } from './cancel.ts';
import type { EngineContext, EngineSettings, SignWebhook } from './context.ts';
import { type RunningDispatcher, startDispatcher } from './deliver.ts';
import { type Deliveries, makeDeliveries } from './deliveries.ts';
import { type FollowTokens, makeFollowTokens } from './follow-tokens.ts';
import { type Keys, makeKeys } from './keys.ts';
import { type AllowList, type Guard, openGuard } from './outbound/index.ts';
import { makeOutputs, type OutputSettings } from './outputs.ts';
import packageJson from './package.json' with { type: 'json' };
import { makeProviderHealth } from './provider-health.ts';
import { openQueue } from './queue.ts';
import { makeReading, type Reading } from './read.ts';
import { makeReceive, type Receive, type ReceiverOptions } from './receive.ts';
import { makeRouter, type Router, type RouterOptions } from './route.ts';
import { type RunningWorker, startWorker, type WorkerOptions } from './run.ts';
import { openSecretBox } from './secret-box.ts';
import { DEFAULT_OUTPUTS, DEFAULT_UPLOADS } from './settings.ts';
import { makeSettle } from './settle.ts';
import { openDatabase } from './storage/connection.ts';
import { checkSchema } from './storage/migrate.ts';
import { listenToSignals } from './storage/signals.ts';
import { makeRing, makeSubmit, type Submit } from './submit.ts';
import { makeSweep, type Sweep } from './sweep.ts';
import { makeUploads, type UploadSettings, type Uploads } from './uploads.ts';
import { makeWebhookSecrets, type WebhookSecrets } from './webhook-secrets.ts';

export type { Asset, AssetStore, StreamedFile } from './assets.ts';
export type { S3Options } from './assets-s3.ts';
export { type ConnectOptions, connectEngine, DATABASE_WAIT_MS, requireDatabaseUrl } from './connect.ts';
export type { EngineSettings, SignWebhook } from './context.ts';
export type { RunningDispatcher } from './deliver.ts';
export type { Deliveries, ReplayRange, WebhookTest } from './deliveries.ts';
export type { FollowTokens } from './follow-tokens.ts';
export { DEFAULT_CALLER, type KeyOwner, type Keys, newKey, openKeys, type StoredKey } from './keys.ts';
export { type LogOptions, openLog } from './log.ts';
export { migrateDatabase, waitForDatabase, waitForRedis } from './migrate.ts';
export { type AllowList, parseAllowList } from './outbound/index.ts';
export type { KeepRequest, OutputSettings, Outputs } from './outputs.ts';
export type { ListOptions, Reading, WaitOptions } from './read.ts';
export type { Receive, Received, ReceivedCallback, ReceiverOptions } from './receive.ts';
export type { Router, RouterOptions } from './route.ts';
export type { RunningWorker, WorkerOptions } from './run.ts';
export { newSecretKey, parseSecretKeys } from './secret-box.ts';
export { checkS3, databaseUrl, type EngineVariables, engineOptionsFrom, engineSettings, wholeNumber } from './settings.ts';
export type { DeliveryReference } from './storage/delivery-log.ts';
export type { JobReference } from './storage/jobs.ts';
export { MigrationError } from './storage/migrate.ts';
export type { Submitted } from './submit.ts';
export type { RunningSweep, Sweep, SweepReport } from './sweep.ts';
export type { AnnouncedFile, Arrival, IncomingFile, UploadSettings, Uploads } from './uploads.ts';
export type { WebhookSecrets } from './webhook-secrets.ts';
export { type SignedMessage, signatureHeader, type WebhookSigner } from './webhook-signature.ts';

export interface EngineOptions {
  readonly databaseUrl: string;
  /** BullMQ's store; unset, it is the database. */
  readonly redisUrl?: string;
  /** Separates installations that share a Redis. */
  readonly queuePrefix?: string;
  /** Folder of produced files, and of files that are being worked on. */
  readonly assetsFolder: string;
  /** Bucket of produced files, instead of the folder. */
  readonly s3?: S3Options;
  readonly settings: EngineSettings;
  /** The routes with limits of their own, the same in every process that submits or works; none unless given. */
  readonly limitedRoutes?: readonly LimitedRoute[];
  /** Writes the webhook of an ended job in its dialect. */
  readonly encodeWebhook: WebhookEncoder;
  /** Signs webhooks in their dialects' own ways, for a dispatcher; unless given, they are signed as Standard Webhooks only. */
  readonly signWebhook?: SignWebhook;
  /** Keys of webhook secrets: the first encrypts, all decrypt. Unset: webhooks can be neither signed nor sent, nor their secrets shown. */
  readonly secretKeys?: readonly KeyObject[];
  /** What webhooks may call besides public addresses; nothing unless given. */
  readonly webhookAllow?: AllowList;
  /** Where media of upstreams may be fetched from besides public addresses; nowhere unless given. */
  readonly upstreamAllow?: AllowList;
  /** What becomes of media of upstreams; they are copied unless given. */
  readonly outputs?: OutputSettings;
  /** Limits of what clients upload; as the variables' defaults unless given. */
  readonly uploads?: UploadSettings;
  readonly log: Log;
  /** Sent as `user-agent` with webhooks. */
  readonly userAgent?: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface Engine extends Reading, Cancelling {
  readonly submit: Submit;
  readonly keys: Keys;
  readonly webhookSecrets: WebhookSecrets;
  readonly deliveries: Deliveries;
  readonly followTokens: FollowTokens;
  /** What is wrong with a webhook's URL as it is written; undefined when nothing is. Where its name leads shows when it is called. */
  readonly problemWithWebhook: Guard['problemWith'];
  readonly assets: EngineContext['assets'];
  readonly uploads: Uploads;
  readonly sweep: Sweep;
  startWorker(options: WorkerOptions): RunningWorker;
  /** Chooses the routes of new jobs, and tells which of a model's routes would serve. */
  openRouter(options: RouterOptions): Router;
  /** Hears what upstreams tell of their runs. */
  openReceiver(options: ReceiverOptions): Receive;
  startDispatcher(): RunningDispatcher;
  /** What answers right now. The service can take work while the queue is away, not while the database is. */
  health(): Promise<Health>;
  /** Closes all connections. Stop workers, dispatchers and sweeps first. */
  close(): Promise<void>;
}

export interface Health {
  readonly database: 'ok' | 'unreachable';
  readonly migrations: 'ok' | 'pending' | 'unknown';
  readonly queue: 'ok' | 'unreachable';
}

/** Links of storage services carry signatures and tokens. */
const MEDIA_URL_CHARACTERS_MAX = 8_192;

/** Opens an engine. Connections are made on first use; the schema must be there, see {@link migrateDatabase}. */
export function openEngine(options: EngineOptions): Engine {
  const { log, clock = systemClock, limitedRoutes = [] } = options;
  const database = openDatabase({ url: options.databaseUrl, applicationName: options.applicationName ?? 'claimcheck' });
  const signals = listenToSignals({ databaseUrl: options.databaseUrl, clock, log });
  const health = makeProviderHealth({ clock, database, log, signals });
  const secretBox = openSecretBox(options.secretKeys ?? []);
  const assets = openAssetStore({ place: options.s3 ? openS3Place(options.s3) : openDiskPlace(options.assetsFolder), database });
  const random = options.random ?? Math.random;
  const context: EngineContext = {
    database,
    health,
    queue: openQueue({
      databaseUrl: options.databaseUrl,
      limitedRoutes,
      clock,
      log,
      ...(options.redisUrl !== undefined && { redisUrl: options.redisUrl }),
      ...(options.queuePrefix !== undefined && { prefix: options.queuePrefix }),
    }),
    limitedRoutes,
    signals,
    assets,
    outputs: makeOutputs({
      assets,
      guard: openGuard({ urlCharactersMax: MEDIA_URL_CHARACTERS_MAX, ...(options.upstreamAllow && { allow: options.upstreamAllow }) }),
      clock,
      random,
      log,
      spoolFolder: join(options.assetsFolder, 'incoming'),
      settings: options.outputs ?? DEFAULT_OUTPUTS,
    }),
    webhookSecrets: makeWebhookSecrets({ database, clock, log, signals }, secretBox),
    guard: openGuard({ ...(options.webhookAllow && { allow: options.webhookAllow }) }),
    clock,
    random,
    log,
    settings: options.settings,
    encodeWebhook: options.encodeWebhook,
    signWebhook: options.signWebhook ?? (() => undefined),
  };
  const ring = makeRing(context);
  const settle = makeSettle(context);
  const reading = makeReading(context);
  const uploads = makeUploads(context, options.uploads ?? DEFAULT_UPLOADS);
  return {
    ...reading,
    ...makeCancelling(context, reading, settle),
    submit: makeSubmit(context, ring),
    keys: makeKeys(context),
    assets: context.assets,
    uploads,
    webhookSecrets: context.webhookSecrets,
    deliveries: makeDeliveries(context),
    followTokens: makeFollowTokens(secretBox),
    problemWithWebhook: context.guard.problemWith,
    sweep: makeSweep(context, settle, ring, uploads),
    startWorker: (worker) => startWorker(context, settle, ring, worker),
    openRouter: (router) => makeRouter(context, router),
    openReceiver: (receiver) => makeReceive(context, settle, ring, receiver),
    startDispatcher: () => startDispatcher(context, { userAgent: options.userAgent ?? `claimcheck/${packageJson.version}` }),
    async health() {
      const [database, migrations, queue] = await Promise.allSettled([
        context.database.sql`select 1`,
        checkSchema(context.database.sql),
        context.queue.ping(),
      ]);
      return {
        database: database.status === 'fulfilled' ? 'ok' : 'unreachable',
        migrations: database.status === 'rejected' ? 'unknown' : migrations.status === 'fulfilled' ? 'ok' : 'pending',
        queue: queue.status === 'fulfilled' ? 'ok' : 'unreachable',
      };
    },
    async close() {
      context.health.close();
      await context.signals.close();
      await context.queue.close();
      await context.outputs.close();
      await context.database.close();
      context.assets.close();
    },
  };
}

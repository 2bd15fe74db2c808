/**
 * A whole service for a test: database, engine, worker and dispatcher, the sandbox, and the application in front of them, without a
 * socket unless the test listens. Everything is real; only the waits before retries are shorter.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCatalog } from '@claimcheck/catalog';
import type { Catalog, Log, Model } from '@claimcheck/core';
import { loadDialects, webhookEncoder, webhookSigner } from '@claimcheck/dialects';
import { describedDialect } from '@claimcheck/dialects/testing';
import { type Engine, newSecretKey, openEngine, parseAllowList, parseSecretKeys, type UploadSettings } from '@claimcheck/engine';
import { createTestDatabase, type TestDatabase } from '@claimcheck/engine/testing';
import { loadProviders, openProviders } from '@claimcheck/providers';
import type { Hono } from 'hono';
import { createApp } from '../app.ts';
import { largestBody } from '../bodies.ts';
import { type Listening, listen } from '../server.ts';

export const MODEL = 'hidream-l1-fast';
/** What `app.request` takes for the origin of a request that names none. */
export const ORIGIN = 'http://localhost';

const SILENT: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const RETRY_DELAY_MS = 20;

export interface ServiceOptions {
  /** Runs jobs; without it they stay QUEUED. On by default. */
  readonly worker?: boolean;
  /** BullMQ's store; unset, it is the database. */
  readonly redisUrl?: string;
  /** Another way to the test's database, such as a proxy that a test can break. */
  readonly connectTo?: (databaseUrl: string) => Promise<string>;
  /** As PUBLIC_URL. */
  readonly publicUrl?: string;
  /** Of providers: their keys and base URLs. They may be on this machine, and so may what they produce. Only the sandbox is on unless given. */
  readonly variables?: Readonly<Record<string, string>>;
  /** As MODELS_DIR: models besides those that come along. */
  readonly modelsDir?: string;
  /** As WEBHOOK_ALLOW_NETWORKS; the loopback addresses unless given. */
  readonly webhookAllow?: string;
  readonly log?: Log;
  /** As UPLOAD_BYTES_MAX and UPLOAD_TTL_SECONDS. */
  readonly uploads?: UploadSettings;
}

export interface TestService extends AsyncDisposable {
  readonly app: Hono;
  readonly engine: Engine;
  readonly catalog: Catalog;
  readonly database: TestDatabase;
  /** The key of the caller that `request` and `submit` speak for. */
  readonly key: string;
  /** A key of a caller that exists from now on. */
  newKey(caller: string): Promise<string>;
  /** A request with the key, unless `init` brings headers that say otherwise. */
  request(path: string, init?: RequestInit): Promise<Response>;
  /** A submission that must be accepted; returns the id. */
  submit(parameters: object): Promise<string>;
  /** Listens on a free port of the loopback address until the service is disposed. */
  listen(): Promise<Listening>;
  /** Tells the application that the process drains. */
  startClosing(): void;
}

export async function startTestService(options: ServiceOptions = {}): Promise<TestService> {
  const log = options.log ?? SILENT;
  // Last started, first stopped.
  await using started = new AsyncDisposableStack();
  const database = started.use(await createTestDatabase());
  const folder = await mkdtemp(join(tmpdir(), 'claimcheck-api-'));
  started.defer(() => rm(folder, { recursive: true, force: true }));
  const catalog = await loadCatalog({ ...(options.modelsDir !== undefined && { modelsDir: options.modelsDir }) });
  // So that every answer in every test is as the description of the API says.
  const dialects = (await loadDialects()).map(describedDialect);
  const { upstreams, off } = openProviders(await loadProviders(), options.variables ?? {});
  const engine = openEngine({
    databaseUrl: (await options.connectTo?.(database.url)) ?? database.url,
    ...(options.redisUrl !== undefined && { redisUrl: options.redisUrl, queuePrefix: new URL(database.url).pathname.slice(1) }),
    assetsFolder: join(folder, 'assets'),
    settings: { resultTtlSeconds: 3_600, webhookSchedule: [0, 0], webhookLogSeconds: 86_400 },
    encodeWebhook: webhookEncoder(dialects, { statusNumbering: 'documented' }),
    signWebhook: webhookSigner(dialects),
    secretKeys: parseSecretKeys(newSecretKey()) ?? [],
    // The receivers of tests are there.
    webhookAllow: parseAllowList(options.webhookAllow ?? '127.0.0.1,::1').allow,
    ...(options.variables && { upstreamAllow: parseAllowList('127.0.0.1').allow }),
    ...(options.uploads && { uploads: options.uploads }),
    log,
  });
  started.defer(() => engine.close());
  if (options.worker ?? true) {
    const find = (name: string) => retriedSoon(catalog.find(name));
    const worker = engine.startWorker({
      workerId: 'test',
      upstreams,
      catalog: { ...catalog, find },
      ...(options.publicUrl !== undefined && { publicUrl: options.publicUrl }),
    });
    started.defer(() => worker.stop());
    // Rings for retries.
    const sweep = engine.sweep.start();
    started.defer(() => sweep.stop());
    const dispatcher = engine.startDispatcher();
    started.defer(() => dispatcher.stop());
  }
  const closing = new AbortController();
  started.defer(() => closing.abort());
  const app = createApp({
    engine,
    catalog,
    dialects,
    router: engine.openRouter({ catalog, available: new Set(upstreams.keys()), off, sandbox: 'auto' }),
    receive: engine.openReceiver({ catalog, upstreams, sandbox: 'auto' }),
    log,
    closing: closing.signal,
    ...(options.publicUrl !== undefined && { publicUrl: options.publicUrl }),
  });
  const newKey = async (caller: string) => (await engine.keys.create({ caller, name: 'test' })).key;
  const key = await newKey('first caller');
  const request = async (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    if (!headers.has('x-api-key') && !headers.has('authorization')) headers.set('x-api-key', key);
    return app.request(path, { ...init, headers });
  };
  const running = started.move();
  return {
    app,
    engine,
    catalog,
    database,
    key,
    newKey,
    request,
    async submit(parameters) {
      const response = await request(`/v2/${MODEL}`, jsonBody(parameters));
      const { request_id: id } = await jsonOf(response);
      if (response.status !== 200 || typeof id !== 'string') throw new Error(`The submission was answered with ${response.status}.`);
      return id;
    },
    async listen() {
      const listening = await listen(app, { host: '127.0.0.1', port: 0, bodyBytesMax: largestBody(engine.uploads.bytesMax) });
      running.defer(() => listening.close());
      return listening;
    },
    startClosing: () => closing.abort(),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** A POST of a value as JSON, or of a text as it is. */
export function jsonBody(body: object | string, headers: Readonly<Record<string, string>> = {}): RequestInit {
  return {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  };
}

/** The body of a JSON answer, which must be an object. */
export async function jsonOf(response: Response): Promise<Record<string, unknown>> {
  const value: unknown = await response.json();
  if (typeof value !== 'object' || value === null) throw new Error('The answer is not a JSON object.');
  return { ...value };
}

function retriedSoon(model: Model | undefined): Model | undefined {
  return model && { ...model, retry: { ...model.retry, firstDelayMs: RETRY_DELAY_MS, delayMsMax: RETRY_DELAY_MS } };
}

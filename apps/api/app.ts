/** The HTTP application: mounts every dialect's route table, files and health. Works without a socket: `app.request(…)`. */
import {
  AppError,
  type Catalog,
  type Dialect,
  type DialectRoute,
  type Log,
  type OperationKind,
  type Operations,
  PUBLIC_OPERATIONS,
} from '@claimcheck/core';
import type { Engine, KeyOwner, Receive, Router } from '@claimcheck/engine';
import { type Context, Hono } from 'hono';
import { toResponse } from './answer.ts';
import { toAppError } from './app-error.ts';
import { authenticate } from './authenticate.ts';
import { type Bodies, openBodies } from './bodies.ts';
import { bringFiles } from './brought-files.ts';
import { answerCallback } from './callbacks.ts';
import { docsFiles, docsPage } from './docs.ts';
import { serveFile } from './files.ts';
import { followByToken } from './follow-job.ts';
import { perform } from './perform.ts';
import { listModels } from './perform-models.ts';
import { performPublic } from './perform-webhooks.ts';
import { completeUpload, receiveUpload, receiveUploadPart } from './receive-uploads.ts';
import { openApiHandler } from './serve-openapi.ts';
import { readWireRequest } from './wire-request.ts';

export interface AppDeps {
  readonly engine: Engine;
  readonly catalog: Catalog;
  readonly dialects: readonly Dialect[];
  /** Chooses the providers of new jobs. */
  readonly router: Router;
  /** Hears what upstreams tell of their runs. */
  readonly receive: Receive;
  /** Base of every URL handed out; undefined uses each request's own origin. */
  readonly publicUrl?: string;
  readonly log: Log;
  /** Aborts when the process drains: held requests and event streams end. */
  readonly closing: AbortSignal;
}

type OpenDeps = AppDeps & { readonly bodies: Bodies };

/** Builds the application. Nothing is started; the engine must be open. */
export function createApp(options: AppDeps): Hono {
  const deps: OpenDeps = { ...options, bodies: openBodies({ closing: options.closing }) };
  // Some clients put a slash too many between a base address and a path, or behind it.
  const app = new Hono({ getPath: ({ url }) => getPath(url) });
  const native = deps.dialects.find(({ name }) => name === 'native');
  if (!native) throw new Error('the native dialect is missing');

  app.use(async (c, next) => {
    const startedMs = performance.now();
    await next();
    finishHeaders(c.res.headers, deps.closing);
    // Without the query: it may name a webhook.
    const { method, path } = c.req;
    deps.log.debug({ method, path, status: c.res.status, ms: Math.round(performance.now() - startedMs) }, 'request answered');
  });
  mountGet(app, deps, native, '/healthz', (c) => c.json({ status: 'ok' }));
  mountGet(app, deps, native, '/readyz', async (c) => {
    const health = await deps.engine.health();
    const ready = health.database === 'ok' && health.migrations === 'ok';
    // Without its queue the service still takes work and runs it later.
    const status = !ready ? 'unavailable' : health.queue === 'ok' ? 'ok' : 'degraded';
    return c.json({ status, ...health }, ready ? 200 : 503);
  });
  mountGet(app, deps, native, '/files/:token/:name', (c) => serveFile(c, deps.engine.assets, c.req.param('token') ?? ''));

  mountOnly(app, deps, native, 'POST', '/callbacks/:provider/:token', (c) => answerCallback(c, deps));
  const receiving = { ...deps, uploads: deps.engine.uploads };
  mountOnly(app, deps, native, 'PUT', '/uploads/:token', (c) => receiveUpload(c, receiving));
  // The second, because some clients of fal make it themselves of where the file can be had (fal.md, section 8).
  for (const file of ['/uploads/:token', '/files/:token/:name/multipart/:upload']) {
    mountOnly(app, deps, native, 'PUT', `${file}/:part{[0-9]+}`, (c) => receiveUploadPart(c, receiving));
    mountOnly(app, deps, native, 'POST', `${file}/complete`, (c) => completeUpload(c, receiving));
  }

  const models = listModels(deps).flatMap(({ model, routes }) => (routes.some(({ isAvailable }) => isAvailable) ? [model] : []));
  mountGet(app, deps, native, '/openapi.json', openApiHandler({ dialects: deps.dialects, models }, deps.publicUrl));
  mountGet(app, deps, native, '/docs', docsPage);
  mountGet(app, deps, native, '/docs/:file', docsFiles());

  // The native one last: where a model's name may stand in its paths, so may any path of the others.
  for (const dialect of deps.dialects) {
    if (dialect === native) continue;
    mountProxy(app, deps, dialect);
    mount(app, deps, dialect, () => dialect);
  }
  const dialectOf = (path: string) => deps.dialects.find(({ paths = [] }) => paths.some((start) => isBelow(path, start))) ?? native;
  mount(app, deps, native, dialectOf);

  app.notFound((c) =>
    answerError(
      deps,
      dialectOf(c.req.path),
      c,
      new AppError('unknown_path', `There is nothing at ${c.req.method} ${c.req.path}; the README lists every endpoint.`),
    ),
  );
  // Whatever slips through a route's own handling must not reach the client as it is.
  app.onError((error, c) => answerError(deps, dialectOf(c.req.path), c, error));
  return app;
}

function getPath(url: string): string {
  const { pathname } = new URL(url);
  return pathname.replaceAll(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '');
}

function isBelow(path: string, start: string): boolean {
  return path === start || path.startsWith(`${start}/`);
}

type Handler = (c: Context) => Response | Promise<Response>;

function mountGet(app: Hono, deps: AppDeps, native: Dialect, path: string, handler: Handler): void {
  app.get(path, handler);
  app.all(
    path,
    refuseMethod(deps, () => native, ['GET']),
  );
}

function mountOnly(app: Hono, deps: AppDeps, native: Dialect, method: 'POST' | 'PUT', path: string, handler: Handler): void {
  app.on(method, path, handler);
  app.all(
    path,
    refuseMethod(deps, () => native, [method]),
  );
}

/** What comes to its address is answered as what it stands for, here in the process: nothing is sent on. */
function mountProxy(app: Hono, deps: AppDeps, dialect: Dialect): void {
  const { proxy } = dialect;
  if (!proxy) return;
  app.all(proxy.path, async (c) => {
    try {
      const target = proxy.target({ header: (name) => c.req.header(name) });
      return await app.fetch(new Request(new URL(target, c.req.url), c.req.raw));
    } catch (error) {
      return answerError(deps, dialect, c, error);
    }
  });
}

/** `tellerOf` names the dialect that tells of errors below a path. */
function mount(app: Hono, deps: OpenDeps, dialect: Dialect, tellerOf: (path: string) => Dialect): void {
  // Lines of one path together, so that a known path with another method is told so before a wider path may match.
  for (const [path, routes] of Map.groupBy(dialect.routes, ({ path }) => path)) {
    for (const route of routes) {
      app.on(route.method, path, (c) =>
        handle(deps, dialect, route, c).catch((error: unknown) => answerError(deps, tellerOf(c.req.path), c, error)),
      );
    }
    app.all(
      path,
      refuseMethod(
        deps,
        tellerOf,
        routes.map(({ method }) => method),
      ),
    );
  }
}

function refuseMethod(deps: AppDeps, tellerOf: (path: string) => Dialect, methods: readonly string[]): Handler {
  const allowed = methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])).join(', ');
  return async (c) => {
    const error = new AppError('method_not_allowed', `${c.req.method} is not possible here; use ${allowed}.`);
    const response = await answerError(deps, tellerOf(c.req.path), c, error);
    response.headers.set('allow', allowed);
    return response;
  };
}

async function handle(deps: OpenDeps, dialect: Dialect, route: DialectRoute, c: Context): Promise<Response> {
  const isPublic = PUBLIC_OPERATIONS.has(route.operation);
  const owner = isPublic ? undefined : await authenticate(deps.engine.keys, (name) => c.req.header(name));
  const signal = AbortSignal.any([c.req.raw.signal, deps.closing]);
  const { request, outcome, isReplay } = await performed(deps, dialect, route, { c, owner, signal });
  const response = await toResponse(route.encode(outcome, request), answerContext(deps, c, signal));
  nameRequest(response, requestIdOf(outcome));
  if (isReplay) response.headers.set('idempotent-replayed', 'true');
  return response;
}

interface Call {
  readonly c: Context;
  /** Undefined where anybody may call. */
  readonly owner: KeyOwner | undefined;
  readonly signal: AbortSignal;
}

/** Bodies of these bring files as data URIs. */
const ABOUT_JOBS: ReadonlySet<string> = new Set<OperationKind>(['submit', 'stream', 'quote']);

async function performed(deps: OpenDeps, dialect: Dialect, route: DialectRoute, { c, owner, signal }: Call) {
  const { bodies, engine, log, publicUrl } = deps;
  const { body, fileName } = route;
  const reading = {
    body,
    ...(fileName && { fileName }),
    bodies,
    followToken: engine.followTokens.of,
    ...(route.textParts && { textParts: route.textParts }),
    ...(publicUrl !== undefined && { publicUrl }),
  };
  if (!owner) {
    const request = await readWireRequest(c, reading);
    const operation = route.decode(request);
    const isFollowing = operation.kind === 'followByToken';
    const outcome = await (isFollowing ? followByToken(engine, operation.token, signal) : performPublic(engine, operation));
    return { request, outcome, isReplay: false };
  }
  const { uploads } = engine;
  const files = bringFiles({ uploads, callerId: owner.callerId, log });
  try {
    const request = await readWireRequest(c, { ...reading, files: { ...files, uploads, isForJob: ABOUT_JOBS.has(route.operation) } });
    const operation = route.decode(request);
    return { request, ...(await perform(deps, { ...owner, dialect: dialect.name, request, files, signal }, operation)) };
  } catch (error) {
    // Only for a refusal: after any other error nobody knows whether there is a job that needs them.
    if (error instanceof AppError) await files.discard();
    throw error;
  }
}

/** Any error in the dialect's own envelope. What is not meant for clients is logged and answered as an internal error. */
async function answerError(deps: AppDeps, dialect: Dialect, c: Context, error: unknown): Promise<Response> {
  const known = toAppError(error);
  // What a client gets for its own patience, or for asking after what there is not, is no fault of ours.
  if (known.status >= 500 && known.code !== 'wait_timeout' && known.code !== 'not_implemented')
    deps.log.error({ error, method: c.req.method, path: c.req.path }, 'request failed');
  const response = await toResponse(dialect.encodeError(known), answerContext(deps, c, deps.closing));
  if (known.code === 'unauthorized') response.headers.set('www-authenticate', 'Bearer');
  nameRequest(response, known.requestId);
  return response;
}

function answerContext({ engine, log }: AppDeps, c: Context, signal: AbortSignal) {
  return { request: c.req.raw, assets: engine.assets, log, signal };
}

/** What support asks for first, on every answer that is about one job. */
function nameRequest({ headers }: Response, id: string | undefined): void {
  if (id !== undefined && !headers.has('x-request-id')) headers.set('x-request-id', id);
}

function requestIdOf(outcome: Operations[keyof Operations]['outcome']): string | undefined {
  // Uploads have ids too.
  if ('token' in outcome) return undefined;
  if ('id' in outcome) return outcome.id;
  return 'job' in outcome ? outcome.job.id : undefined;
}

/** Headers of every answer, unless it says otherwise. */
function finishHeaders(headers: Headers, closing: AbortSignal): void {
  // Answers belong to one caller and change with time; files bring their own rule.
  if (!headers.has('cache-control')) headers.set('cache-control', 'no-store');
  headers.set('x-content-type-options', 'nosniff');
  // A client that keeps the connection would find it closed.
  if (closing.aborted) headers.set('connection', 'close');
}

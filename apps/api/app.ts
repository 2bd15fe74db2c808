/** The HTTP application: mounts every dialect's route table, files and health. Works without a socket: `app.request(…)`. */
import { AppError, type Catalog, type Dialect, type DialectRoute, type Log, type Model } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';
import { type Context, Hono } from 'hono';
import { toResponse } from './answer.ts';
import { authenticate } from './authenticate.ts';
import { serveFile } from './files.ts';
import { perform } from './perform.ts';
import { readWireRequest } from './wire-request.ts';

export interface AppDeps {
  readonly engine: Engine;
  readonly catalog: Catalog;
  readonly dialects: readonly Dialect[];
  /** The provider that a job of this model is queued for; undefined when none of its routes can run. */
  readonly chooseProvider: (model: Model) => string | undefined;
  /** Base of every URL handed out; undefined uses each request's own origin. */
  readonly publicUrl?: string;
  readonly log: Log;
  /** Aborts when the process drains: held requests and event streams end. */
  readonly closing: AbortSignal;
}

/** Builds the application. Nothing is started; the engine must be open. */
export function createApp(deps: AppDeps): Hono {
  const app = new Hono();
  const native = deps.dialects.find(({ name }) => name === 'native');
  if (!native) throw new Error('the native dialect is missing');

  app.get('/healthz', (c) => c.json({ status: 'ok' }));
  app.get('/readyz', async (c) => {
    const health = await deps.engine.health();
    const ready = health.database === 'ok' && health.migrations === 'ok';
    // Without its queue the service still takes work and runs it later.
    const status = !ready ? 'unavailable' : health.queue === 'ok' ? 'ok' : 'degraded';
    return c.json({ status, ...health }, ready ? 200 : 503);
  });
  app.get('/files/:token/:name', (c) =>
    serveFile(c, deps.engine.assets, c.req.param('token')).catch((error: unknown) => answerError(deps, native, c, error)),
  );

  for (const dialect of deps.dialects) mount(app, deps, dialect);

  app.notFound((c) =>
    answerError(
      deps,
      native,
      c,
      new AppError('unknown_path', `There is nothing at ${c.req.method} ${c.req.path}; the README lists every endpoint.`),
    ),
  );
  // Whatever slips through a route's own handling must not reach the client as it is.
  app.onError((error, c) => answerError(deps, native, c, error));
  return app;
}

function mount(app: Hono, deps: AppDeps, dialect: Dialect): void {
  // Lines of one path together, so that a known path with another method is told so before a wider path may match.
  for (const [path, routes] of Map.groupBy(dialect.routes, ({ path }) => path)) {
    for (const route of routes) {
      app.on(route.method, path, (c) => handle(deps, route, c).catch((error: unknown) => answerError(deps, dialect, c, error)));
    }
    const allowed = routes.map(({ method }) => method).join(', ');
    app.all(path, async (c) => {
      const error = new AppError('method_not_allowed', `${c.req.method} is not possible here; use ${allowed}.`);
      const response = await answerError(deps, dialect, c, error);
      response.headers.set('allow', allowed);
      return response;
    });
  }
}

async function handle(deps: AppDeps, route: DialectRoute, c: Context): Promise<Response> {
  const callerId = await authenticate(deps.engine.keys, (name) => c.req.header(name));
  const request = await readWireRequest(c, { body: route.body, ...(deps.publicUrl !== undefined && { publicUrl: deps.publicUrl }) });
  const signal = AbortSignal.any([c.req.raw.signal, deps.closing]);
  const outcome = await perform(
    deps,
    { callerId, dialect: dialectOf(deps, route), baseUrl: request.baseUrl, signal },
    route.decode(request),
  );
  return toResponse(route.encode(outcome, request), c.req.raw, deps.engine.assets, signal);
}

function dialectOf(deps: AppDeps, route: DialectRoute): string {
  return deps.dialects.find(({ routes }) => routes.includes(route))?.name ?? '';
}

/** Any error in the dialect's own envelope. What is not meant for clients is logged and answered as an internal error. */
async function answerError(deps: AppDeps, dialect: Dialect, c: Context, error: unknown): Promise<Response> {
  const known = toAppError(error);
  if (known.status >= 500 && known.code !== 'wait_timeout')
    deps.log.error({ error, method: c.req.method, path: c.req.path }, 'request failed');
  const response = await toResponse(dialect.encodeError(known), c.req.raw, deps.engine.assets, deps.closing);
  // The body was not read to its end, so the connection cannot carry another request.
  if (known.code === 'payload_too_large') response.headers.set('connection', 'close');
  if (known.code === 'unauthorized') response.headers.set('www-authenticate', 'Bearer');
  return response;
}

function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (isDatabaseAway(error)) {
    return new AppError('unavailable', 'The service cannot reach its database at the moment; nothing was accepted, please try again.', {
      retryAfterSeconds: 2,
      cause: error,
    });
  }
  return new AppError('internal', 'Something went wrong on our side; the operator finds the reason in the log.', { cause: error });
}

/** Codes of postgres.js for lost connections, of Node for refused ones, and SQLSTATE classes 08, 53 and 57 (cannot serve right now). */
function isDatabaseAway(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^(CONNECT|ECONN|ETIMEDOUT|EPIPE|08|53|57)/.test(code);
}

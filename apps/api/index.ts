/** The API app: takes submissions in and tells what became of them. */
import type { Catalog, Dialect, Log, Running } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';
import type { OpenedProviders } from '@claimcheck/providers';
import { createApp } from './app.ts';
import { largestBody } from './bodies.ts';
import type { ApiVariables } from './config.ts';
import { listen } from './server.ts';

export { type AppDeps, createApp } from './app.ts';
export { apiSettings, environment } from './config.ts';
export { OWN_ROUTES, type OwnRoute } from './openapi-own-routes.ts';
export { type Listening, listen } from './server.ts';

export interface ApiDeps {
  readonly engine: Engine;
  readonly catalog: Catalog;
  readonly dialects: readonly Dialect[];
  /** Where jobs may run; the same as the workers'. */
  readonly providers: OpenedProviders;
  readonly variables: Pick<ApiVariables, 'HOST' | 'PORT' | 'PUBLIC_URL' | 'BOOTSTRAP_API_KEY' | 'SANDBOX'>;
  readonly log: Log;
}

/** Starts listening. `url` is where; stopping answers what is open first. @throws StartError when the port is taken. */
export async function startApi({
  engine,
  catalog,
  dialects,
  providers,
  variables,
  log,
}: ApiDeps): Promise<Running & { readonly url: string }> {
  if (variables.BOOTSTRAP_API_KEY !== undefined) await engine.keys.bootstrap(variables.BOOTSTRAP_API_KEY);
  const { upstreams, off } = providers;
  const closing = new AbortController();
  const app = createApp({
    engine,
    catalog,
    dialects,
    router: engine.openRouter({ catalog, available: new Set(upstreams.keys()), off, sandbox: variables.SANDBOX }),
    receive: engine.openReceiver({ catalog, upstreams, sandbox: variables.SANDBOX }),
    log,
    closing: closing.signal,
    ...(variables.PUBLIC_URL !== undefined && { publicUrl: variables.PUBLIC_URL }),
  });
  const bodyBytesMax = largestBody(engine.uploads.bytesMax);
  const listening = await listen(app, { host: variables.HOST, port: variables.PORT, bodyBytesMax });
  log.info({ url: listening.url }, 'api listens');
  return {
    url: listening.url,
    async stop() {
      closing.abort();
      await listening.close();
    },
  };
}

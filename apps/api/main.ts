/** `npm run start:api`: the API alone, against DATABASE_URL (and REDIS_URL). */
import { loadCatalog } from '@claimcheck/catalog';
import { limitedRoutes, runProcess } from '@claimcheck/core';
import { loadDialects, webhookEncoder } from '@claimcheck/dialects';
import { connectEngine, openLog } from '@claimcheck/engine';
import { loadProviders, openProviders } from '@claimcheck/providers';
import { environment, readApiConfig } from './config.ts';
import { startApi } from './index.ts';

await runProcess(async (signal) => {
  const variables = readApiConfig();
  const log = openLog({ level: variables.LOG_LEVEL, app: 'api' });
  const knownProviders = await loadProviders();
  const catalog = await loadCatalog({
    ...(variables.MODELS_DIR !== undefined && { modelsDir: variables.MODELS_DIR }),
    providers: knownProviders,
  });
  const dialects = await loadDialects();
  const providers = openProviders(knownProviders, environment);
  const engine = await connectEngine({
    variables,
    log,
    signal,
    applicationName: 'claimcheck-api',
    needsSecretKey: true,
    limitedRoutes: limitedRoutes(catalog.list()),
    encodeWebhook: webhookEncoder(dialects, { statusNumbering: variables.WEBHOOK_STATUS_NUMBERING }),
  });
  const api = await startApi({
    engine,
    catalog,
    dialects,
    providers,
    variables,
    log,
  });
  return {
    async stop() {
      await api.stop();
      await engine.close();
    },
  };
});

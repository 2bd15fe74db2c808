/** `npm run start:worker`: a worker alone, against DATABASE_URL (and REDIS_URL). */
import { loadCatalog } from '@claimcheck/catalog';
import { limitedRoutes, runProcess } from '@claimcheck/core';
import { loadDialects, webhookEncoder } from '@claimcheck/dialects';
import { connectEngine, openLog } from '@claimcheck/engine';
import { loadProviders, openProviders } from '@claimcheck/providers';
import { environment, readWorkerConfig } from './config.ts';
import { startWorkerApp } from './index.ts';

await runProcess(async (signal) => {
  const variables = readWorkerConfig();
  const log = openLog({ level: variables.LOG_LEVEL, app: 'worker' });
  const knownProviders = await loadProviders();
  const catalog = await loadCatalog({
    ...(variables.MODELS_DIR !== undefined && { modelsDir: variables.MODELS_DIR }),
    providers: knownProviders,
  });
  const providers = openProviders(knownProviders, environment);
  const engine = await connectEngine({
    variables,
    log,
    signal,
    applicationName: 'claimcheck-worker',
    needsSecretKey: false,
    limitedRoutes: limitedRoutes(catalog.list()),
    encodeWebhook: webhookEncoder(await loadDialects(), { statusNumbering: variables.WEBHOOK_STATUS_NUMBERING }),
  });
  const worker = startWorkerApp({ engine, catalog, providers, variables, log });
  return {
    async stop() {
      await worker.stop();
      await engine.close();
    },
  };
});

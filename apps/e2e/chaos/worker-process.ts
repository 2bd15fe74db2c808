/** The worker as a process, composed as its own `main.ts` does, with the scripted provider as the only one. */
import { environment } from '@claimcheck/api';
import { loadCatalog } from '@claimcheck/catalog';
import { readConfig, runProcess } from '@claimcheck/core';
import { loadDialects, webhookEncoder } from '@claimcheck/dialects';
import { connectEngine, engineSettings, openLog } from '@claimcheck/engine';
import { startWorkerApp, workerSettings } from '@claimcheck/worker';
import { z } from 'zod';
import { scriptedProvider } from './scripted-provider.ts';

await runProcess(async (signal) => {
  const variables = readConfig(z.object({ ...engineSettings, ...workerSettings }), environment);
  const log = openLog({ level: variables.LOG_LEVEL, app: 'worker' });
  const catalog = await loadCatalog({ ...(variables.MODELS_DIR !== undefined && { modelsDir: variables.MODELS_DIR }) });
  const upstream = scriptedProvider.open(readConfig(scriptedProvider.settings, environment));
  if ('off' in upstream) throw new Error(upstream.off);
  const engine = await connectEngine({
    variables,
    log,
    signal,
    applicationName: `claimcheck-worker-${process.pid}`,
    needsSecretKey: false,
    encodeWebhook: webhookEncoder(await loadDialects(), { statusNumbering: variables.WEBHOOK_STATUS_NUMBERING }),
  });
  const providers = { upstreams: new Map([[scriptedProvider.name, upstream]]), off: new Map<string, string>() };
  const worker = startWorkerApp({ engine, catalog, providers, variables, log });
  return {
    async stop() {
      await worker.stop();
      await engine.close();
    },
  };
});

/** The API as a process, composed as its own `main.ts` does, with the scripted provider as the only one. */
import { apiSettings, environment, startApi } from '@claimcheck/api';
import { loadCatalog } from '@claimcheck/catalog';
import { readConfig, runProcess } from '@claimcheck/core';
import { loadDialects, webhookEncoder } from '@claimcheck/dialects';
import { connectEngine, engineSettings, openLog } from '@claimcheck/engine';
import { z } from 'zod';
import { scriptedProvider } from './scripted-provider.ts';

await runProcess(async (signal) => {
  const variables = readConfig(z.object({ ...engineSettings, ...apiSettings }), environment);
  const log = openLog({ level: variables.LOG_LEVEL, app: 'api' });
  const catalog = await loadCatalog({ ...(variables.MODELS_DIR !== undefined && { modelsDir: variables.MODELS_DIR }) });
  const dialects = await loadDialects();
  const upstream = scriptedProvider.open(readConfig(scriptedProvider.settings, environment));
  if ('off' in upstream) throw new Error(upstream.off);
  const providers = { upstreams: new Map([[scriptedProvider.name, upstream]]), off: new Map<string, string>() };
  const engine = await connectEngine({
    variables,
    log,
    signal,
    // With its pid, so that the controller finds this process's statements in the database.
    applicationName: `claimcheck-api-${process.pid}`,
    needsSecretKey: true,
    encodeWebhook: webhookEncoder(dialects, { statusNumbering: variables.WEBHOOK_STATUS_NUMBERING }),
  });
  const api = await startApi({
    engine,
    catalog,
    dialects,
    providers,
    variables: { ...variables, SANDBOX: 'off' },
    log,
  });
  return {
    async stop() {
      await api.stop();
      await engine.close();
    },
  };
});

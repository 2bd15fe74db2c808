/** `npm run start:dispatcher`: a dispatcher alone, against DATABASE_URL. */
import { runProcess } from '@claimcheck/core';
import { loadDialects, webhookSigner } from '@claimcheck/dialects';
import { connectEngine, openLog } from '@claimcheck/engine';
import { readDispatcherConfig } from './config.ts';
import { startDispatcherApp } from './index.ts';

await runProcess(async (signal) => {
  const variables = readDispatcherConfig();
  const log = openLog({ level: variables.LOG_LEVEL, app: 'dispatcher' });
  const engine = await connectEngine({
    variables: { ...variables, REDIS_URL: undefined },
    log,
    signal,
    applicationName: 'claimcheck-dispatcher',
    needsSecretKey: true,
    encodeWebhook: () => {
      throw new Error('a dispatcher ends no jobs');
    },
    signWebhook: webhookSigner(await loadDialects()),
  });
  const dispatcher = startDispatcherApp({ engine, log });
  return {
    async stop() {
      await dispatcher.stop();
      await engine.close();
    },
  };
});

/** `npm run start:dispatcher`: a dispatcher alone, against DATABASE_URL. */
import { hostname } from 'node:os';
import { runProcess } from '@claimcheck/core';
import { connectEngine } from '@claimcheck/engine';
import { pino } from 'pino';
import { readDispatcherConfig } from './config.ts';
import { startDispatcherApp } from './index.ts';

await runProcess(async (signal) => {
  const variables = readDispatcherConfig();
  const log = pino({ level: variables.LOG_LEVEL, base: { app: 'dispatcher', host: hostname() } });
  const engine = await connectEngine({
    variables: { ...variables, REDIS_URL: undefined },
    log,
    signal,
    applicationName: 'claimcheck-dispatcher',
    encodeWebhook: () => {
      throw new Error('a dispatcher ends no jobs');
    },
  });
  const dispatcher = startDispatcherApp({ engine, log });
  return {
    async stop() {
      await dispatcher.stop();
      await engine.close();
    },
  };
});

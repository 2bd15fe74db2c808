/** The dispatcher's settings. The only place of this app that reads the environment. */
import { readConfig } from '@claimcheck/core';
import { engineSettings } from '@claimcheck/engine';
import { z } from 'zod';

// It needs no queue, so it does not even look for a Redis.
const { REDIS_URL: _, ...dispatcherSettings } = engineSettings;
const schema = z.object(dispatcherSettings);
export type DispatcherVariables = z.infer<typeof schema>;

/** @throws ConfigError that lists every wrong variable. */
export function readDispatcherConfig(): DispatcherVariables {
  return readConfig(schema, process.env);
}

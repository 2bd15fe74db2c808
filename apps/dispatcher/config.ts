/** The settings of the dispatcher and of the receiver to try it with. The only place of this app that reads the environment. */
import { readConfig } from '@claimcheck/core';
// Not from the engine's index, because the receiver to try with should not wait until all of the engine is loaded.
import { engineSettings } from '@claimcheck/engine/settings';
import { z } from 'zod';

// It needs neither queue nor files, so it does not even look for a Redis or a bucket.
const schema = z.object(engineSettings).omit({
  REDIS_URL: true,
  S3_BUCKET: true,
  S3_ENDPOINT: true,
  S3_REGION: true,
  S3_ACCESS_KEY_ID: true,
  S3_SECRET_ACCESS_KEY: true,
  S3_FORCE_PATH_STYLE: true,
});
export type DispatcherVariables = z.infer<typeof schema>;

/** @throws ConfigError that lists every wrong variable. */
export function readDispatcherConfig(): DispatcherVariables {
  return readConfig(schema, process.env);
}

const listenSchema = z.object({
  /** What signatures are checked with: the `whsec_…` that the service has for the owner of the API key. Unset: nothing is checked. */
  WEBHOOK_SECRET: z.string().optional(),
  /** Any text switches colours off (no-color.org). */
  NO_COLOR: z.string().optional(),
});
export type ListenVariables = z.infer<typeof listenSchema>;

/** @throws ConfigError that lists every wrong variable. */
export function readListenConfig(): ListenVariables {
  return readConfig(listenSchema, process.env);
}

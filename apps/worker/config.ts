/** The worker's settings. The only place of this app that reads the environment. */
import { type Environment, readConfig } from '@claimcheck/core';
import { checkS3, engineSettings } from '@claimcheck/engine';
import { z } from 'zod';

export const workerSettings = {
  /** Folder with model files of your own (*.yaml); the same as the API's. */
  MODELS_DIR: z.string().optional(),
};
// It signs nothing, so the key is not even taken out of the environment.
const { SECRET_KEY: _, ...ownSettings } = engineSettings;
const schema = z.object({ ...ownSettings, ...workerSettings }).superRefine(checkS3);
export type WorkerVariables = z.infer<typeof schema>;

/** The environment as it is: adapters declare their own variables, so the app hands it on to them. */
export const environment: Environment = process.env;

/** @throws ConfigError that lists every wrong variable. */
export function readWorkerConfig(): WorkerVariables {
  return readConfig(schema, environment);
}

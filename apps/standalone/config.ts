/** Settings of the all-in-one process and of the command-line tools. The only place of this app that reads the environment. */
import { apiSettings } from '@claimcheck/api';
import { type Environment, readConfig } from '@claimcheck/core';
import { checkS3, engineSettings } from '@claimcheck/engine';
import { workerSettings } from '@claimcheck/worker';
import { z } from 'zod';

const standalone = z.object({ ...engineSettings, ...apiSettings, ...workerSettings }).superRefine(checkS3);
export type StandaloneVariables = z.infer<typeof standalone>;

const tool = z.object({ DATABASE_URL: engineSettings.DATABASE_URL, DATA_DIR: engineSettings.DATA_DIR });
export type ToolVariables = z.infer<typeof tool>;

const models = z.object({ MODELS_DIR: apiSettings.MODELS_DIR });

/** The environment as it is: adapters declare their own variables, so the app hands it on to them. */
export const environment: Environment = process.env;

/** @throws ConfigError that lists every wrong variable. */
export function readStandaloneConfig(): StandaloneVariables {
  return readConfig(standalone, environment);
}

/** What the command-line tools need to find the database. @throws ConfigError. */
export function readToolConfig(): ToolVariables {
  return readConfig(tool, environment);
}

/** What the commands about models need. @throws ConfigError. */
export function readModelsConfig(): z.infer<typeof models> {
  return readConfig(models, environment);
}

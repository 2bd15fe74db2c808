/** The API's settings. The only place of this app that reads the environment. */
import { type Environment, readConfig } from '@claimcheck/core';
import { checkS3, engineSettings, wholeNumber } from '@claimcheck/engine';
import { z } from 'zod';

export const apiSettings = {
  /** Address to listen on. */
  HOST: z.string().default('127.0.0.1'),
  /** TCP port, 0 for any free one. */
  PORT: wholeNumber(0, 65_535).default(8080),
  /** A key that exists from the first start; any text of 24 characters or more. Changing it revokes the earlier one. */
  BOOTSTRAP_API_KEY: z.string().min(24, { error: 'must have 24 characters or more' }).optional(),
  /** Folder with model files of your own (*.yaml). */
  MODELS_DIR: z.string().optional(),
};
const schema = z.object({ ...engineSettings, ...apiSettings }).superRefine(checkS3);
export type ApiVariables = z.infer<typeof schema>;

/** The environment as it is: adapters declare their own variables, so the app hands it on to them. */
export const environment: Environment = process.env;

/** @throws ConfigError that lists every wrong variable. */
export function readApiConfig(): ApiVariables {
  return readConfig(schema, environment);
}

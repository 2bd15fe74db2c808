/** Reads settings from environment variables: one schema, every problem reported at once. */
import type { ZodType } from 'zod';
import { StartError } from './errors.ts';

/** The settings are wrong. The message lists every variable with what is wrong and is ready to print. */
export class ConfigError extends StartError {
  override readonly name = 'ConfigError';
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Parses `environment` with `schema`, whose keys are variable names. An empty variable counts as unset, as in a compose file.
 * @throws ConfigError that names every wrong variable.
 */
export function readConfig<Settings>(schema: ZodType<Settings>, environment: Environment): Settings {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''));
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => `  ${issue.path.join('.') || 'settings'}: ${issue.message}`);
  throw new ConfigError(`These settings are wrong:\n${lines.join('\n')}`);
}

/** Finds the database for a command-line tool: DATABASE_URL, the embedded server that runs now, or the one that can be started. */
import type { Log, Running } from '@claimcheck/core';
import { readEmbeddedUrl, startEmbeddedPostgres } from '@claimcheck/engine/embedded-postgres';
import type { ToolVariables } from './config.ts';

export interface ToolDatabase extends Running {
  readonly url: string;
}

export async function openToolDatabase({ DATABASE_URL, DATA_DIR }: ToolVariables, log: Log): Promise<ToolDatabase> {
  const url = DATABASE_URL ?? (await readEmbeddedUrl(DATA_DIR));
  if (url !== undefined) return { url, stop: () => Promise.resolve() };
  return startEmbeddedPostgres({ dataDir: DATA_DIR, log });
}

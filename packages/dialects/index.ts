/**
 * The registry of client wire formats: this folder itself. Every `<name>.ts` here is a dialect, except this file, tests and files
 * that start with `_`, which are private parts of one dialect. Folders, such as `testing/`, are not looked into.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Dialect, Job, SignableMessage, WebhookEncoder, WebhookSettings, WebhookSigningKeys } from '@claimcheck/core';

/**
 * Imports every dialect of `folder` (by default this one), in the order of their names.
 * @throws Error that names the file whose default export is not a dialect of the file's name.
 */
export async function loadDialects(folder: string = import.meta.dirname): Promise<readonly Dialect[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && isDialectFile(entry.name)).map((entry) => entry.name);
  return Promise.all(files.sort().map((file) => loadDialect(folder, file)));
}

/** Writes a job's webhook in the dialect that it came through. A job of a dialect that is gone since gets the native one. */
export function webhookEncoder(dialects: readonly Dialect[], settings: WebhookSettings): WebhookEncoder {
  const byName = new Map(dialects.map((dialect) => [dialect.name, dialect]));
  const encode = (job: Job) => {
    const dialect = byName.get(job.dialect) ?? byName.get('native');
    if (!dialect) throw new Error('the native dialect is missing');
    return dialect.encodeWebhook(job, settings);
  };
  return Object.assign(encode, { tellsLogs: (name: string) => byName.get(name)?.webhookTellsLogs === true });
}

/** Signs a webhook as the dialect of that name does; undefined for one that has no way of its own, or is gone since. */
export function webhookSigner(
  dialects: readonly Dialect[],
): (dialect: string, message: SignableMessage, keys: WebhookSigningKeys) => Readonly<Record<string, string>> | undefined {
  const byName = new Map(dialects.map((dialect) => [dialect.name, dialect]));
  return (name, message, keys) => byName.get(name)?.signWebhook?.(message, keys);
}

function isDialectFile(file: string): boolean {
  return file.endsWith('.ts') && !file.endsWith('.test.ts') && !file.startsWith('_') && file !== 'index.ts';
}

async function loadDialect(folder: string, file: string): Promise<Dialect> {
  const name = file.slice(0, -'.ts'.length);
  const module: { readonly default?: unknown } = await import(pathToFileURL(join(folder, file)).href);
  const dialect = module.default;
  if (!isDialect(dialect)) {
    throw new Error(`${file} must default-export a Dialect: an object with name, routes, encodeError and encodeWebhook.`);
  }
  if (dialect.name !== name) {
    throw new Error(`${file} must default-export a Dialect named ${JSON.stringify(name)}, not ${JSON.stringify(dialect.name)}.`);
  }
  return dialect;
}

function isDialect(value: unknown): value is Dialect {
  if (typeof value !== 'object' || value === null) return false;
  if (!('name' in value) || typeof value.name !== 'string') return false;
  if (!('routes' in value) || !Array.isArray(value.routes)) return false;
  if (!('encodeError' in value) || typeof value.encodeError !== 'function') return false;
  return 'encodeWebhook' in value && typeof value.encodeWebhook === 'function';
}

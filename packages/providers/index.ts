/**
 * Finds and opens the upstream adapters. The folder is the registry: every file here is a provider, except this one, tests,
 * and parts private to one adapter, which start with an underscore.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Environment, type Provider, readConfig, type Upstream } from '@claimcheck/core';
import { z } from 'zod';

export interface OpenedProviders {
  readonly upstreams: ReadonlyMap<string, Upstream>;
  /** Providers that cannot run, with the reason, such as a missing key. */
  readonly off: ReadonlyMap<string, string>;
}

/**
 * Imports every provider of the folder, sorted by name.
 * @throws Error that names the file whose default export is not a provider, or is one of another name.
 */
export async function loadProviders(directory: string = import.meta.dirname): Promise<readonly Provider[]> {
  const names = (await readdir(directory)).filter(isProviderFile).map((file) => file.slice(0, -'.ts'.length));
  return Promise.all(names.sort().map((name) => loadProvider(directory, name)));
}

/**
 * Parses the settings of each provider from the environment and opens it.
 * @throws ConfigError that lists the wrong variables of all providers together.
 */
export function openProviders(providers: readonly Provider[], environment: Environment): OpenedProviders {
  const upstreams = new Map<string, Upstream>();
  const off = new Map<string, string>();
  for (const [provider, settings] of readConfig(settingsOfAll(providers), environment)) {
    const opened = provider.open(settings);
    if ('off' in opened) off.set(provider.name, opened.off);
    else upstreams.set(provider.name, opened);
  }
  return { upstreams, off };
}

function isProviderFile(file: string): boolean {
  return file.endsWith('.ts') && !file.endsWith('.test.ts') && !file.endsWith('.d.ts') && !file.startsWith('_') && file !== 'index.ts';
}

async function loadProvider(directory: string, name: string): Promise<Provider> {
  const module: { readonly default?: unknown } = await import(pathToFileURL(join(directory, `${name}.ts`)).href);
  const provider = module.default;
  if (!isProvider(provider)) throw new Error(`providers/${name}.ts has no provider as its default export.`);
  if (provider.name !== name)
    throw new Error(`providers/${name}.ts exports a provider named "${provider.name}"; name and file must be equal.`);
  return provider;
}

function isProvider(value: unknown): value is Provider {
  if (typeof value !== 'object' || value === null) return false;
  if (!('name' in value && 'settings' in value && 'open' in value)) return false;
  return typeof value.name === 'string' && value.settings instanceof z.ZodType && typeof value.open === 'function';
}

/** One schema over all providers, because `readConfig` reports together what one schema finds. */
function settingsOfAll(providers: readonly Provider[]) {
  return z.unknown().transform((given, context): ReadonlyMap<Provider, unknown> => {
    const settings = new Map<Provider, unknown>();
    for (const provider of providers) {
      const result = provider.settings.safeParse(given);
      if (result.success) settings.set(provider, result.data);
      else for (const { path, message } of result.error.issues) context.addIssue({ code: 'custom', path, message });
    }
    return settings;
  });
}

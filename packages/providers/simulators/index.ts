/** Finds the simulators of upstreams. The folder is the registry: every file here is one, except this, `simulator.ts` and tests. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Simulator } from './simulator.ts';

export { FAULTS, type Fault, type Simulated, type Simulator } from './simulator.ts';

/**
 * Imports every simulator, sorted by name.
 * @throws Error that names the file whose default export is not a simulator, or is one of another name.
 */
export async function loadSimulators(): Promise<readonly Simulator[]> {
  const files = (await readdir(import.meta.dirname)).filter((file) => /^(?!index\.|simulator\.)[a-z0-9-]+\.ts$/.test(file));
  return Promise.all(files.sort().map(loadSimulator));
}

async function loadSimulator(file: string): Promise<Simulator> {
  const module: { readonly default?: unknown } = await import(pathToFileURL(join(import.meta.dirname, file)).href);
  const simulator = module.default;
  if (!isSimulator(simulator) || `${simulator.name}.ts` !== file) {
    throw new Error(`providers/simulators/${file} has no simulator of that name as its default export.`);
  }
  return simulator;
}

function isSimulator(value: unknown): value is Simulator {
  if (typeof value !== 'object' || value === null || !('name' in value && 'environment' in value && 'start' in value)) return false;
  return typeof value.name === 'string' && typeof value.environment === 'function' && typeof value.start === 'function';
}

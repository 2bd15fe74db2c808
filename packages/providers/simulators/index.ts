/**
 * Finds the simulators of upstreams. The folder is the registry: every file here is one, except this, `simulator.ts`, tests, and parts,
 * which start with an underscore.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Simulator } from './simulator.ts';

export { FAULTS, type Fault, type Simulated, type Simulator } from './simulator.ts';

/** The names of all simulators, sorted. */
export async function listSimulators(): Promise<readonly string[]> {
  const files = (await readdir(import.meta.dirname)).filter((file) => /^(?!index\.|simulator\.)[a-z0-9-]+\.ts$/.test(file));
  return files.map((file) => file.slice(0, -'.ts'.length)).sort();
}

/**
 * Imports the simulator of this name, undefined when there is none.
 * @throws Error when the file's default export is not a simulator, or is one of another name.
 */
export async function loadSimulator(name: string): Promise<Simulator | undefined> {
  if (!(await listSimulators()).includes(name)) return undefined;
  const module: { readonly default?: unknown } = await import(pathToFileURL(join(import.meta.dirname, `${name}.ts`)).href);
  const simulator = module.default;
  if (!isSimulator(simulator) || simulator.name !== name) {
    throw new Error(`providers/simulators/${name}.ts has no simulator of that name as its default export.`);
  }
  return simulator;
}

function isSimulator(value: unknown): value is Simulator {
  if (typeof value !== 'object' || value === null || !('name' in value && 'environment' in value && 'start' in value)) return false;
  return typeof value.name === 'string' && typeof value.environment === 'function' && typeof value.start === 'function';
}

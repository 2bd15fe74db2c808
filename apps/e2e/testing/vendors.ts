/** Simulated vendors, models that are run at them, and the variables that point a service at both. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { JsonObject } from '@claimcheck/core';
import { loadSimulator, type Simulated } from '@claimcheck/providers/simulators';
import type { Environment } from './processes.ts';

export interface Vendor extends AsyncDisposable {
  readonly simulated: Simulated;
  /** Variables that point the adapter at it. */
  readonly environment: Environment;
}

/** Starts the simulator of this name on a free port. `runMs` is how long a run takes there. */
export async function startVendor(name: string, runMs: number): Promise<Vendor> {
  const simulator = await loadSimulator(name);
  if (!simulator) throw new Error(`there is no simulator of ${name}`);
  const simulated = await simulator.start({ port: 0, runMs });
  return {
    simulated,
    environment: simulator.environment(simulated.url),
    [Symbol.asyncDispose]: () => simulated[Symbol.asyncDispose](),
  };
}

/** Simulators of all these, by name. */
export async function startVendors(names: Iterable<string>, runMs: number): Promise<AsyncDisposable & ReadonlyMap<string, Vendor>> {
  await using started = new AsyncDisposableStack();
  const vendors = new Map<string, Vendor>();
  for (const name of names) vendors.set(name, started.use(await startVendor(name, runMs)));
  const stack = started.move();
  return Object.assign(vendors, { [Symbol.asyncDispose]: () => stack.disposeAsync() });
}

/** What all of them need together. */
export function environmentOf(vendors: Iterable<Vendor>): Environment {
  return Object.assign({ UPSTREAM_ALLOW_NETWORKS: '127.0.0.1' }, ...Array.from(vendors, ({ environment }) => environment));
}

export interface ModelText {
  readonly name: string;
  readonly routes: readonly JsonObject[];
  /** Further members of the file, in the file's own words. */
  readonly more?: JsonObject;
}

/** Writes model files into a folder below `path`, and returns that: what MODELS_DIR is set to. */
export async function writeModels(path: string, models: readonly ModelText[]): Promise<string> {
  const folder = join(path, 'models');
  await mkdir(folder);
  await Promise.all(
    models.map(({ name, routes, more }) => {
      const model = {
        name,
        title: `A model for tests: ${name}`,
        produces: 'image',
        parameters: { type: 'object', required: ['prompt'], properties: { prompt: { type: 'string' } } },
        routes: [...routes],
        retry: { attempts: 3, first_delay_ms: 100, factor: 1, delay_ms_max: 100 },
        ...more,
      };
      // JSON is YAML.
      return writeFile(join(folder, `${name.replaceAll('/', '-')}.yaml`), JSON.stringify(model));
    }),
  );
  return folder;
}

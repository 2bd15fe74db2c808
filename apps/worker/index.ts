/** The worker app: runs attempts at the providers that are switched on, and ticks the sweep. */
import { hostname } from 'node:os';
import type { Catalog, Log, Running } from '@claimcheck/core';
import { newId, systemClock } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';
import type { OpenedProviders } from '@claimcheck/providers';
import type { WorkerVariables } from './config.ts';

export { workerSettings } from './config.ts';

export interface WorkerDeps {
  readonly engine: Engine;
  readonly catalog: Catalog;
  readonly providers: OpenedProviders;
  readonly variables: Pick<WorkerVariables, 'PUBLIC_URL' | 'SANDBOX'>;
  readonly log: Log;
}

/** Starts taking jobs. Stopping gives running attempts back to the queue, where another worker resumes them. */
export function startWorkerApp({ engine, catalog, providers, variables, log }: WorkerDeps): Running {
  for (const [provider, reason] of providers.off) log.info({ provider, reason }, 'provider is off');
  const workerId = `${hostname()}-${newId(systemClock)}`;
  const { PUBLIC_URL: publicUrl, SANDBOX: sandbox } = variables;
  const { upstreams } = providers;
  const worker = engine.startWorker({ workerId, upstreams, catalog, sandbox, ...(publicUrl !== undefined && { publicUrl }) });
  const sweep = engine.sweep.start();
  log.info({ workerId, providers: [...providers.upstreams.keys()] }, 'worker takes jobs');
  return {
    async stop() {
      await Promise.all([worker.stop(), sweep.stop()]);
    },
  };
}

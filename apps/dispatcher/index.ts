/** The dispatcher app: delivers webhooks from the due-index in Postgres. */
import type { Log, Running } from '@claimcheck/core';
import type { Engine } from '@claimcheck/engine';

export interface DispatcherDeps {
  readonly engine: Engine;
  readonly log: Log;
}

/** Starts sending. Stopping waits for the sends that are under way. */
export function startDispatcherApp({ engine, log }: DispatcherDeps): Running {
  const dispatcher = engine.startDispatcher();
  log.info({}, 'dispatcher delivers webhooks');
  return { stop: () => dispatcher.stop() };
}

/**
 * The gates of routes that have limits of their own. BullMQ lets a doorbell through a gate as the route's limits allow; it is handed on to the
 * provider, whose limits hold as well, and held at the gate until the attempt that it rings for is over: so a gate's concurrency is that of
 * the route, whichever workers run its attempts. Where a route limits starts only, it is held until the attempt has started.
 *
 * The entry of a worker that dies is taken by another, as all of BullMQ's are; it finds the attempt waiting, under way or over.
 */
import type { Limits } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import type { Answer, Doorbell } from './queue.ts';
import { readRungStates } from './storage/due-jobs.ts';

export interface Gates {
  /** Lets nobody through any more and gives what is held to other workers. */
  close(): Promise<void>;
}

/** What is held of routes that limit starts only: attempts that wait for their provider. */
const CONCURRENCY = 500;
/** Changes are signalled. This is for signals that were lost, and doorbells that were lost behind the gate. */
const LOOK_EVERY_MS = 10_000;

interface Held extends Doorbell {
  readonly limits: Limits;
  readonly letGo: (answer: Answer) => void;
}

/** Opens the gates of routes to these providers. */
export function openGates(context: EngineContext, providers: ReadonlySet<string>): Gates {
  const { clock, database, limitedRoutes, log, queue, signals } = context;
  /** By job: a doorbell of an attempt that is over may come while the next one is held. */
  const held = new Map<string, readonly Held[]>();
  const stopping = new AbortController();

  /** Lets go of what is over, and rings at the provider for what waits: again is harmless. */
  const look = coalesce(async (batch: readonly Held[]) => {
    try {
      const states = await readRungStates(database.sql, batch);
      for (const [index, { limits, letGo }] of batch.entries()) {
        const state = states[index];
        if (state === undefined || (state === 'started' && limits.concurrency === undefined)) letGo('answered');
      }
      await queue.letThrough(batch.filter((_, index) => states[index] === 'waiting'));
    } catch (error) {
      log.warn({ error }, 'gates not looked at');
    }
    return batch.map(() => undefined);
  });

  const gates = limitedRoutes
    .filter(({ provider }) => providers.has(provider))
    .map(({ provider, model, limits }) =>
      queue.consume({ provider, model, concurrency: limits.concurrency ?? CONCURRENCY, limits }, (doorbell) => hold(doorbell, limits)),
    );
  const unsubscribe = signals.on('jobs', (changed) => {
    void lookAt(changed === 'all' ? everything() : changed.flatMap((jobId) => held.get(jobId) ?? []));
  });
  const looking = keepLooking();

  function everything(): readonly Held[] {
    return [...held.values()].flat();
  }

  async function lookAt(all: readonly Held[]): Promise<void> {
    await Promise.all(all.map(look));
  }

  async function hold(doorbell: Doorbell, limits: Limits): Promise<Answer> {
    if (stopping.signal.aborted) return 'left';
    const { jobId } = doorbell;
    const { promise, resolve: letGo } = Promise.withResolvers<Answer>();
    const holding: Held = { ...doorbell, limits, letGo };
    held.set(jobId, [...(held.get(jobId) ?? []), holding]);
    void look(holding);
    const answer = await promise;
    const others = (held.get(jobId) ?? []).filter((other) => other !== holding);
    if (others.length > 0) held.set(jobId, others);
    else held.delete(jobId);
    return answer;
  }

  async function keepLooking(): Promise<void> {
    if (gates.length === 0) return;
    while (!stopping.signal.aborted) {
      await clock.sleep(LOOK_EVERY_MS, stopping.signal).catch(() => {});
      await lookAt(everything());
    }
  }

  return {
    async close() {
      stopping.abort();
      unsubscribe();
      for (const { letGo } of everything()) letGo('left');
      await Promise.all([looking, ...gates.map((gate) => gate.close())]);
    },
  };
}

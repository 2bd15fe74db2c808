/**
 * Works replays off, beside the sends of the dispatcher. Each step makes the deliveries of one second due and saves how far it came in the
 * same transaction, so a dispatcher that dies at any moment neither loses one nor takes one twice: whoever steps next goes on there.
 */
import type { EngineContext } from './context.ts';
import { nextReplayStepInMs, stepReplay } from './storage/resends.ts';

/** A few milliseconds of the database. */
const LOOK_AT = 5_000;
/** Then the dispatcher has its turn: the steps of many replays must not keep it from sending. */
const STEPS_MAX = 20;

/**
 * Takes every replay that is due a step further. Returns the milliseconds until there is more to do, 0 for at once, undefined while no
 * replay runs; the start of one is told by the same signal as a new delivery. Several dispatchers may call it at the same time.
 */
export async function stepReplays({ database: { sql }, log }: Pick<EngineContext, 'database' | 'log'>): Promise<number | undefined> {
  for (let steps = 0; steps < STEPS_MAX; steps += 1) {
    const step = await stepReplay(sql, { lookAt: LOOK_AT });
    if (!step) return nextReplayStepInMs(sql);
    if (step.isFinished) log.info({ replayId: step.id, queued: step.queued }, 'replay finished');
  }
  return 0;
}

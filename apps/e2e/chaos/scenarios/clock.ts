/** Workers whose clocks are an hour off: the database's clock decides, so nothing runs early, late or twice. */
import { BOTH, type Scenario } from '../scenario.ts';
import { catchAt, killAndExpect } from './worker.ts';

const HOUR_MS = 3_600_000;
const AHEAD = { CHAOS_CLOCK_SHIFT_MS: String(HOUR_MS) };
const BEHIND = { CHAOS_CLOCK_SHIFT_MS: String(-HOUR_MS) };

export const clockScenarios: readonly Scenario[] = [
  {
    name: 'worker-clocks',
    summary: 'workers with clocks an hour ahead and an hour behind, killed in turn',
    queues: BOTH,
    deadlineSeconds: 180,
    async run(arena) {
      const right = arena.fleet.live('worker');
      await Promise.all([arena.replace('worker', AHEAD), arena.replace('worker', BEHIND)]);
      await Promise.all(right.map((worker) => arena.fleet.end(worker, 'SIGTERM')));
      arena.count(2);
      await arena.rounds(6, async (number) => {
        await killAndExpect(arena, await catchAt(arena, 'check'));
        await arena.replace('worker', number % 2 === 0 ? AHEAD : BEHIND);
        arena.count();
      });
    },
  },
];

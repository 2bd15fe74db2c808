/** What a scenario is. Each file in `scenarios/` exports a list of them. */
import type { Arena, FleetSize, QueueKind } from './arena.ts';
import type { Environment } from './fleet.ts';

export interface Scenario {
  readonly name: string;
  /** One line for `--help`. */
  readonly summary: string;
  /** The queues it says something about: both, unless Redis is the fault. */
  readonly queues: readonly QueueKind[];
  /** Processes at the start; two APIs, two workers and one dispatcher unless it says otherwise. */
  readonly size?: Partial<FleetSize>;
  readonly environment?: Environment;
  /** Seconds within which it must have settled, with 2,000 jobs. */
  readonly deadlineSeconds: number;
  /** Injects the faults while jobs run. */
  run(arena: Arena): Promise<void>;
}

export const BOTH: readonly QueueKind[] = ['redis', 'postgres'];
/** Targets of the reference, in seconds. */
export const LIMITS = { workerCrash: 15, redisBack: 3, halfOpen: 25, flushed: 30, postgresRestart: 5 } as const;

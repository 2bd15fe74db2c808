/** Runs one scenario from its first process to its verdict. */
import { openArena, type QueueKind, type Servers } from './arena.ts';
import { seededRandom } from './random.ts';
import type { Scenario } from './scenario.ts';
import { judge, type Verdict } from './verdict.ts';

export interface RunOptions {
  readonly scenario: Scenario;
  readonly queue: QueueKind;
  readonly jobs: number;
  readonly seed: number;
  /** See the arena; 1 unless given. */
  readonly slack?: number;
  /** Processes of each part, where the scenario does not say; two APIs, two workers and a dispatcher unless given. */
  readonly size?: Scenario['size'];
  readonly servers: Servers;
  /** Where processes write their logs. */
  readonly dir: string;
  readonly signal: AbortSignal;
  readonly report: (line: string) => void;
}

const FULL_JOBS = 2_000;

/** Never rejects for a broken invariant, which the verdict names; rejects when `signal` aborts. */
export async function runScenario({ scenario, jobs, seed, slack = 1, size, signal, report, ...rest }: RunOptions): Promise<Verdict> {
  const startedMs = performance.now();
  const title = `${scenario.name} on ${rest.queue}`;
  // More jobs than the figures were set for may take longer.
  const limitMs = scenario.deadlineSeconds * 1000 * Math.max(1, jobs / FULL_JOBS);
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  report(title);
  await using arena = await openArena({
    ...rest,
    name: scenario.name,
    jobs,
    slack,
    random: seededRandom(seed),
    size: { api: 2, worker: 2, dispatcher: 1, ...size, ...scenario.size },
    signal: deadline,
    report: (line) => report(`${title}: ${line}`),
    ...(scenario.environment && { environment: scenario.environment }),
  });
  try {
    await scenario.run(arena);
  } catch (error) {
    signal.throwIfAborted();
    arena.violate(`the scenario broke off: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
  }
  await arena.settle();
  signal.throwIfAborted();
  const verdict = await judge(arena, scenario.name, startedMs);
  report(`${title}: ${verdict.broken.length === 0 ? 'holds' : 'BROKEN'} after ${verdict.seconds.toFixed(0)} s`);
  for (const sentence of verdict.broken) report(`${title}: ${sentence}`);
  return verdict;
}

/** The simulator of fal in a process of its own, for `polls.ts`, which forks it. Says where it is, and when asked what it was asked for. */
import { loadSimulator } from '@claimcheck/providers/simulators';

export interface Address {
  readonly url: string;
  readonly environment: Readonly<Record<string, string>>;
}

export interface Counts {
  readonly submitted: number;
  /** Looks at the status of a run. */
  readonly polls: number;
}

const [runMs] = process.argv.slice(2);
const simulator = await loadSimulator('fal');
const simulated = await simulator?.start({ port: 0, runMs: Number(runMs) });
if (!simulator || !simulated) throw new Error('there is no simulator of fal');
let counted = 0;
let polls = 0;
process.on('message', () => {
  for (const { path } of simulated.requests.slice(counted)) if (path.includes('/status')) polls += 1;
  counted = simulated.requests.length;
  process.send?.({ submitted: simulated.submitted, polls } satisfies Counts);
});
process.on('disconnect', () => process.exit());
process.send?.({ url: simulated.url, environment: simulator.environment(simulated.url) } satisfies Address);

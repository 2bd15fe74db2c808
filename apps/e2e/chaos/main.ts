/**
 * `npm run chaos`: breaks the running service in every way we know of and checks that it kept its promises. It brings its own Postgres
 * and Redis, starts the real processes, and needs nothing but the loopback address. Exits with 1 when an invariant breaks.
 */
import { parseArgs } from 'node:util';
import type { QueueKind } from './arena.ts';
import { runScenario } from './run.ts';
import type { Scenario } from './scenario.ts';
import { SCENARIOS } from './scenarios/index.ts';
import { startServers } from './servers.ts';
import { tableOf } from './table.ts';
import type { Verdict } from './verdict.ts';

interface Options {
  readonly scenarios: readonly Scenario[];
  readonly queues: readonly QueueKind[];
  readonly jobs: number;
  readonly seed: number;
  readonly keepsLogs: boolean;
}

const QUEUES: Readonly<Record<string, readonly QueueKind[]>> = {
  redis: ['redis'],
  postgres: ['postgres'],
  both: ['redis', 'postgres'],
};

const HELP = `npm run chaos -- [options]

  --scenario a,b   only these; all by default
  --queue q        redis, postgres or both (the default)
  --jobs n         jobs per scenario, 2000 by default; the number of faults goes with it
  --seed n         1 by default: the same seed picks the same victims
  --keep           leave the folder with the processes' logs behind, also when all holds
  --help           this text

Scenarios:
${SCENARIOS.map(({ name, summary }) => `  ${name.padEnd(24)} ${summary}`).join('\n')}`;

/** @throws Error with a sentence about what is wrong with the arguments. */
function readOptions(): Options | 'help' {
  const { values } = parseArgs({
    options: {
      scenario: { type: 'string' },
      queue: { type: 'string', default: 'both' },
      jobs: { type: 'string', default: '2000' },
      seed: { type: 'string', default: '1' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const names = values.scenario?.split(',') ?? SCENARIOS.map(({ name }) => name);
  const unknown = names.filter((wanted) => !SCENARIOS.some(({ name }) => name === wanted));
  if (unknown.length > 0) throw new Error(`There is no scenario ${unknown.join(', ')}; --help lists them.`);
  const queues = QUEUES[values.queue];
  if (!queues) throw new Error('--queue must be redis, postgres or both.');
  return {
    scenarios: SCENARIOS.filter(({ name }) => names.includes(name)),
    queues,
    jobs: wholeNumber('--jobs', values.jobs, 1),
    seed: wholeNumber('--seed', values.seed, 0),
    keepsLogs: values.keep,
  };
}

function wholeNumber(name: string, text: string, min: number): number {
  const number = Number(text);
  if (!/^\d{1,9}$/.test(text) || number < min) throw new Error(`${name} must be a whole number of at least ${min}.`);
  return number;
}

async function runAll(options: Options, signal: AbortSignal, verdicts: Verdict[]): Promise<void> {
  const startedMs = performance.now();
  const report = (line: string) => console.error(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(5)} s  ${line}`);
  await using servers = await startServers();
  const keepLogs = () => {
    servers.keepLogs();
    report(`logs stay in ${servers.dir}`);
  };
  if (options.keepsLogs) keepLogs();
  for (const scenario of options.scenarios) {
    for (const queue of options.queues.filter((kind) => scenario.queues.includes(kind))) {
      signal.throwIfAborted();
      const verdict = await runScenario({ ...options, scenario, queue, servers, dir: servers.dir, signal, report });
      verdicts.push(verdict);
      if (verdict.broken.length > 0) keepLogs();
    }
  }
}

const stopping = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort(new Error('Stopped.')));
try {
  const options = readOptions();
  if (options === 'help') console.log(HELP);
  else {
    const verdicts: Verdict[] = [];
    try {
      await runAll(options, stopping.signal, verdicts);
    } finally {
      if (verdicts.length > 0) console.log(tableOf(verdicts));
    }
    const broken = verdicts.flatMap((verdict) => verdict.broken.map((sentence) => `${verdict.scenario} on ${verdict.queue}: ${sentence}`));
    for (const sentence of broken) console.log(sentence);
    console.log(`${verdicts.reduce((sum, { faults }) => sum + faults, 0)} faults injected.`);
    process.exitCode = broken.length > 0 ? 1 : 0;
  }
} catch (error) {
  console.error(error instanceof Error && !stopping.signal.aborted ? error.stack : String(error));
  process.exitCode = stopping.signal.aborted ? 130 : 1;
}
// Connections that a half-open proxy left behind must not keep the process.
process.exit();

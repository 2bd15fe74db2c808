/** `npm run simulate -- <vendor>`: a vendor of inference on this machine, for trying and developing without a key and without paying. */
import { runProcess, StartError } from '@claimcheck/core';
import { loadSimulator, type Simulated, type Simulator } from '@claimcheck/providers/simulators';
import { readSimulateOptions, type SimulateOptions, usage } from './simulate-options.ts';

await runProcess(async () => {
  const options = await readSimulateOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(await usage());
    process.exit(0);
  }
  const simulator = await loadSimulator(options.vendor);
  if (!simulator) throw new StartError(`There is no simulator of "${options.vendor}".\n\n${await usage()}`);
  const simulated = await listen(simulator, options);
  for (const { fault, times } of options.faults) simulated.inject(fault, times);
  console.log(greetingOf(simulator, simulated, options));
  return { stop: async () => simulated[Symbol.asyncDispose]() };
});

async function listen(simulator: Simulator, { port, runMs }: SimulateOptions): Promise<Simulated> {
  try {
    return await simulator.start({ port, runMs });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EADDRINUSE') throw new StartError(`Port ${port} is taken; --port chooses another, and 0 any free one.`);
    if (code === 'EACCES') throw new StartError(`Port ${port} is not open to this user; --port chooses another.`);
    throw error;
  }
}

function greetingOf({ name, environment }: Simulator, { url }: Simulated, { runMs }: SimulateOptions): string {
  // Its results are on this machine, from where none are fetched otherwise.
  const all = { ...environment(url), UPSTREAM_ALLOW_NETWORKS: new URL(url).hostname };
  const variables = Object.entries(all).map(([variable, value]) => `  export ${variable}=${quoted(value)}`);
  return [
    `The simulator of ${name} listens on ${url}. A run takes ${runMs} ms. Ctrl-C stops it.`,
    'These variables point the service at it:',
    variables.join('\n'),
    'Something goes wrong with the next three calls after:',
    `  curl ${url}/_faults -d '{"fault":"429","times":3}'`,
    '',
  ].join('\n\n');
}

/** For a shell to paste into. */
function quoted(value: string): string {
  return /^[\w./:@%+,-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
}

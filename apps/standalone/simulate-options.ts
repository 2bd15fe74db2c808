/** The arguments of `npm run simulate`. */
import { parseArgs } from 'node:util';
import { StartError } from '@claimcheck/core';
import { FAULTS, type Fault, listSimulators } from '@claimcheck/providers/simulators';

export interface SimulateOptions {
  readonly vendor: string;
  readonly port: number;
  /** Milliseconds that a run takes. */
  readonly runMs: number;
  /** What goes wrong from the start, and how often. */
  readonly faults: readonly { readonly fault: Fault; readonly times: number }[];
}

const PORT = 9001;
const RUN_MS = 2000;
const RUN_MS_MAX = 86_400_000;
const TIMES_MAX = 1_000_000;

export async function usage(): Promise<string> {
  return `Usage: npm run simulate -- <vendor> [options]

Speaks a vendor's API on this machine: runs end by themselves and cost nothing. Ctrl-C stops it.

  vendor            ${(await listSimulators()).join(', ')}
  --port N          port to listen on; 0 takes any free one (default ${PORT})
  --run-ms N        how long a run takes; milliseconds, 0 to ${RUN_MS_MAX} (default ${RUN_MS})
  --fault NAME[:N]  makes the next N calls or runs that it fits go wrong (default 1); may be given several times:
                    ${FAULTS.slice(0, 6).join(', ')},
                    ${FAULTS.slice(6).join(', ')}
  --help            shows this`;
}

/** Returns 'help' when that was asked for. @throws StartError with the usage. */
export async function readSimulateOptions(args: readonly string[]): Promise<SimulateOptions | 'help'> {
  try {
    return parse(args);
  } catch (error) {
    // `parseArgs` words its errors for the one who typed the arguments.
    throw new StartError(`${error instanceof Error ? error.message : error}\n\n${await usage()}`);
  }
}

function parse(args: readonly string[]): SimulateOptions | 'help' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      port: { type: 'string' },
      'run-ms': { type: 'string' },
      fault: { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return 'help';
  const [vendor, ...rest] = positionals;
  if (vendor === undefined) throw new Error('The vendor is missing.');
  if (rest.length > 0) throw new Error('One vendor at a time; another can be simulated on another port.');
  return {
    vendor,
    port: numberOf('--port', values.port, 0, 65_535) ?? PORT,
    runMs: numberOf('--run-ms', values['run-ms'], 0, RUN_MS_MAX) ?? RUN_MS,
    faults: values.fault.map((text) => {
      const [name, times] = text.split(/:(.*)/s, 2);
      const fault = FAULTS.find((known) => known === name);
      if (!fault) throw new Error(`--fault must be one of ${FAULTS.join(', ')}, not "${name}".`);
      return { fault, times: numberOf(`--fault ${fault}`, times, 1, TIMES_MAX) ?? 1 };
    }),
  };
}

function numberOf(option: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,8}$/.test(text) || Number(text) < min || Number(text) > max) {
    throw new Error(`${option} must be a whole number from ${min} to ${max}, not "${text}".`);
  }
  return Number(text);
}

/** The log of a process: one JSON line per fact. */
import { hostname } from 'node:os';
import type { Log } from '@claimcheck/core';
import { pino } from 'pino';

export interface LogOptions {
  /** Least severe lines that are written. */
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  /** Which of the processes of an installation speaks. */
  readonly app: string;
  /** Where lines go; stdout unless it is needed for something else. */
  readonly stream?: 'stdout' | 'stderr';
}

export function openLog({ level, app, stream = 'stdout' }: LogOptions): Log {
  return pino(
    // Without a serializer of its own an error under this name would lose its message and stack.
    { level, base: { app, host: hostname(), pid: process.pid }, serializers: { error: pino.stdSerializers.err } },
    pino.destination(stream === 'stdout' ? 1 : 2),
  );
}

/**
 * One run of the server process, tied to ours.
 * The server gets a session of its own, so that Ctrl-C in the terminal reaches us and not it: it must outlive our drain. What ties it to us
 * is a watcher: however we end, kill -9 included, it shuts the server down.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { systemClock } from '@claimcheck/core';
import { type Place, SERVER_ENVIRONMENT } from './embedded-postgres-place.ts';
import { FAST_SHUTDOWN_MS, IMMEDIATE_SHUTDOWN_MS } from './embedded-postgres-process.ts';
import { startWatcher } from './embedded-postgres-watcher.ts';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ServerProcess {
  readonly pid: number;
  /** Resolves when the server has ended, for whatever reason. */
  readonly exited: Promise<Exit>;
  hasExited(): boolean;
  /** Why it ended, in its own words. Waits for the end. */
  reason(): Promise<string>;
  /** Fast shutdown; immediate when that takes too long. Resolves when the server is gone. */
  stop(): Promise<void>;
}

export interface ServerOptions {
  readonly place: Place;
  readonly port: number;
  readonly isDurable: boolean;
  /** Called with each line that reports a fault, except while stopping, when every open connection is reported as one. */
  onFault(line: string): void;
}

const KEPT_LINES = 20;
const FAULT = /^(FATAL|PANIC):/;

export function startServer(options: ServerOptions): ServerProcess {
  const { place } = options;
  // The watcher goes first, so that the server is never without one for longer than it takes to tell its pid.
  const watcher = startWatcher(place.account);
  const server = spawn(join(place.programs, 'bin', 'postgres'), serverParameters(options), {
    ...place.account,
    cwd: '/',
    env: SERVER_ENVIRONMENT,
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stopping: Promise<void> | undefined;
  const lines = keepLines(server, (line) => {
    if (!stopping) options.onFault(line);
  });
  // The exit may come before the last words.
  const closed = new Promise<void>((resolve) => server.once('close', () => resolve()));
  const exited = new Promise<Exit>((resolve) => {
    server.once('error', (error) => {
      lines.push(String(error));
      resolve({ code: null, signal: null });
    });
    server.once('exit', (code, signal) => resolve({ code, signal }));
  }).finally(() => watcher.dismiss());
  if (server.pid !== undefined) watcher.watch(server.pid);

  const hasExited = () => server.pid === undefined || server.exitCode !== null || server.signalCode !== null;
  return {
    pid: server.pid ?? 0,
    exited,
    hasExited,
    reason: async () => {
      await closed;
      return lines.findLast((line) => FAULT.test(line)) ?? lines.at(-1) ?? 'it ended without a word';
    },
    stop: () => {
      stopping ??= shutDown(server, exited);
      return stopping;
    },
  };
}

async function shutDown(server: ChildProcess, exited: Promise<Exit>): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGINT', FAST_SHUTDOWN_MS],
    ['SIGQUIT', IMMEDIATE_SHUTDOWN_MS],
    ['SIGKILL', 1000],
  ] as const) {
    server.kill(signal);
    const wait = new AbortController();
    const isGone = await Promise.race([
      exited.then(() => true),
      systemClock.sleep(waitMs, wait.signal).then(
        () => false,
        () => false,
      ),
    ]);
    wait.abort();
    if (isGone) return;
  }
}

/** Given on the command line and not in postgresql.conf, so that a newer claimcheck's settings reach old clusters. */
function serverParameters({ place, port, isDurable }: ServerOptions): string[] {
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    max_connections: 200,
    shared_buffers: '128MB',
    // The queries are short; compiling them costs more than it saves.
    jit: 'off',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '',
    log_checkpoints: 'off',
    // Failed statements go to their client; here they would show the values they were given.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    ...(isDurable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  };
  return ['-D', place.dataPath, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

function keepLines(server: ChildProcess, onFault: (line: string) => void): string[] {
  const kept: string[] = [];
  if (!server.stderr) return kept;
  createInterface({ input: server.stderr }).on('line', (line) => {
    kept.push(line);
    if (kept.length > KEPT_LINES) kept.shift();
    if (FAULT.test(line)) onFault(line);
  });
  return kept;
}

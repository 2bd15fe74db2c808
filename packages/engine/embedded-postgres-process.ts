/**
 * Which process a number means. A pid alone proves nothing: pids are recycled, and in a container everybody is pid 1.
 * So a process is known by its pid and its start, and a server is only signalled when its command line is the expected one.
 */
import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { type Clock, systemClock } from '@claimcheck/core';
import { errorCode } from './embedded-postgres-errors.ts';

const run = promisify(execFile);

/** How long a fast shutdown may take before the server is told to drop everything. */
export const FAST_SHUTDOWN_MS = 4000;
/** How long the immediate shutdown may take: Postgres itself kills its children after 5 s. */
export const IMMEDIATE_SHUTDOWN_MS = 6000;

export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the system's own notation: to be compared only. */
  readonly startedAt: string;
}

/** The identity of a running process; undefined when there is none, or only its remains that nobody collected (a zombie). */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  if (!isAlive(pid)) return undefined;
  if (process.platform !== 'linux') {
    const startedAt = await processStatus(pid, 'lstart=');
    return startedAt === undefined ? undefined : { pid, startedAt };
  }
  try {
    const status = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in parentheses and may contain anything, so counting starts behind the last one.
    const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    // Ticks since boot repeat from one boot to the next.
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    return { pid, startedAt: `${boot} ${fields[19]}` };
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}

/** What a running server wrote into its data folder. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  readonly isReady: boolean;
}

/** Reads postmaster.pid. Undefined when there is none or it is half written; says nothing about whether that process lives. */
export async function readPostmaster(dataPath: string): Promise<Postmaster | undefined> {
  try {
    const lines = (await readFile(join(dataPath, 'postmaster.pid'), 'utf8')).split('\n');
    const [pid, port] = [Number(lines[0]), Number(lines[3])];
    return Number.isInteger(pid) && pid > 0 ? { pid, port, isReady: lines[7]?.trim() === 'ready' } : undefined;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** True when the process is a Postgres server that was started on this data folder. */
export async function isServerOf(pid: number, dataPath: string): Promise<boolean> {
  if (!(await identify(pid))) return false;
  if (process.platform !== 'linux') {
    const command = await processStatus(pid, 'command=');
    return command?.includes(`postgres -D ${dataPath} `) ?? false;
  }
  try {
    // The command line is readable for every user, unlike the links beside it.
    const [program = '', ...parameters] = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
    return basename(program) === 'postgres' && parameters[parameters.indexOf('-D') + 1] === dataPath;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') return false;
    throw error;
  }
}

/**
 * Ends a server that an earlier process left on this data folder, politely first, and returns when it is gone.
 * Returns its pid, or undefined when there was none. Signals nothing but that server.
 */
export async function stopLeftServer(dataPath: string, clock: Clock = systemClock): Promise<number | undefined> {
  const left = await readPostmaster(dataPath);
  if (!left || !(await isServerOf(left.pid, dataPath))) return undefined;
  for (const [signal, waitMs] of [
    ['SIGINT', FAST_SHUTDOWN_MS],
    ['SIGQUIT', IMMEDIATE_SHUTDOWN_MS],
    ['SIGKILL', 1000],
  ] as const) {
    send(left.pid, signal);
    const until = clock.now() + waitMs;
    while (clock.now() < until) {
      if (!(await isServerOf(left.pid, dataPath))) return left.pid;
      await clock.sleep(25);
    }
  }
  return left.pid;
}

/**
 * Removes a postmaster.pid that Postgres would stumble over: one whose number now belongs to another program, which happens when a
 * container starts again and which Postgres takes for a running server, and one that a crash or a full disk left without content.
 * All else about stale files it handles itself. Only for the holder of the lock, after `stopLeftServer`.
 */
export async function removeStalePidFile(dataPath: string): Promise<void> {
  const left = await readPostmaster(dataPath);
  if (left && (!isAlive(left.pid) || (await isServerOf(left.pid, dataPath)))) return;
  await rm(join(dataPath, 'postmaster.pid'), { force: true });
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    return errorCode(error) === 'EPERM';
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It may have ended since it was looked at.
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

async function processStatus(pid: number, column: string): Promise<string | undefined> {
  try {
    return (await run('ps', ['-o', column, '-ww', '-p', String(pid)])).stdout.trim() || undefined;
  } catch {
    // ps fails when there is no such process.
    return undefined;
  }
}

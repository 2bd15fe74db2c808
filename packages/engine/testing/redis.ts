/** A Redis for the run: the one that REDIS_URL names, else a process of our own, whose program is installed where that is possible. */
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { freePort } from '../embedded-postgres-port.ts';
import { startWatcher } from '../embedded-postgres-watcher.ts';
import { type Program, providePrograms } from './programs.ts';

const REDIS: Program = {
  names: ['redis-server', 'valkey-server'],
  debianPackage: 'redis-server',
  advice: 'The tests need a Redis: install redis-server (or valkey-server), or set REDIS_URL to one.',
};

/** Returns the URL. What has to be ended is put on `started`. @throws Error with a sentence that says what to install. */
export async function startRedis(dir: string, started: AsyncDisposableStack): Promise<string> {
  // The environment is read here and not in a config.ts, because there is no app around a test run.
  const given = process.env.REDIS_URL;
  if (given) return given;
  const [program = ''] = await providePrograms([REDIS]);
  await mkdir(dir, { recursive: true });
  for (let tries = 3; ; tries--) {
    const url = await startProcess(program, dir, started);
    if (url) return url;
    if (tries === 1) throw new Error(`${program} ended before it was ready, so the tests have no Redis: repair it or set REDIS_URL.`);
  }
}

/** Returns undefined when the process ends before it is ready, as when somebody else took the port. */
async function startProcess(program: string, dir: string, started: AsyncDisposableStack): Promise<string | undefined> {
  const port = await freePort();
  const watcher = startWatcher({});
  const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir, '--daemonize', 'no'];
  const server = spawn(program, settings, { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise<false>((resolve) => {
    server.once('error', () => resolve(false));
    server.once('exit', () => resolve(false));
  }).finally(() => watcher.dismiss());
  if (server.pid !== undefined) watcher.watch(server.pid);
  const ready = new Promise<true>((resolve) => {
    createInterface({ input: server.stdout }).on('line', (line) => {
      if (line.includes('Ready to accept connections')) resolve(true);
    });
  });
  if (!(await Promise.race([ready, ended]))) return undefined;
  started.defer(async () => {
    server.kill('SIGTERM');
    await ended;
  });
  return `redis://127.0.0.1:${port}`;
}

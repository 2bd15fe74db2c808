/** A Redis for the run: the one that REDIS_URL names, else a process of our own, whose program is installed where that is possible. */
import { execFile, spawn } from 'node:child_process';
import { access, constants, mkdir, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { freePort } from '../embedded-postgres-port.ts';
import { startWatcher } from '../embedded-postgres-watcher.ts';

const run = promisify(execFile);

const PROGRAMS = ['redis-server', 'valkey-server'] as const;
/** Asked by Debian's packages before they start a service. */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

/** Returns the URL. What has to be ended is put on `started`. @throws Error with a sentence that says what to install. */
export async function startRedis(dir: string, started: AsyncDisposableStack): Promise<string> {
  // The environment is read here and not in a config.ts, because there is no app around a test run.
  const given = process.env.REDIS_URL;
  if (given) return given;
  const program = (await findProgram()) ?? (await install());
  await mkdir(dir, { recursive: true });
  for (let tries = 3; ; tries--) {
    const url = await startProcess(program, dir, started);
    if (url) return url;
    if (tries === 1) throw new Error(`${program} ended before it was ready, so the tests have no Redis: repair it or set REDIS_URL.`);
  }
}

async function findProgram(): Promise<string | undefined> {
  for (const name of PROGRAMS) {
    for (const dir of (process.env.PATH ?? '').split(delimiter)) {
      const path = join(dir, name);
      const isThere = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (isThere) return path;
    }
  }
  return undefined;
}

async function install(): Promise<string> {
  const advice = 'The tests need a Redis: install redis-server (or valkey-server), or set REDIS_URL to one.';
  const hasApt = await access('/usr/bin/apt-get', constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!hasApt || process.getuid?.() !== 0) throw new Error(advice);
  console.info('The tests need a Redis and there is none: installing redis-server with apt-get.');
  await using undo = new AsyncDisposableStack();
  // The package would start a server on the usual port. Another policy than ours is left as it is.
  const isPolicyOurs = await writeFile(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { flag: 'wx', mode: 0o755 }).then(
    () => true,
    () => false,
  );
  if (isPolicyOurs) undo.defer(() => rm(SERVICE_POLICY, { force: true }));
  try {
    const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }, maxBuffer: 64 * 1024 * 1024 };
    await run('apt-get', ['-q', 'update'], options);
    await run('apt-get', ['-q', '-y', '-o', 'DPkg::Lock::Timeout=120', 'install', '--no-install-recommends', 'redis-server'], options);
  } catch (cause) {
    throw new Error(`${advice} (apt-get could not install it.)`, { cause });
  }
  const program = await findProgram();
  if (!program) throw new Error(advice);
  return program;
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

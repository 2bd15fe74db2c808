/** A Redis of our own with its append-only file on, as the README asks for; it can be killed and started again on the same port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants, mkdir } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';

export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** kill -9. Resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again, with what its append-only file remembers. Resolves when it takes connections. */
  start(): Promise<void>;
  /** One command without spaces in its words; resolves with the first line of the answer. */
  command(...words: readonly string[]): Promise<string>;
}

const PROGRAMS = ['redis-server', 'valkey-server'] as const;

/** @throws Error with a sentence that says what to install. */
export async function startRedisServer(dir: string): Promise<RedisServer> {
  const program = await findProgram();
  const port = await freePort();
  await mkdir(dir, { recursive: true });
  let server: ChildProcess | undefined;
  const start = async () => {
    const settings = { port, bind: '127.0.0.1', dir, appendonly: 'yes', save: '', 'maxmemory-policy': 'noeviction' };
    const started = spawn(
      program,
      Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]),
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    server = started;
    endWithUs(started);
    const lines = createInterface({ input: started.stdout });
    const ready = new Promise<void>((resolve) => lines.on('line', (line) => line.includes('Ready to accept connections') && resolve()));
    const ended = once(started, 'exit').then(() => Promise.reject(new Error(`${program} ended before it was ready.`)));
    ended.catch(() => {});
    await Promise.race([ready, ended]);
  };
  const kill = async () => {
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, 'exit');
    server.kill('SIGKILL');
    await gone;
  };
  await start();
  return { port, start, kill, command: (...words) => ask(port, words.join(' ')), [Symbol.asyncDispose]: kill };
}

async function findProgram(): Promise<string> {
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
  throw new Error('The fault suite kills a Redis of its own: install redis-server or valkey-server.');
}

/** A shell that waits for the end of a pipe from us, which comes even when we are killed, and then ends the server. */
function endWithUs(server: ChildProcess): void {
  const shell = spawn('/bin/sh', ['-c', `read -r _ || kill -9 ${server.pid}`], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  shell.on('error', () => {});
  shell.stdin.on('error', () => {});
  server.once('exit', () => shell.stdin.end('gone\n'));
  shell.unref();
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => probe.once('error', reject).listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}

/** Redis takes commands as plain lines, too. */
function ask(port: number, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`${line}\r\n`));
    socket.once('error', reject);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
      // A bulk answer has its length in the first line, and then itself.
      const isWhole = text.startsWith('$') ? text.length > Number(/^\$(\d+)/.exec(text)?.[1] ?? 0) : text.includes('\r\n');
      if (!isWhole) return;
      socket.destroy();
      resolve(text);
    });
  });
}

/** A Redis for a benchmark: from the PATH, on a free port of the loopback address, gone when the benchmark is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { freePort } from '../embedded-postgres-port.ts';
import { waitForRedis } from '../index.ts';

/** Its URL; undefined when there is no redis-server. `folder` is where it may write. */
export async function startRedis(stack: AsyncDisposableStack, folder: string): Promise<string | undefined> {
  const port = await freePort();
  const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder];
  const server = spawn('redis-server', settings, { stdio: ['ignore', 'pipe', 'ignore'] });
  const exited = once(server, 'exit').catch(() => {});
  if (server.pid === undefined) return undefined;
  createInterface({ input: server.stdout }).on('line', () => {});
  stack.defer(async () => {
    server.kill();
    await exited;
  });
  const url = `redis://127.0.0.1:${port}`;
  await waitForRedis(url, 5_000);
  return url;
}

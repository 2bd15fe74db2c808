/** The servers of one run of the suite, in a temporary folder that is removed with them. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Servers } from './arena.ts';
import { startPostgresServer } from './postgres-server.ts';
import { startRedisServer } from './redis-server.ts';

export interface StartedServers extends Servers, AsyncDisposable {
  readonly dir: string;
  /** Leaves the folder behind, for whoever wants to know why an invariant broke. */
  keepLogs(): void;
}

export async function startServers(): Promise<StartedServers> {
  await using started = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'claimcheck-chaos-'));
  let keepsLogs = false;
  started.defer(async () => {
    if (!keepsLogs) await rm(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });
  // Root's Postgres runs as another user, who must be able to pass.
  await chmod(dir, 0o755);
  const redis = started.use(await startRedisServer(join(dir, 'redis')));
  const postgres = started.use(await startPostgresServer(join(dir, 'postgres')));
  const owned = started.move();
  const keepLogs = () => {
    keepsLogs = true;
  };
  return { dir, keepLogs, redis, postgres, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

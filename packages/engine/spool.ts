/**
 * Files that are worked on before they are stored: pictures, which must be looked at as a whole. They are in a folder of ours rather than in
 * the system's temporary one, which on many machines is memory.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@claimcheck/core';

export interface Spool {
  /** A path for a new file, which is gone when the work is over. */
  withFile<Result>(work: (path: string) => Promise<Result>): Promise<Result>;
}

/** No work on a file takes as long; what is older was left by a process that died. */
const LEFT_MS = 3_600_000;

/** The folder is made when it is first needed, and looked through for what was left then and once an hour. */
export function openSpool({ folder, clock }: { readonly folder: string; readonly clock: Clock }): Spool {
  let lookedAt: number | undefined;

  async function removeLeft(): Promise<void> {
    const now = clock.now();
    if (lookedAt !== undefined && now - lookedAt < LEFT_MS) return;
    lookedAt = now;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const touchedAt = await stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        // Its process has just removed it.
        () => now,
      );
      if (now - touchedAt > LEFT_MS) await rm(path, { force: true });
    }
  }

  return {
    async withFile(work) {
      await removeLeft();
      const path = join(folder, randomUUID());
      try {
        return await work(path);
      } finally {
        await rm(path, { force: true });
      }
    },
  };
}

/** Writes a new file. */
export async function writeChunks(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    for await (const chunk of chunks) await file.writeFile(chunk);
  } finally {
    await file.close();
  }
}

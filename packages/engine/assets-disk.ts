/** Bytes of produced files in a folder of this machine, or one that machines share. */
import { createReadStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { AssetPlace } from './assets.ts';

/** The folder is made when it is first needed. Files are for the eyes of this process alone. */
export function openDiskPlace(folder: string): AssetPlace {
  // Two characters of folder keep directories small.
  const folderOf = (token: string) => join(folder, token.slice(0, 2));
  const pathOf = (token: string) => join(folderOf(token), token);
  return {
    async write(token, chunks, signal) {
      await mkdir(folderOf(token), { recursive: true });
      const file = await open(pathOf(token), 'wx', 0o600);
      try {
        for await (const chunk of chunks) {
          signal?.throwIfAborted();
          await file.writeFile(chunk);
        }
        // The result is about to be acknowledged as durable.
        await file.sync();
      } catch (error) {
        await rm(pathOf(token), { force: true }).catch(() => {});
        throw error;
      } finally {
        await file.close();
      }
    },
    // Opened when it is first read.
    read: (token, range) => chunksOf(pathOf(token), range),
    async remove(tokens) {
      await Promise.all(tokens.map((token) => rm(pathOf(token), { force: true })));
    },
  };
}

async function* chunksOf(path: string, range?: { readonly start: number; readonly end: number }): AsyncIterable<Uint8Array> {
  yield* createReadStream(path, range);
}

/**
 * Files that jobs produce: bytes on disk below `<dataDir>/assets`, rows in Postgres. An asset's address contains 256 random bits
 * and needs no key; it lives as long as its job is readable.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Media, ProducedFile } from '@claimcheck/core';
import { type Asset, findAsset, insertAsset } from './storage/assets.ts';
import type { Database } from './storage/connection.ts';

export type { Asset } from './storage/assets.ts';

export interface AssetStore {
  /** Keeps a file for as long as the job's result. Calling it again for the same bytes makes a second file. */
  store(jobId: string, file: ProducedFile): Promise<Media>;
  /** The asset's description; undefined when unknown or expired. */
  find(token: string): Promise<Asset | undefined>;
  /** Its bytes from `start` up to and including `end`. */
  read(token: string, range?: { readonly start: number; readonly end: number }): ReadableStream<Uint8Array>;
  /** Removes the files; rows go with their jobs. Files that are gone already do not matter. */
  remove(tokens: readonly string[]): Promise<void>;
}

const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/;

export function openAssetStore(options: { readonly folder: string; readonly database: Database }): AssetStore {
  const { folder, database } = options;
  // Two characters of folder keep directories small.
  const folderOf = (token: string) => join(folder, token.slice(0, 2));
  const pathOf = (token: string) => join(folderOf(token), token);
  return {
    async store(jobId, file) {
      const token = randomBytes(32).toString('base64url');
      const sha256 = createHash('sha256').update(file.bytes).digest('hex');
      // The row first: a crash in between leaves a row without a file, which the purge removes. The other way round a file would stay for ever.
      await insertAsset(database.sql, {
        token,
        jobId,
        contentType: file.contentType,
        fileName: file.fileName,
        bytes: file.bytes.byteLength,
        sha256,
      });
      await mkdir(folderOf(token), { recursive: true });
      const handle = await open(pathOf(token), 'wx', 0o600);
      try {
        await handle.writeFile(file.bytes);
        // The result is about to be acknowledged as durable.
        await handle.sync();
      } finally {
        await handle.close();
      }
      // The purge looks for files once. One that came after it would stay for ever.
      if (!(await findAsset(database.sql, token))) {
        await rm(pathOf(token), { force: true });
        throw new Error('the job of this file is gone');
      }
      return {
        location: { asset: token },
        contentType: file.contentType,
        fileName: file.fileName,
        bytes: file.bytes.byteLength,
        ...(file.width !== undefined && { width: file.width }),
        ...(file.height !== undefined && { height: file.height }),
      };
    },
    async find(token) {
      return TOKEN_PATTERN.test(token) ? findAsset(database.sql, token) : undefined;
    },
    read(token, range) {
      return nodeStreamToWeb(pathOf(token), range);
    },
    async remove(tokens) {
      await Promise.all(tokens.map((token) => rm(pathOf(token), { force: true })));
    },
  };
}

/** A pull-based web stream, so that a slow client holds one chunk of a file in memory and not the file. */
function nodeStreamToWeb(path: string, range?: { readonly start: number; readonly end: number }): ReadableStream<Uint8Array> {
  const source = createReadStream(path, range);
  const chunks = source[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel() {
      source.destroy();
    },
  });
}

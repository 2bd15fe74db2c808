/**
 * Files that jobs produce and clients upload: rows in Postgres, bytes in a place, which is a folder or a bucket. An asset's address contains
 * 256 random bits and needs no key; it lives as long as its job is readable, or its upload.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Media, ProducedFile } from '@claimcheck/core';
import {
  type Asset,
  type AssetOwner,
  deleteAssets,
  findAsset,
  finishAsset,
  insertAsset,
  listBegun,
  type WholeAsset,
} from './storage/assets.ts';
import type { Database } from './storage/connection.ts';
import { finishPart, listPartTokens, listReplacedParts } from './storage/upload-parts.ts';
import { finishUpload } from './storage/uploads.ts';

export type { Asset } from './storage/assets.ts';

/** A file whose bytes are still to come. */
export interface StreamedFile extends Omit<ProducedFile, 'bytes'> {
  /** Read once, and no faster than the place takes it. When it fails, so does storing, with the same error. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** First and last byte, counted from 0, both inclusive. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A file that was written; not kept where nobody wanted it any more. */
export type WrittenFile = Pick<WholeAsset, 'bytes' | 'sha256'> & { readonly isKept: boolean };

export interface AssetStore {
  /** Keeps a file for as long as the job's result. Calling it again for the same bytes makes a second file. */
  store(jobId: string, file: ProducedFile): Promise<Media>;
  /** The same for a file that is never whole in memory. Of one that fails, nothing is left. The signal ends it with its reason. */
  storeStream(jobId: string, file: StreamedFile, signal?: AbortSignal): Promise<Media>;
  /**
   * The file of an upload, which is readable for `ttlSeconds` from then on. Not kept when that has expired, or has a file already; undefined,
   * and nothing is read, when there is no such upload.
   */
  storeUpload(uploadId: string, file: StreamedFile, ttlSeconds: number): Promise<WrittenFile | undefined>;
  /** A part of it, in the place of what came with the same number before. Not kept when the upload has its file already. */
  storePart(uploadId: string, part: number, file: StreamedFile): Promise<WrittenFile | undefined>;
  /** Removes all parts of an upload. */
  removeParts(uploadId: string): Promise<void>;
  /** The description of a file, by the token in its address; undefined when unknown or expired. */
  find(token: string): Promise<Asset | undefined>;
  /** Its bytes, or a range of them, by the token in its description. Fails while it is read when they are gone. */
  read(token: string, range?: ByteRange): ReadableStream<Uint8Array>;
  /** Removes the files; rows go with their jobs and uploads. Files that are gone already do not matter. */
  remove(tokens: readonly string[]): Promise<void>;
  /** Closes connections. */
  close(): void;
}

/** Where the bytes are, by token. */
export interface AssetPlace {
  /** Writes a new file; when it resolves, the file is durable, and when it rejects, nothing is left, unless the place itself broke. */
  write(token: string, chunks: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<void>;
  read(token: string, range?: ByteRange): AsyncIterable<Uint8Array>;
  /** Does not mind what is gone. */
  remove(tokens: readonly string[]): Promise<void>;
  /** Removes what a writer that died has left of files, where {@link remove} does not see it. */
  removeBegun?(tokens: readonly string[]): Promise<void>;
  close?(): void;
}

const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/;

export function openAssetStore({ place, database }: { readonly place: AssetPlace; readonly database: Database }): AssetStore {
  const { sql } = database;

  /** Writes a file and says that it is whole. It is not kept when nobody wants it any more, and not read when nobody wants it at first. */
  async function write(
    owner: AssetOwner,
    { chunks, contentType, fileName }: StreamedFile,
    finish: (whole: WholeAsset) => Promise<boolean>,
    signal?: AbortSignal,
  ): Promise<(WholeAsset & { readonly isKept: boolean }) | undefined> {
    signal?.throwIfAborted();
    const token = randomBytes(32).toString('base64url');
    // The row first: a crash in between leaves a row without a file, which the purge removes. The other way round a file would stay for ever.
    if (!(await insertAsset(sql, { token, owner, contentType, fileName }))) return undefined;
    const measure = measured(chunks);
    try {
      await place.write(token, measure.chunks, signal);
    } catch (error) {
      // If that fails too, the row goes with its owner.
      await deleteAssets(sql, [token]).catch(() => {});
      signal?.throwIfAborted();
      throw error;
    }
    const whole = { token, ...measure.result() };
    const isKept = await finish(whole);
    if (!isKept) {
      // The purge looks for files once. One that came after it would stay for ever.
      await place.remove([token]);
      await deleteAssets(sql, [token]);
    }
    return { ...whole, isKept };
  }

  /** Files first, so that a crash in between leaves rows that name what is left to do. */
  async function forget(tokens: readonly string[]): Promise<void> {
    if (tokens.length === 0) return;
    await remove(tokens);
    await deleteAssets(sql, tokens);
  }

  async function remove(tokens: readonly string[]): Promise<void> {
    await place.remove(tokens);
    if (place.removeBegun && tokens.length > 0) await place.removeBegun(await listBegun(sql, tokens));
  }

  async function storeStream(jobId: string, file: StreamedFile, signal?: AbortSignal): Promise<Media> {
    const written = await write({ jobId }, file, (whole) => finishAsset(sql, whole), signal);
    if (!written?.isKept) throw new Error('the job of this file is gone');
    const { contentType, fileName, width, height } = file;
    return {
      location: { asset: written.token },
      contentType,
      fileName,
      bytes: written.bytes,
      ...(width !== undefined && { width }),
      ...(height !== undefined && { height }),
    };
  }

  return {
    store: (jobId, { bytes, ...file }) => storeStream(jobId, { ...file, chunks: only(bytes) }),
    storeStream,
    storeUpload: (uploadId, file, ttlSeconds) =>
      write({ uploadId }, file, (whole) => finishUpload(sql, { ...whole, uploadId, ttlSeconds })),
    async storePart(uploadId, part, file) {
      const written = await write({ uploadId, part }, file, (whole) => finishPart(sql, whole));
      if (written?.isKept) await forget(await listReplacedParts(sql, written.token));
      return written;
    },
    removeParts: async (uploadId) => forget(await listPartTokens(sql, uploadId)),
    async find(token) {
      return TOKEN_PATTERN.test(token) ? findAsset(sql, token) : undefined;
    },
    read: (token, range) => pulled(place.read(token, range)),
    remove,
    close: () => place.close?.(),
  };
}

async function* only(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/** The same chunks, measured as they pass. */
function measured(chunks: AsyncIterable<Uint8Array>) {
  const hash = createHash('sha256');
  let bytes = 0;
  async function* pass(): AsyncIterable<Uint8Array> {
    for await (const chunk of chunks) {
      bytes += chunk.byteLength;
      hash.update(chunk);
      yield chunk;
    }
  }
  return { chunks: pass(), result: () => ({ bytes, sha256: hash.digest('hex') }) };
}

/** A pull-based web stream, so that a slow client holds one chunk of a file in memory and not the file. */
function pulled(source: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await chunks.return?.();
    },
  });
}

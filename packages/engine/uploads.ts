/**
 * Files that clients hand in, for the parameters of their jobs. One is announced, then its bytes come, once; from then on it is readable at an
 * address that holds its token, 256 random bits, and needs no key. It expires by itself, and so does, sooner, one whose bytes never came.
 */
import { createHash, randomBytes } from 'node:crypto';
import { AppError, newId, type Upload, type UploadPage } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import { judgeType, type MediaType } from './media-type.ts';
import { peekInto } from './peek.ts';
import { listUploadedTokens } from './storage/assets.ts';
import {
  bindUploads,
  deleteUploads,
  expireUploads,
  findUpload,
  insertUploads,
  type JobUploads,
  listExpiredUploads,
  listUploads,
  readUpload,
  type UploadReference,
} from './storage/uploads.ts';
import { makeUploadParts, type UploadParts } from './upload-parts.ts';

export interface UploadSettings {
  /** Of one file. */
  readonly bytesMax: number;
  /** For which a file can be read once its bytes came. A job that needs it keeps it until its deadline. */
  readonly ttlSeconds: number;
}

export interface AnnouncedFile {
  /** Only the last part of a path is kept, 200 characters at most. */
  readonly fileName: string;
  /** MIME type; what its bytes say counts for more. */
  readonly contentType?: string;
  /** How many will come, as far as that is known. */
  readonly bytes?: number;
}

export interface IncomingFile extends Omit<AnnouncedFile, 'bytes'> {
  /** Read once, and no faster than they are stored. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** `stored`: these are its bytes now. `known`: they were there already. `different`: others were. `unknown`: nothing is awaited under this token. */
export type Arrival = { readonly kind: 'stored' | 'known'; readonly upload: Upload } | { readonly kind: 'different' | 'unknown' };

/** References to uploads of another caller answer undefined, exactly as unknown ones. */
export interface Uploads extends UploadSettings, UploadParts {
  /**
   * Announces files; in their order.
   * @throws AppError `payload_too_large` for one that will be, `rate_limited` when the caller has AWAITED_MAX whose bytes have not come.
   */
  announce(callerId: string, files: readonly AnnouncedFile[]): Promise<readonly Upload[]>;
  /**
   * Takes the bytes of an announced file, never all in memory. Of what breaks off or is too large nothing is left, and the bytes may come again;
   * after that, the same bytes once more change nothing. They are not read for a token that is unknown.
   * @throws AppError `payload_too_large`, `invalid_request` for no bytes at all; whatever the chunks throw.
   */
  receive(token: string, chunks: AsyncIterable<Uint8Array>, contentType?: string): Promise<Arrival>;
  /** A name for a file that begins with these bytes; undefined when they are not what `contentType` says. */
  nameFor(head: Uint8Array, contentType?: string): Promise<string | undefined>;
  /** Announces a file and takes its bytes. When it throws, which it does like both of these, nothing is left. */
  store(callerId: string, file: IncomingFile): Promise<Upload>;
  read(reference: UploadReference): Promise<Upload | undefined>;
  /** Newest first. */
  list(callerId: string, page: { readonly limit: number; readonly cursor?: string }): Promise<UploadPage>;
  /** Removes uploads with their bytes, at once. Those that the caller does not have do not matter. */
  remove(callerId: string, ids: readonly string[]): Promise<void>;
  /** Keeps uploads for as long as a job may need them. */
  bind(uploads: JobUploads): Promise<void>;
  /** Removes some of what has expired. */
  purgeOnce(): Promise<void>;
}

const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/;
const TOKEN_BYTES = 32;
/** Long enough for who has just asked where to send the bytes. */
const AWAIT_SECONDS = 3_600;
/** Of one caller. They cost a row each; more are a mistake. */
const AWAITED_MAX = 1_000;
const FILE_NAME_CHARACTERS_MAX = 200;
const NAMELESS = 'file';
const PURGED_AT_ONCE = 500;
const UNKNOWN_TYPE = 'application/octet-stream';

type UploadsContext = Pick<EngineContext, 'assets' | 'clock' | 'database'>;

export function makeUploads(context: UploadsContext, settings: UploadSettings): Uploads {
  const { assets, clock, database } = context;
  const { sql } = database;
  const { bytesMax, ttlSeconds } = settings;
  const awaitSeconds = Math.min(AWAIT_SECONDS, ttlSeconds);

  const tooLarge = () => new AppError('payload_too_large', `A file may have ${bytesMax} bytes at most.`);

  async function insert(callerId: string, files: readonly AnnouncedFile[]): Promise<readonly Upload[]> {
    const uploads = files.map(({ fileName, contentType }) => ({
      id: newId(clock),
      token: randomBytes(TOKEN_BYTES).toString('base64url'),
      fileName: plainFileName(fileName),
      contentType: plainType(contentType) ?? UNKNOWN_TYPE,
    }));
    const announced = await insertUploads(sql, uploads, { callerId, awaitSeconds, awaitedMax: AWAITED_MAX });
    if (announced.length < files.length) {
      const message = `${AWAITED_MAX} files at most can be announced at a time: send the bytes of some, or delete them.`;
      throw new AppError('rate_limited', message, { retryAfterSeconds: 60 });
    }
    return announced;
  }

  /** @throws AppError when there are none, or too many. */
  async function* limited(chunks: AsyncIterable<Uint8Array>, max = bytesMax): AsyncIterable<Uint8Array> {
    let bytes = 0;
    for await (const chunk of chunks) {
      bytes += chunk.byteLength;
      if (bytes > max) throw tooLarge();
      if (chunk.byteLength > 0) yield chunk;
    }
    if (bytes === 0) throw new AppError('invalid_request', 'The file is empty: it must have one byte at least.');
  }

  /** Not kept when another was faster, or the upload has expired meanwhile. */
  async function storeBytes({ id, fileName, contentType: announced }: Upload, chunks: AsyncIterable<Uint8Array>, contentType?: string) {
    await using peeked = await peekInto(limited(chunks));
    const type = await typeOf(peeked.head, [announced, plainType(contentType)]);
    const file = { fileName, contentType: type?.contentType ?? UNKNOWN_TYPE, chunks: peeked.chunks };
    // Awaited, or what is peeked into would be closed before it is read.
    return await assets.storeUpload(id, file, ttlSeconds);
  }

  async function digestOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of limited(chunks)) hash.update(chunk);
    return hash.digest('hex');
  }

  async function remove(callerId: string, ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await removeUploads(context, await expireUploads(sql, callerId, ids));
  }

  async function find(token: string): Promise<Upload | undefined> {
    return TOKEN_PATTERN.test(token) ? findUpload(sql, token) : undefined;
  }

  async function store(upload: Upload, chunks: AsyncIterable<Uint8Array>, contentType?: string): Promise<Arrival> {
    const written = await storeBytes(upload, chunks, contentType);
    const stored = written && (await find(upload.token));
    if (!stored) return { kind: 'unknown' };
    if (written.isKept) return { kind: 'stored', upload: stored };
    return stored.sha256 === written.sha256 ? { kind: 'known', upload: stored } : { kind: 'different' };
  }

  return {
    ...settings,
    ...makeUploadParts(context, { bytesMax, find, limited, store }),
    async announce(callerId, files) {
      if (files.some(({ bytes = 0 }) => bytes > bytesMax)) throw tooLarge();
      return insert(callerId, files);
    },
    async receive(token, chunks, contentType) {
      const upload = await find(token);
      if (!upload) return { kind: 'unknown' };
      if (upload.sha256 !== undefined) {
        return upload.sha256 === (await digestOf(chunks)) ? { kind: 'known', upload } : { kind: 'different' };
      }
      return store(upload, chunks, contentType);
    },
    async nameFor(head, contentType) {
      const said = plainType(contentType);
      const type = await (said === undefined || said === UNKNOWN_TYPE ? typeOf(head, []) : judgeType(head, [said]));
      if (said !== undefined && said !== UNKNOWN_TYPE && !type) return undefined;
      return type?.extension === undefined ? NAMELESS : `${NAMELESS}.${type.extension}`;
    },
    async store(callerId, { chunks, ...file }) {
      const [announced] = await insert(callerId, [file]);
      if (!announced) throw new Error('nothing was announced');
      try {
        const written = await storeBytes(announced, chunks);
        const stored = written?.isKept && (await readUpload(sql, { id: announced.id, callerId }));
        if (!stored) throw new AppError('invalid_request', 'The file took longer to come than it would have been kept.');
        return stored;
      } catch (error) {
        // If that fails too, it expires.
        await remove(callerId, [announced.id]).catch(() => {});
        throw error;
      }
    },
    read: (reference) => readUpload(sql, reference),
    async list(callerId, { limit, cursor }) {
      // One more than asked for tells whether there is another page.
      const found = await listUploads(sql, { callerId, before: cursor, limit: limit + 1 });
      const uploads = found.slice(0, limit);
      const last = uploads.at(-1);
      return { uploads, ...(found.length > limit && last && { nextCursor: last.id }) };
    },
    remove,
    bind: (uploads) => bindUploads(sql, uploads),
    purgeOnce: async () => removeUploads(context, await listExpiredUploads(sql, PURGED_AT_ONCE)),
  };
}

/** Removes expired uploads: files first, so that a crash in between leaves rows that name what is left to do. */
export async function removeUploads(
  { assets, database }: Pick<EngineContext, 'assets' | 'database'>,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  await assets.remove(await listUploadedTokens(database.sql, ids));
  await deleteUploads(database.sql, ids);
}

/** What the client says of its own file is only believed where the bytes do not say otherwise. */
async function typeOf(head: Uint8Array, told: readonly (string | undefined)[]): Promise<MediaType | undefined> {
  return (await judgeType(head, told)) ?? judgeType(head, []);
}

/** A name that can be part of an address and of a header. */
function plainFileName(name: string): string {
  const base = name
    .toWellFormed()
    .replace(/^.*[\\/]/s, '')
    .replace(/\p{Cc}/gu, '')
    .trim();
  const short = Array.from(base).slice(0, FILE_NAME_CHARACTERS_MAX).join('');
  return /^\.{0,2}$/.test(short) ? NAMELESS : short;
}

/** Without parameters; undefined for what is no type, and for what programs send that do not know which. */
function plainType(type: string | undefined): string | undefined {
  const name = type?.split(';', 1)[0]?.trim().toLowerCase();
  const isType = name !== undefined && /^[a-z]+\/[a-z0-9.+-]{1,100}$/.test(name);
  return isType && name !== 'application/x-www-form-urlencoded' ? name : undefined;
}

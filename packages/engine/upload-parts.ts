/**
 * Files that come in parts, each by itself and again where that failed, as programs send what is too large to be sent twice. Every part is a file
 * of its upload until they are put together, in the order of their numbers, to the one that can be read.
 */
import { AppError, jsonPointer, type Problem, type Upload } from '@claimcheck/core';
import type { EngineContext } from './context.ts';
import { listParts, type StoredPart, sumOtherParts } from './storage/upload-parts.ts';
import type { Arrival } from './uploads.ts';

/** Of one file. */
export const PARTS_MAX = 10_000;

/** `stored`: these are its bytes now. `complete`: the file was put together before. `unknown`: nothing is awaited under this token. */
export type PartArrival =
  | { readonly kind: 'stored'; readonly part: Pick<StoredPart, 'part' | 'bytes' | 'sha256'> }
  | { readonly kind: 'complete' }
  | { readonly kind: 'unknown' };

export interface PartReference {
  readonly part: number;
  /** As {@link UploadParts.receivePart} told it, in hex. */
  readonly sha256: string;
}

export interface UploadParts {
  /**
   * Takes a part of an announced file, never all in memory. The same number again replaces it. Of what breaks off nothing is left.
   * @throws AppError `payload_too_large` where all parts together would be, `invalid_request` for no bytes or a number that no part can have;
   *   whatever the chunks throw.
   */
  receivePart(token: string, part: number, chunks: AsyncIterable<Uint8Array>): Promise<PartArrival>;
  /**
   * Puts these parts together, in the order of their numbers. Others that came are thrown away. Calling it again once the file is whole changes
   * nothing.
   * @throws AppError `invalid_parameters` that points to each part that is not there, or is there with other bytes.
   */
  assemble(token: string, parts: readonly PartReference[]): Promise<Arrival>;
}

export interface PartSteps {
  readonly bytesMax: number;
  /** The upload that is awaited, or is there, under a token. */
  find(token: string): Promise<Upload | undefined>;
  /** The chunks, as long as they are not too many. */
  limited(chunks: AsyncIterable<Uint8Array>, bytesMax: number): AsyncIterable<Uint8Array>;
  /** Stores the whole file. */
  store(upload: Upload, chunks: AsyncIterable<Uint8Array>): Promise<Arrival>;
}

export function makeUploadParts({ assets, database }: Pick<EngineContext, 'assets' | 'database'>, steps: PartSteps): UploadParts {
  const { sql } = database;

  async function* inOrder(parts: readonly StoredPart[]): AsyncIterable<Uint8Array> {
    for (const { token } of parts) yield* assets.read(token);
  }

  return {
    async receivePart(token, part, chunks) {
      const upload = await steps.find(token);
      if (!upload) return { kind: 'unknown' };
      if (upload.sha256 !== undefined) return { kind: 'complete' };
      if (!Number.isInteger(part) || part < 1 || part > PARTS_MAX)
        throw new AppError('invalid_request', `Parts have the numbers 1 to ${PARTS_MAX}.`);
      const { id, fileName, contentType } = upload;
      const limited = steps.limited(chunks, steps.bytesMax - (await sumOtherParts(sql, id, part)));
      const written = await assets.storePart(id, part, { fileName, contentType, chunks: limited });
      if (written?.isKept) return { kind: 'stored', part: { part, bytes: written.bytes, sha256: written.sha256 } };
      return { kind: (await steps.find(token))?.sha256 === undefined ? 'unknown' : 'complete' };
    },
    async assemble(token, references) {
      const upload = await steps.find(token);
      if (!upload) return { kind: 'unknown' };
      if (upload.sha256 !== undefined) return { kind: 'known', upload };
      const arrival = await steps.store(upload, inOrder(chosen(references, await listParts(sql, upload.id))));
      // What cannot be removed now goes with the upload.
      if (arrival.kind === 'stored') await assets.removeParts(upload.id).catch(() => {});
      return arrival;
    },
  };
}

/** The parts that are meant, by number. @throws AppError that names all that are not there, or come twice. */
function chosen(references: readonly PartReference[], stored: readonly StoredPart[]): readonly StoredPart[] {
  const byNumber = Map.groupBy(stored, ({ part }) => part);
  const parts = new Map<number, StoredPart>();
  const problems: Problem[] = [];
  for (const [index, { part, sha256 }] of references.entries()) {
    const found = byNumber.get(part)?.find((one) => one.sha256 === sha256);
    const message = parts.has(part)
      ? `names part ${part} again`
      : found
        ? undefined
        : `names part ${part}, which has not come with these bytes`;
    if (message !== undefined) problems.push({ pointer: jsonPointer(['parts', String(index)]), message });
    if (found) parts.set(part, found);
  }
  if (problems.length > 0) {
    const told = problems.slice(0, 3).map(({ pointer, message }) => `${pointer} ${message}`);
    const more = problems.length > told.length ? `; and ${problems.length - told.length} more` : '';
    throw new AppError('invalid_parameters', `${told.join('; ')}${more}. Send what is missing, then complete the file.`, { problems });
  }
  return [...parts.values()].sort((one, other) => one.part - other.part);
}

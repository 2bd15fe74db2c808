/** Reads forms: files are stored while they are read, and stand among the fields as their addresses. */
import { AppError, type JsonText, jsonPointer, type Upload } from '@claimcheck/core';
import type { IncomingFile } from '@claimcheck/engine';
import { Busboy, type BusboyFileStream, type BusboyInstance } from '@fastify/busboy';
import type { BodyLease } from './bodies.ts';
import { type Field, listName, objectOfFields } from './form-fields.ts';

export interface ReadForm {
  /** One object; see {@link objectOfFields}. */
  readonly text: JsonText;
  /** By the names of their parts, without `[]`. */
  readonly uploads: ReadonlyMap<string, readonly Upload[]>;
  /** The same for a form with the same contents, however it was sent: files stand in it as their hashes. */
  readonly fingerprint: string;
}

export interface FormOptions {
  /** Of the request, as it was sent. */
  readonly contentType: string;
  readonly chunks: AsyncIterable<Uint8Array>;
  /** For what is not files. */
  readonly lease: BodyLease;
  /** Of all fields together. */
  readonly textBytesMax: number;
  /** Parts that are text, also where they come as files do. */
  readonly textParts: readonly string[];
  storeFile(file: IncomingFile): Promise<Upload>;
  addressOf(upload: Upload): string;
}

const FIELDS_MAX = 1_000;
const FILES_MAX = 64;
/** Of the headers of a part. */
const HEADERS_MAX = { headerPairs: 50, headerSize: 16 * 1024 };
/** The longest there may be (RFC 2046 section 5.1.1). */
const BOUNDARY_CHARACTERS_MAX = 70;

/** A part in its place; a file without an upload is on its way, or was none. */
type Part = Field | { readonly name: string; upload?: Upload };

/**
 * @throws AppError for a form that is broken, too large or of too many parts; whatever the chunks or storing a file throw. No file is being
 *   stored any more then; those that were stored before stay.
 */
export async function readMultipart(options: FormOptions): Promise<ReadForm> {
  const { chunks, lease, textBytesMax, storeFile, addressOf } = options;
  const parser = openParser(options);
  const parts: Part[] = [];
  const { promise: failed, reject: fail } = Promise.withResolvers<never>();
  // Nobody may be waiting for it yet.
  failed.catch(() => {});
  /** Of files that are coming. */
  const open = new Set<BusboyFileStream>();
  const storing: Promise<void>[] = [];
  /** Of files that have come whole. */
  let ended: Promise<void>[] = [];

  async function store(part: { readonly name: string; upload?: Upload }, stream: BusboyFileStream, fileName: string, contentType: string) {
    try {
      const file = await fileIn(stream, fileName);
      if (file) part.upload = await storeFile({ fileName, contentType, chunks: file });
    } catch (error) {
      fail(namingPart(error, part.name));
    }
  }

  parser.on('field', (name: string | undefined, value, _isNameCut, isCut) => {
    if (name === undefined || name === '') fail(nameless());
    else if (isCut) fail(tooMuchText(textBytesMax));
    else parts.push({ name, value });
  });
  parser.on('file', (name: string | undefined, stream, fileName: string | undefined, _encoding, contentType) => {
    // Whoever reads it is told; an error without a listener would end the process.
    stream.on('error', () => {});
    if (name === undefined || name === '') return fail(nameless());
    const part = { name };
    parts.push(part);
    open.add(stream);
    const stored = store(part, stream, fileName ?? '', contentType);
    storing.push(stored);
    stream.once('close', () => open.delete(stream));
    stream.once('end', () => {
      open.delete(stream);
      ended.push(stored);
    });
  });
  parser.on('fieldsLimit', () => fail(tooMany('fields', FIELDS_MAX)));
  parser.on('filesLimit', () => fail(tooMany('files', FILES_MAX)));
  parser.on('error', (cause) => fail(new AppError('invalid_request', BROKEN, { cause })));
  const finished = new Promise<void>((resolve) => parser.once('finish', resolve));

  try {
    let textBytes = 0;
    for await (const chunk of chunks) {
      await Promise.race([written(parser, chunk), failed]);
      // Most of a form's bytes are files; those that are not stay in memory.
      if (open.size === 0) {
        textBytes += chunk.byteLength;
        lease.grow(chunk.byteLength);
        if (textBytes > textBytesMax) throw tooMuchText(textBytesMax);
      }
      // One file after the other, so that a place that is slow holds the client up, and not the memory.
      await Promise.race([Promise.all(ended), failed]);
      ended = [];
    }
    parser.end();
    await Promise.race([finished, failed]);
    await Promise.race([Promise.all(storing), failed]);
  } catch (error) {
    // What is half stored is given up, and what is given up is gone before anybody is told.
    for (const stream of open) stream.destroy(error instanceof Error ? error : new Error('the form was given up'));
    await Promise.all(storing);
    throw error;
  }
  return formOf(parts, addressOf);
}

/** A form that is all text. @throws AppError. */
export function readUrlEncoded(form: string): ReadForm {
  const fields = Array.from(new URLSearchParams(form), ([name, value]) => ({ name, value }));
  if (fields.length > FIELDS_MAX) throw tooMany('fields', FIELDS_MAX);
  if (fields.some(({ name }) => name === '')) throw nameless();
  const text = objectOfFields(fields);
  return { text, uploads: new Map(), fingerprint: text };
}

const BROKEN = 'The form cannot be read: it ends before its last boundary, or is not what its content type says.';

function openParser({ contentType, textBytesMax, textParts }: FormOptions): BusboyInstance {
  const boundary = /;\s*boundary=(?:"([^"]*)"|([^\s;]*))/i.exec(contentType);
  const length = (boundary?.[1] ?? boundary?.[2] ?? '').length;
  if (length === 0 || length > BOUNDARY_CHARACTERS_MAX) {
    throw new AppError(
      'invalid_request',
      `The content type must name the boundary of the form, of 1 to ${BOUNDARY_CHARACTERS_MAX} characters.`,
    );
  }
  return new Busboy({
    headers: { 'content-type': contentType },
    limits: { fields: FIELDS_MAX, files: FILES_MAX, fieldSize: textBytesMax, ...HEADERS_MAX },
    // Some clients send media without a name.
    isPartAFile: (name, type, fileName) =>
      !textParts.includes(name ?? '') && (fileName !== undefined || /^(image|video|audio)\/|^application\/octet-stream$/.test(type ?? '')),
  });
}

function written(parser: BusboyInstance, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve) => void parser.write(chunk, () => resolve()));
}

/** The chunks of a file; undefined for what a browser sends where no file was chosen. */
async function fileIn(stream: AsyncIterable<Uint8Array>, fileName: string): Promise<AsyncIterable<Uint8Array> | undefined> {
  const source = stream[Symbol.asyncIterator]();
  const first = await source.next();
  if (first.done && fileName === '') return undefined;
  async function* chunks(): AsyncIterable<Uint8Array> {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => source };
  }
  return chunks();
}

function formOf(parts: readonly Part[], addressOf: (upload: Upload) => string): ReadForm {
  const uploads = new Map<string, Upload[]>();
  for (const part of parts) {
    if ('value' in part || !part.upload) continue;
    const name = listName(part.name);
    uploads.set(name, [...(uploads.get(name) ?? []), part.upload]);
  }
  return { text: objectOfParts(parts, addressOf), uploads, fingerprint: objectOfParts(parts, ({ sha256 }) => `sha256:${sha256}`) };
}

function objectOfParts(parts: readonly Part[], textOfFile: (upload: Upload) => string): JsonText {
  return objectOfFields(
    parts.flatMap((part): Field[] => {
      if ('value' in part) return [part];
      return part.upload ? [{ name: part.name, value: textOfFile(part.upload) }] : [];
    }),
  );
}

/** What is wrong with a file is told of its part. */
function namingPart(error: unknown, name: string): unknown {
  if (!(error instanceof AppError)) return error;
  const { code, message, retryAfterSeconds, cause } = error;
  return new AppError(code, `The field ${JSON.stringify(name)} of the form: ${message}`, {
    problems: [{ pointer: jsonPointer([listName(name)]), message }],
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    cause,
  });
}

function nameless(): AppError {
  return new AppError('invalid_request', 'A part of the form has no name.');
}

function tooMany(what: string, max: number): AppError {
  return new AppError('payload_too_large', `A form may have ${max} ${what} at most.`);
}

function tooMuchText(bytesMax: number): AppError {
  return new AppError('payload_too_large', `The fields of a form may have ${bytesMax} bytes at most, files not counted.`);
}

/** Reads an HTTP request into the form that dialects see, with every limit on what a stranger may send. */
import { createHash, randomUUID } from 'node:crypto';
import {
  AppError,
  type DialectRoute,
  type ExactJson,
  type JsonValue,
  jsonPointer,
  type Problem,
  parseExactJson,
  type Upload,
  uploadedFileUrl,
  type WireRequest,
} from '@claimcheck/core';
import type { Uploads } from '@claimcheck/engine';
import type { Context } from 'hono';
import { BODY_BYTES_MAX, type Bodies, type BodyLease, FORM_OVERHEAD_BYTES, JSON_BYTES_MAX } from './bodies.ts';
import type { BroughtFiles } from './brought-files.ts';
import { decoded, firstBytes, type InlinedFile, liftDataUris } from './data-uris.ts';
import { type ReadForm, readMultipart, readUrlEncoded } from './read-form.ts';

export interface ReadOptions {
  readonly body: DialectRoute['body'];
  /** Of a body that is a file. */
  readonly fileName?: DialectRoute['fileName'];
  readonly textParts?: readonly string[];
  readonly followToken?: WireRequest['followToken'];
  readonly publicUrl?: string;
  readonly bodies: Bodies;
  /** Takes the files of forms, and those that stand as data URIs in the parameters of jobs; without it there are neither. */
  readonly files?: FileTaking;
}

export interface FileTaking extends BroughtFiles {
  readonly uploads: Pick<Uploads, 'bytesMax' | 'nameFor'>;
  /** Whether the body is about a job, so that data URIs in it are files. */
  readonly isForJob: boolean;
}

/** What was read, with what only the app needs to know of it. */
export interface ReceivedRequest extends WireRequest {
  /** The same for the same body, whatever addresses its files have got. */
  readonly bodyDigest: string;
}

/** Data URIs of fewer characters stay where they are: an address and a file of its own would cost more. */
export const INLINE_CHARACTERS_MAX = 1_024;
/** As many characters of base64 as tell the type of a file. */
const HEAD_CHARACTERS = 8_192;

/**
 * Files that came are stored when this returns, and when it throws.
 * @throws AppError `payload_too_large`, `unsupported_media_type`, `invalid_json`, `invalid_request`, `unavailable`.
 */
export async function readWireRequest(c: Context, options: ReadOptions): Promise<ReceivedRequest> {
  const url = new URL(c.req.url);
  const params = decodeParams(c.req.param());
  const baseUrl = options.publicUrl ?? url.origin;
  // Before the body, so that nothing is read that cannot be used.
  const kind = bodyKind(c.req.raw, options.body);
  return {
    method: c.req.method,
    path: url.pathname,
    params,
    query: url.searchParams,
    header: (name) => c.req.header(name),
    baseUrl,
    ...(options.followToken && { followToken: options.followToken }),
    ...(await readBody(c.req.raw, kind, { ...options, baseUrl })),
  };
}

/** Hono decodes parameters where it can and leaves malformed ones as they are; those, and NUL, no name can contain. */
function decodeParams(params: Readonly<Record<string, string>>): Record<string, string> {
  for (const value of Object.values(params)) {
    if (value.includes('\u0000') || !value.isWellFormed())
      throw new AppError('invalid_request', 'The path contains a character that no name has.');
  }
  return params;
}

type BodyKind = 'none' | 'json' | 'optional json' | 'text' | 'multipart' | 'urlencoded' | 'file';

function bodyKind(request: Request, allowed: ReadOptions['body']): BodyKind {
  // Many clients name a content type for a body that they do not send: it is looked at once there is one.
  if (allowed === 'none' || allowed === 'optional json' || allowed === 'text' || allowed === 'file') return allowed;
  const type = contentTypeOf(request);
  if (allowed === 'json or form' && type === 'multipart/form-data') return 'multipart';
  if (allowed === 'json or form' && type === 'application/x-www-form-urlencoded') return 'urlencoded';
  checkJson(type, allowed);
  return 'json';
}

function contentTypeOf(request: Request): string | undefined {
  return request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
}

function checkJson(contentType: string | undefined, allowed: ReadOptions['body']): void {
  if (contentType !== undefined && /^application\/(?:[\w.-]+\+)?json$/.test(contentType)) return;
  const sent = contentType === undefined || contentType === '' ? 'none was sent' : `"${contentType}" was sent`;
  const forms = allowed === 'json or form' ? ', or a form as "multipart/form-data" or "application/x-www-form-urlencoded"' : '';
  throw new AppError('unsupported_media_type', `The body must be JSON with "content-type: application/json"${forms}; ${sent}.`);
}

type BodyOptions = ReadOptions & { readonly baseUrl: string };
type ReadBody = Pick<ReceivedRequest, 'body' | 'isForm' | 'uploads' | 'text' | 'bodyDigest'>;

async function readBody(request: Request, kind: BodyKind, options: BodyOptions): Promise<ReadBody> {
  if (kind === 'none') return { bodyDigest: digest('') };
  if (kind === 'file') {
    const upload = await readFile(request, options);
    return { uploads: new Map([['', [upload]]]), bodyDigest: upload.sha256 ?? '' };
  }
  using lease = options.bodies.lease();
  if (kind === 'multipart' || kind === 'urlencoded') {
    const { text, uploads, fingerprint } = await readForm(request, kind, options, lease);
    return { body: await parseBody(Buffer.from(text), options), isForm: true, uploads, bodyDigest: digest(fingerprint) };
  }
  const bytesMax = options.files?.isForJob ? BODY_BYTES_MAX : JSON_BYTES_MAX;
  const bytes = await options.bodies.read(request, { bytesMax, lease, tooLarge: () => tooLarge(bytesMax) });
  const bodyDigest = digest(bytes);
  if (kind === 'text') return { text: decodeUtf8(bytes, 'invalid_request', 'The body'), bodyDigest };
  if (kind === 'optional json') {
    if (bytes.byteLength === 0) return { bodyDigest };
    checkJson(contentTypeOf(request), kind);
  }
  return { body: await parseBody(bytes, options), bodyDigest };
}

async function readFile(request: Request, { bodies, files, fileName }: BodyOptions): Promise<Upload> {
  if (!files) throw new Error('a route that takes files needs a caller whose files they are');
  const { bytesMax } = files.uploads;
  const fileTooLarge = () => new AppError('payload_too_large', `A file may have ${bytesMax} bytes at most.`);
  const contentType = contentTypeOf(request);
  return files.store({
    fileName: fileName?.({ header: (name) => request.headers.get(name) ?? undefined }) ?? '',
    ...(contentType !== undefined && { contentType }),
    chunks: bodies.chunks(request, { bytesMax, tooLarge: fileTooLarge }),
  });
}

async function readForm(request: Request, kind: BodyKind, options: BodyOptions, lease: BodyLease): Promise<ReadForm> {
  const { bodies, files, baseUrl } = options;
  if (!files) throw new Error('a route that takes forms needs a caller whose files they are');
  if (kind === 'urlencoded') {
    return readUrlEncoded(decodeUtf8(await bodies.read(request, { bytesMax: JSON_BYTES_MAX, lease }), 'invalid_request', 'The form'));
  }
  const { bytesMax } = files.uploads;
  const formTooLarge = () => new AppError('payload_too_large', `The files of a form may have ${bytesMax} bytes at most, all together.`);
  return readMultipart({
    contentType: request.headers.get('content-type') ?? '',
    chunks: bodies.chunks(request, { bytesMax: bytesMax + JSON_BYTES_MAX + FORM_OVERHEAD_BYTES, tooLarge: formTooLarge }),
    lease,
    textBytesMax: JSON_BYTES_MAX,
    textParts: options.textParts ?? [],
    storeFile: files.store,
    addressOf: (upload) => uploadedFileUrl(upload, baseUrl),
  });
}

/** Files go out of the text before it is parsed, so that what is parsed is small. */
async function parseBody(bytes: Buffer, { files, baseUrl }: Pick<BodyOptions, 'files' | 'baseUrl'>): Promise<ExactJson> {
  if (!files?.isForJob) return parseExactJson(decodeUtf8(bytes, 'invalid_json', 'The body'));
  const { replace, refused } = replacing(files, (upload) => uploadedFileUrl(upload, baseUrl));
  const lifted = await liftDataUris(bytes, replace);
  if (lifted.byteLength > JSON_BYTES_MAX) throw tooLarge(JSON_BYTES_MAX);
  const body = parseExactJson(decodeUtf8(lifted, 'invalid_json', 'The body'));
  const problems = refused.size > 0 ? [...problemsIn(body.value, refused, [])] : [];
  if (problems.length > 0) {
    const said = problems.map(({ pointer, message }) => `${pointer} ${message}.`).join(' ');
    throw new AppError('invalid_parameters', `A data URI in the body cannot be used: ${said}`, { problems });
  }
  return body;
}

/** Where a data URI stands is known once the text was parsed. Until then a mark stands for one that is refused. */
function replacing(files: FileTaking, addressOf: (upload: Upload) => string) {
  const refused = new Map<string, string>();
  const refuse = (message: string) => {
    const mark = randomUUID();
    refused.set(mark, message);
    return mark;
  };
  const replace = async ({ base64, characters, contentType }: InlinedFile): Promise<string | undefined> => {
    if (!base64) return refuse('is a data URI whose base64 is broken or empty');
    if (Math.floor((base64.length * 3) / 4) > files.uploads.bytesMax)
      return refuse(`has a file of more than ${files.uploads.bytesMax} bytes`);
    const fileName = await files.uploads.nameFor(firstBytes(base64, HEAD_CHARACTERS), contentType);
    if (fileName === undefined) return refuse(`is a data URI that says ${JSON.stringify(contentType)} of bytes that are something else`);
    if (characters <= INLINE_CHARACTERS_MAX) return undefined;
    const type = contentType === undefined ? {} : { contentType };
    return addressOf(await files.store({ fileName, ...type, chunks: decoded(base64) }));
  };
  return { replace, refused };
}

function* problemsIn(value: JsonValue, refused: ReadonlyMap<string, string>, path: readonly (string | number)[]): Iterable<Problem> {
  const message = typeof value === 'string' ? refused.get(value) : undefined;
  if (message !== undefined) yield { pointer: jsonPointer(path), message };
  if (typeof value !== 'object' || value === null) return;
  for (const [key, member] of Object.entries(value)) yield* problemsIn(member, refused, [...path, key]);
}

function tooLarge(bytesMax: number): AppError {
  const files = bytesMax === BODY_BYTES_MAX ? ': upload larger files, and name their addresses instead' : '';
  return new AppError('payload_too_large', `The body may have ${bytesMax} bytes at most${files}.`);
}

function digest(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** @throws AppError with that code. */
export function decodeUtf8(bytes: Uint8Array, code: 'invalid_json' | 'invalid_request', what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    const kind = code === 'invalid_json' ? 'valid JSON' : 'valid';
    throw new AppError(code, `${what} is not ${kind}: it is not UTF-8 text.`);
  }
}

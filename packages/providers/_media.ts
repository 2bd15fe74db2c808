/** Media out of what upstreams answer: links stay links; what comes inline goes into the asset store and never further. */
import type { Media, Run } from '@claimcheck/core';

/** What a vendor tells of a medium besides its place; what is no such thing is passed over. */
export interface MediaHints {
  /** As the vendor tells it, parameters and all. */
  readonly contentType?: unknown;
  readonly fileName?: unknown;
  readonly bytes?: unknown;
  readonly width?: unknown;
  readonly height?: unknown;
}

/** File name extensions of content types; the first of a type names files that have no name of their own. */
const TYPES: Readonly<Record<string, string>> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  webp: 'image/webp',
  gif: 'image/gif',
  avif: 'image/avif',
  svg: 'image/svg+xml',
  mp4: 'video/mp4',
  webm: 'video/webm',
  mov: 'video/quicktime',
  mp3: 'audio/mpeg',
  wav: 'audio/wav',
  ogg: 'audio/ogg',
  flac: 'audio/flac',
  m4a: 'audio/mp4',
  glb: 'model/gltf-binary',
  json: 'application/json',
  txt: 'text/plain',
  zip: 'application/zip',
};
const UNKNOWN_TYPE = 'application/octet-stream';

/** The medium that a link leads to. Undefined for anything that is not one absolute http(s) address. */
export function linkedMedia(link: unknown, hints: MediaHints = {}): Media | undefined {
  if (!isLink(link)) return undefined;
  const fileName = safeName(hints.fileName) ?? safeName(new URL(link).pathname.split('/').at(-1));
  const contentType = mimeType(hints.contentType) ?? TYPES[extensionOf(fileName ?? '')] ?? UNKNOWN_TYPE;
  const [bytes, width, height] = [hints.bytes, hints.width, hints.height].map(positive);
  return {
    location: { url: link },
    contentType,
    fileName: fileName ?? nameFor(contentType),
    ...(bytes !== undefined && { bytes }),
    ...(width !== undefined && height !== undefined && { width, height }),
  };
}

/** True for text that is one http(s) address and nothing else. */
export function isLink(value: unknown): value is string {
  if (typeof value !== 'string' || !/^https?:\/\/\S+$/i.test(value)) return false;
  const url = URL.parse(value);
  // Credentials in an address would be shown to clients and sent by them.
  return url !== null && url.username === '' && url.password === '';
}

/** Keeps bytes that an upstream sent as they are. The content type is the one that the vendor tells, else what the bytes look like. */
export function storeBytes(run: Run, bytes: Uint8Array, told?: unknown): Promise<Media> {
  const contentType = mimeType(told) ?? typeOfBytes(bytes) ?? UNKNOWN_TYPE;
  return run.storeFile({ bytes, contentType, fileName: nameFor(contentType) });
}

/** Like {@link storeBytes}, for a type that is known and a name of the adapter's choice, without extension. */
export async function storedMedia(run: Run, bytes: Uint8Array, contentType: string, name: string): Promise<Media> {
  return run.storeFile({ bytes, contentType, fileName: safeName(`${name}.${extensionFor(contentType)}`) ?? nameFor(contentType) });
}

/** Bytes and type of a data URI, base64 or not; undefined when the text is none. */
export function readDataUri(text: string): { readonly bytes: Uint8Array; readonly contentType: string } | undefined {
  // Only the head is matched: the rest may be many megabytes.
  const head = /^data:([^,]{0,200}?)(;base64)?,/i.exec(text.slice(0, 300));
  if (!head) return undefined;
  const rest = text.slice(head[0].length);
  const bytes = Buffer.from(head[2] ? rest : decoded(rest), head[2] ? 'base64' : 'utf8');
  return { bytes, contentType: mimeType(head[1]) ?? typeOfBytes(bytes) ?? UNKNOWN_TYPE };
}

/** Keeps a file that came inside of text: a data URI, or base64 of a known kind of file. Undefined for any other text. */
export async function storeInline(run: Run, text: string): Promise<Media | undefined> {
  const uri = /^data:([^,]{0,200});base64,/i.exec(text);
  if (uri) return storeBytes(run, Buffer.from(text.slice(uri[0].length), 'base64'), uri[1]);
  // The start is looked at first: a long answer in words is not decoded only to find that out.
  if (!/^[A-Za-z0-9+/]{16,64}/.test(text) || typeOfBytes(Buffer.from(text.slice(0, 64), 'base64')) === undefined) return undefined;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  return storeBytes(run, Buffer.from(text, 'base64'));
}

/** `image/png` of `image/PNG; charset=binary`; undefined for what is no content type, or says nothing. */
export function mimeType(told: unknown): string | undefined {
  const type = typeof told === 'string' ? told.split(';', 1)[0]?.trim().toLowerCase() : undefined;
  return type !== undefined && type !== UNKNOWN_TYPE && /^[a-z]+\/[a-z0-9.+-]{1,100}$/.test(type) ? type : undefined;
}

/** The first bytes of the kinds of files that models make. */
function typeOfBytes(bytes: Uint8Array): string | undefined {
  const start = Buffer.from(bytes.subarray(0, 12)).toString('latin1');
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return 'image/png';
  if (start.startsWith('\xff\xd8\xff')) return 'image/jpeg';
  if (start.startsWith('GIF8')) return 'image/gif';
  if (start.startsWith('RIFF') && start.endsWith('WEBP')) return 'image/webp';
  if (start.startsWith('RIFF') && start.endsWith('WAVE')) return 'audio/wav';
  if (start.slice(4, 8) === 'ftyp') return start.startsWith('avif', 8) ? 'image/avif' : 'video/mp4';
  if (start.startsWith('\x1a\x45\xdf\xa3')) return 'video/webm';
  if (start.startsWith('ID3')) return 'audio/mpeg';
  if (start.startsWith('OggS')) return 'audio/ogg';
  if (start.startsWith('fLaC')) return 'audio/flac';
  return start.startsWith('glTF') ? 'model/gltf-binary' : undefined;
}

/** A name made of harmless characters only, as it ends up in headers and paths. */
function safeName(name: unknown): string | undefined {
  if (typeof name !== 'string') return undefined;
  const safe = name.replace(/[^\w.-]+/g, '_').replace(/^\.+/, '');
  return safe === '' ? undefined : safe.slice(-100);
}

function nameFor(contentType: string): string {
  const kind = contentType.split('/', 1)[0];
  return `${kind === 'application' ? 'file' : kind}.${extensionFor(contentType)}`;
}

function extensionFor(contentType: string): string {
  return Object.keys(TYPES).find((key) => TYPES[key] === contentType) ?? 'bin';
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function extensionOf(fileName: string): string {
  return fileName.includes('.') ? (fileName.split('.').at(-1) ?? '').toLowerCase() : '';
}

function positive(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

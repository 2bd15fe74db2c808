/** Media as upstreams give them, links and data URIs, in the normal form. */
import type { Media, Run } from '@claimcheck/core';

/** By extension; the other direction takes the first of a type. */
const CONTENT_TYPES: Readonly<Record<string, string>> = {
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
  json: 'application/json',
  txt: 'text/plain',
  zip: 'application/zip',
  glb: 'model/gltf-binary',
};
const UNKNOWN = 'application/octet-stream';

/** What an upstream says of a medium, besides where it is. */
export type MediaFacts = Partial<Pick<Media, 'contentType' | 'fileName' | 'bytes' | 'width' | 'height'>>;

/**
 * A medium behind a link; undefined unless it is one over http(s). The content type is the one that was told, else by extension. Nothing is
 * fetched here: a link in an answer is hostile, and whoever fetches it has to judge where it leads.
 */
export function linkedMedia(link: string, facts: MediaFacts = {}): Media | undefined {
  if (!/^https?:\/\//i.test(link) || !URL.canParse(link)) return undefined;
  const last = new URL(link).pathname.split('/').at(-1) ?? '';
  const contentType = typeOf(facts.contentType) ?? CONTENT_TYPES[extensionOf(last)] ?? UNKNOWN;
  return { ...facts, location: { url: link }, contentType, fileName: nameOf(facts.fileName ?? decoded(last), contentType) };
}

/** Bytes and type of a data URI; undefined when the text is none. */
export function readDataUri(text: string): { readonly bytes: Uint8Array; readonly contentType: string } | undefined {
  // Only the head is matched: the rest may be many megabytes.
  const comma = text.startsWith('data:') ? text.slice(0, 300).indexOf(',') : -1;
  if (comma < 0) return undefined;
  const head = text.slice('data:'.length, comma);
  const rest = text.slice(comma + 1);
  const bytes = /;base64$/i.test(head) ? Buffer.from(rest, 'base64') : Buffer.from(decoded(rest), 'utf8');
  return { bytes, contentType: typeOf(head) ?? UNKNOWN };
}

/** Keeps bytes that came inside of an answer. `name` is without extension; the extension is that of the type. */
export async function storedMedia(run: Run, bytes: Uint8Array, contentType: string, name: string): Promise<Media> {
  return run.storeFile({ bytes, contentType, fileName: nameOf(name, contentType) });
}

/** Without parameters and in lower case; undefined for what is no MIME type. */
export function typeOf(contentType: string | undefined): string | undefined {
  const type = contentType?.split(';', 1)[0]?.trim().toLowerCase();
  return type !== undefined && /^[\w.+-]+\/[\w.+-]+$/.test(type) ? type : undefined;
}

/** A name that is safe in headers and on disks, with an extension. */
function nameOf(name: string, contentType: string): string {
  const plain = name
    .replace(/[^\w.-]+/g, '_')
    .replace(/^[._]+/, '')
    .slice(-100);
  if (extensionOf(plain) !== '' && plain !== '') return plain;
  const extension = Object.entries(CONTENT_TYPES).find(([, type]) => type === contentType)?.[0] ?? 'bin';
  return `${plain === '' ? 'file' : plain}.${extension}`;
}

function extensionOf(name: string): string {
  return /\.([a-z0-9]{1,5})$/i.exec(name)?.[1]?.toLowerCase() ?? '';
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What a file is: its first bytes are believed, and what an upstream says of it where they tell nothing. */
import { fileTypeFromBuffer, supportedExtensions } from 'file-type';

/** As many of a file's first bytes are looked at. */
export const HEAD_BYTES = 4_100;

export interface MediaType {
  /** MIME type, without parameters. */
  readonly contentType: string;
  /** As the type's files are called, without the dot; undefined where only the upstream's word is known. */
  readonly extension?: string;
}

const UNKNOWN = 'application/octet-stream';
/** Names of types that have several. */
const USUAL: Readonly<Record<string, string>> = { 'audio/x-m4a': 'audio/mp4', 'image/jpg': 'image/jpeg', 'audio/x-flac': 'audio/flac' };
/** What more specific types are made of. */
const CONTAINERS: ReadonlySet<string> = new Set(['application/zip', 'application/gzip', 'application/xml', 'application/x-cfb']);
const XML = 'application/xml';
const SVG: MediaType = { contentType: 'image/svg+xml', extension: 'svg' };

/**
 * The type of a file that begins with `head`. `told` is what the upstream says, the most trusted first; what says nothing is passed over.
 * Undefined when the file is not what was told: a page or other text instead of a picture, video or sound, something that is no picture
 * instead of one, a page where no text was told.
 */
export async function judgeType(head: Uint8Array, told: readonly (string | undefined)[]): Promise<MediaType | undefined> {
  const said = told.map(plain).find((type) => type !== undefined && type !== UNKNOWN);
  const isMedium = said !== undefined && isMediumType(said);
  const seen = await typeByBytes(head);
  if (seen && seen.contentType !== XML) {
    if (isMedium) return isMediumType(seen.contentType) ? ofOneContainer(said, seen) : undefined;
    // A type that is packed in a usual container is better known by its own name.
    return said !== undefined && CONTAINERS.has(seen.contentType) ? { contentType: said } : seen;
  }
  const text = textOf(head);
  const isPicturePossible = said === undefined || isMedium;
  if (isPicturePossible && text !== undefined && /^<svg[\s>]/i.test(afterProlog(text))) return SVG;
  if (isMedium) return said.startsWith('image/') || text !== undefined ? undefined : { contentType: said };
  if (text !== undefined && isPage(text) && !isTextType(said)) return undefined;
  return { contentType: said ?? UNKNOWN };
}

/** The name with the extension of the type: in place of another known one, else behind it. */
export function namedAs(fileName: string, extension: string): string {
  const dot = fileName.lastIndexOf('.');
  const current = fileName.slice(dot + 1).toLowerCase();
  const isExtension = dot > 0 && (OTHER_EXTENSIONS.has(current) || EXTENSIONS.has(current));
  return `${isExtension ? fileName.slice(0, dot) : fileName}.${extension}`;
}

const EXTENSIONS: ReadonlySet<string> = supportedExtensions;
/** Usual ones besides those that bytes are recognised by. */
const OTHER_EXTENSIONS: ReadonlySet<string> = new Set(['jpeg', 'tiff', 'svg', 'htm', 'html', 'txt', 'json', 'bin']);

async function typeByBytes(head: Uint8Array): Promise<MediaType | undefined> {
  try {
    const found = await fileTypeFromBuffer(head.subarray(0, HEAD_BYTES));
    const contentType = plain(found?.mime);
    return found && contentType !== undefined ? { contentType, extension: found.ext } : undefined;
  } catch {
    // Bytes that confuse the library are of no kind that it knows.
    return undefined;
  }
}

function plain(type: string | undefined): string | undefined {
  const name = type?.split(';', 1)[0]?.trim().toLowerCase();
  if (name === undefined || !/^[a-z]+\/[a-z0-9.+-]{1,100}$/.test(name)) return undefined;
  return USUAL[name] ?? name;
}

function isMediumType(type: string): boolean {
  return /^(image|video|audio)\//.test(type);
}

function isTextType(type: string | undefined): boolean {
  return type !== undefined && (type.startsWith('text/') || /^application\/(.+\+)?(json|xml)$/.test(type));
}

/** Sound and video share containers; bytes alone do not always tell which it is. */
function ofOneContainer(said: string, seen: MediaType): MediaType {
  const [family, format] = said.split('/');
  return format === seen.contentType.split('/')[1] && family === 'audio' ? { contentType: said } : seen;
}

/** The beginning as text, without what may stand before it; undefined when it is none. */
function textOf(head: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(head.subarray(0, HEAD_BYTES), { stream: true });
    return /[^\P{Cc}\t\n\r\f]/u.test(text) ? undefined : text.trimStart();
  } catch {
    return undefined;
  }
}

function isPage(text: string): boolean {
  return /^<(!doctype html|html|head|body|script|title|meta|h1|div)[\s>]/i.test(afterProlog(text));
}

const PROLOGS = [
  ['<?', '?>'],
  ['<!--', '-->'],
  ['<!doctype svg', '>'],
] as const;

/** What follows declarations and comments. In steps, because an expression for any number of them could be made to try for ever. */
function afterProlog(text: string): string {
  for (let rest = text; ; ) {
    const prolog = PROLOGS.find(([start]) => rest.slice(0, start.length).toLowerCase() === start);
    const end = prolog ? rest.indexOf(prolog[1], prolog[0].length) : -1;
    if (!prolog || end < 0) return rest;
    rest = rest.slice(end + prolog[1].length).trimStart();
  }
}

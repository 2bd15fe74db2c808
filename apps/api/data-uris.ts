/**
 * Takes files out of JSON where they stand as data URIs. It works on the text as it came, before that is parsed: a parser goes through it
 * character by character, which takes hundreds of times as long for megabytes of base64.
 */

/** A file that stands in a text as base64. */
export interface InlinedFile {
  /** As the URI says; undefined when it says nothing. */
  readonly contentType: string | undefined;
  /** Of the text. */
  readonly characters: number;
  /** Not decoded, without padding; undefined when it is not right. */
  readonly base64: Buffer | undefined;
}

/** Of what stands before the base64. */
const HEAD_CHARACTERS_MAX = 256;
/** Multiples of four characters can be decoded by themselves. */
const STEP_CHARACTERS = 64 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const PADDING = 0x3d;
const START = '"data:';

/**
 * The document with each text that is a base64 data URI replaced by what `replace` says of it, and left where that says nothing; the same
 * document when nothing is replaced. What is no valid JSON stays so.
 */
export async function liftDataUris(json: Buffer, replace: (file: InlinedFile) => Promise<string | undefined>): Promise<Buffer> {
  const kept: Uint8Array[] = [];
  let keptUntil = 0;
  for (let at = json.indexOf(START); at >= 0; at = json.indexOf(START, at + START.length)) {
    // In valid JSON, a quote that no backslash stands before and that text follows is one that begins a text.
    if (json[at - 1] === BACKSLASH) continue;
    const end = json.indexOf(QUOTE, at + START.length);
    if (end < 0) break;
    if (json[end - 1] === BACKSLASH || isKey(json, end)) continue;
    const file = inlinedFile(json.subarray(at, end + 1));
    const replacement = file && (await replace(file));
    if (replacement === undefined) continue;
    kept.push(json.subarray(keptUntil, at), Buffer.from(JSON.stringify(replacement)));
    keptUntil = end + 1;
    at = end - START.length;
  }
  return keptUntil === 0 ? json : Buffer.concat([...kept, json.subarray(keptUntil)]);
}

/** The bytes of a file, a few at a time. */
export async function* decoded(base64: Buffer): AsyncIterable<Uint8Array> {
  for (let at = 0; at < base64.length; at += STEP_CHARACTERS) yield decode(base64.subarray(at, at + STEP_CHARACTERS));
}

/** The first bytes of a file: three quarters of as many characters. */
export function firstBytes(base64: Buffer, characters: number): Uint8Array {
  return decode(base64.subarray(0, characters));
}

function decode(base64: Buffer): Buffer {
  return Buffer.from(base64.toString('latin1'), 'base64');
}

/** What comes behind the closing quote of a member's name. */
function isKey(json: Buffer, end: number): boolean {
  let next = end + 1;
  while (json[next] === 0x20 || json[next] === 0x09 || json[next] === 0x0a || json[next] === 0x0d) next += 1;
  return json[next] === COLON;
}

/** What a text, with its quotes, says; undefined when that is no data URI of base64. */
function inlinedFile(quoted: Buffer): InlinedFile | undefined {
  const uri = quoted.includes(BACKSLASH) ? unescaped(quoted) : quoted.subarray(1, -1);
  const head = uri?.toString('latin1', 0, HEAD_CHARACTERS_MAX) ?? '';
  const match = /^data:([^,;]*)(?:;[^,;]*)*;base64,/i.exec(head);
  if (!uri || !match) return undefined;
  const [{ length }, type = ''] = match;
  const base64 = withoutPadding(uri.subarray(length));
  return { contentType: type.trim() || undefined, characters: uri.length, base64: isBase64(base64) ? base64 : undefined };
}

/** Some clients escape slashes, and break lines. */
function unescaped(quoted: Buffer): Buffer | undefined {
  try {
    const text: unknown = JSON.parse(quoted.toString('latin1'));
    return typeof text === 'string' ? Buffer.from(text.replace(/[\r\n]+/g, ''), 'latin1') : undefined;
  } catch {
    return undefined;
  }
}

function withoutPadding(base64: Buffer): Buffer {
  const { length } = base64;
  const padding = base64[length - 1] === PADDING ? (base64[length - 2] === PADDING ? 2 : 1) : 0;
  return base64.subarray(0, length - padding);
}

/** Whether every character counts: what decodes base64 passes over the others, which the result is then short of. */
function isBase64(base64: Buffer): boolean {
  if (base64.length === 0 || base64.length % 4 === 1) return false;
  for (let at = 0; at < base64.length; at += STEP_CHARACTERS) {
    const step = base64.subarray(at, at + STEP_CHARACTERS);
    if (decode(step).length !== Math.floor((step.length * 3) / 4)) return false;
  }
  return true;
}

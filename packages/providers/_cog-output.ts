/**
 * The output of a Cog model, any JSON that its author chose, in the normal form. Files are data URIs inside of it, or links where the
 * container uploads them itself (cog.md, section 9).
 */
import { isJsonObject, type JsonValue, type Media, type Output, type Run } from '@claimcheck/core';
import { isLink, linkedMedia, readDataUri, storedMedia } from './_media.ts';

/** Deeper ones are no files; the limit of documents is far above. */
const DEPTH_MAX = 8;

/** Files become media in the order in which they stand; what is left is text, where it is only that, or JSON. */
export async function readCogOutput(run: Run, output: JsonValue): Promise<Output> {
  const media: Media[] = [];
  const rest = await withoutFiles(run, output, media, 0);
  const seed = isJsonObject(output) && typeof output.seed === 'number' ? output.seed : undefined;
  const text = textOf(rest);
  return {
    media,
    ...(text !== undefined && { text }),
    ...(rest !== undefined && rest !== null && text === undefined && { json: rest }),
    ...(seed !== undefined && { seed }),
  };
}

/** The words of an output that is still growing: a list of pieces, none of which is a file. */
export function partialTextOf(output: JsonValue | undefined): string | undefined {
  const isFiles = Array.isArray(output) && output.some((piece) => isLink(piece) || (typeof piece === 'string' && readDataUri(piece)));
  return isFiles ? undefined : textOf(output);
}

/** What of a value is not a file; files go to `media`. Undefined when nothing is left. */
async function withoutFiles(run: Run, value: JsonValue, media: Media[], depth: number): Promise<JsonValue | undefined> {
  if (typeof value === 'string') {
    const medium = await readFile(run, value, media.length);
    if (!medium) return value;
    media.push(medium);
    return undefined;
  }
  if (typeof value !== 'object' || value === null || depth >= DEPTH_MAX) return value;
  const left: [string, JsonValue][] = [];
  // One after the other: a list of files would else be decoded all at once.
  for (const [key, member] of Object.entries(value)) {
    const rest = await withoutFiles(run, member, media, depth + 1);
    if (rest !== undefined) left.push([key, rest]);
  }
  if (left.length === 0 && Object.keys(value).length > 0) return undefined;
  return Array.isArray(value) ? left.map(([, member]) => member) : Object.fromEntries(left);
}

async function readFile(run: Run, text: string, index: number): Promise<Media | undefined> {
  const inline = readDataUri(text);
  if (inline) return storedMedia(run, inline.bytes, inline.contentType, `output-${index}`);
  return linkedMedia(text);
}

/** Language models answer with one text, or with the list of its pieces. */
function textOf(rest: JsonValue | undefined): string | undefined {
  if (typeof rest === 'string') return rest;
  if (!Array.isArray(rest) || rest.length === 0 || !rest.every((piece) => typeof piece === 'string')) return undefined;
  return rest.join('');
}

/** The output of a task of inference.sh in the normal form. Each app has an output of its own, so files are looked for wherever they are. */
import { isJsonObject, type JsonValue, type Media, type Output, RetryableError, type Run } from '@claimcheck/core';
import { linkedMedia, storeInline } from './_media.ts';

/** More than any app makes; an answer that goes on for ever ends here. */
const MEDIA_MAX = 100;
const DEPTH_MAX = 8;
/** Echoes of the input, which may be links as well. */
const ECHOES: ReadonlySet<string> = new Set(['input', 'prompt', 'negative_prompt']);

/** @throws RetryableError when there is no output yet. */
export async function readTaskOutput(run: Run, output: JsonValue | undefined): Promise<Output> {
  if (output === undefined || output === null) throw new RetryableError('The task is done, but the provider has no result yet.');
  const media: Media[] = [];
  await collect(run, output, media, 0);
  const seed = isJsonObject(output) ? output.seed : undefined;
  const text = isJsonObject(output) ? output.text : output;
  return {
    media,
    // What has become media is not repeated: it may hold megabytes of base64.
    ...(media.length === 0 && (typeof text === 'string' ? { text } : { json: output })),
    ...(typeof seed === 'number' && Number.isSafeInteger(seed) && seed >= 0 && { seed }),
  };
}

async function collect(run: Run, value: JsonValue, media: Media[], depth: number): Promise<void> {
  if (media.length >= MEDIA_MAX || depth > DEPTH_MAX) return;
  if (typeof value === 'string') {
    const found = linkedMedia(value) ?? (await storeInline(run, value));
    if (found) media.push(found);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  const file = isJsonObject(value) ? fileIn(value) : undefined;
  if (file) {
    media.push(file);
    return;
  }
  for (const [name, part] of Object.entries(value)) if (!ECHOES.has(name)) await collect(run, part, media, depth + 1);
}

/** The vendor's own form of a file (protocols/inference-sh.md, section 7). */
function fileIn(value: { readonly [key: string]: JsonValue }): Media | undefined {
  const { uri, content_type: contentType, filename: fileName, size: bytes, width, height } = value;
  return linkedMedia(uri, { contentType, fileName, bytes, width, height });
}

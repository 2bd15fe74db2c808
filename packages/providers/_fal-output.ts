/**
 * What fal's models answer, in the normal form. There is no envelope: the body is the model's own output (fal.md, section 2), in which files
 * are objects with a `url` (section 8).
 */
import { isJsonObject, type JsonObject, type JsonValue, type Media, type Output, type Run, TerminalError } from '@claimcheck/core';
import { factsOf, timingsIn, tokensIn } from './_facts.ts';
import { linkedMedia, readDataUri, storeBytes } from './_media.ts';

/** Members that hold the words of a language model. */
const TEXTS = ['output', 'text', 'response'] as const;

/**
 * Files become media in the order in which they stand. Without any, the output is text, or JSON as it is. `metrics` are those of the run's
 * status, where it was asked for.
 * @throws TerminalError for an output with nothing in it: the run is over, so looking again would not change that.
 */
export async function readFalOutput(run: Run, output: JsonValue, metrics?: JsonValue): Promise<Output> {
  const body = isJsonObject(output) ? output : { output };
  const media: Media[] = [];
  for (const [key, value] of Object.entries(body)) {
    // One after the other: pictures that came inline would else be decoded all at once.
    for (const file of Array.isArray(value) ? value : [value]) {
      const medium = await readFile(run, key, file);
      if (medium) media.push(medium);
    }
  }
  const timings = { ...timingsIn(metrics), ...timingsIn(body.timings) };
  const facts = { ...seedOf(body), ...nsfwOf(body, media.length), ...factsOf(timings, tokensIn(body.usage)) };
  if (media.length > 0) return { media, ...facts };
  const text = TEXTS.map((key) => body[key]).find((value) => typeof value === 'string' && value !== '');
  if (typeof text === 'string') return { media, text, ...facts };
  if (output === null || Object.keys(body).length === 0) throw new TerminalError('The provider finished without a result.');
  return { media, json: output, ...facts };
}

/** Some models tell of a file by its address only, in a member such as `audio_url`. */
async function readFile(run: Run, key: string, file: JsonValue): Promise<Media | undefined> {
  const { url, content_type, file_name, file_size, width, height }: JsonObject = isJsonObject(file) ? file : {};
  const place = typeof url === 'string' ? url : /(^|_)(url|image|video|audio)s?$/.test(key) ? file : undefined;
  if (typeof place !== 'string') return undefined;
  // With `sync_mode` the address is a data URI (section 8).
  const inline = readDataUri(place);
  if (inline) return storeBytes(run, inline.bytes, inline.contentType);
  return linkedMedia(place, { contentType: content_type, fileName: file_name, bytes: file_size, width, height });
}

function seedOf({ seed }: JsonObject): Pick<Output, 'seed'> {
  return typeof seed === 'number' && Number.isSafeInteger(seed) && seed >= 0 ? { seed } : {};
}

/** One flag per picture (section 9); a list that fits no picture would blame the wrong one. */
function nsfwOf({ has_nsfw_concepts: flags }: JsonObject, count: number): Pick<Output, 'nsfw'> {
  if (!Array.isArray(flags) || flags.length !== count || count === 0) return {};
  return flags.every((flag) => typeof flag === 'boolean') ? { nsfw: flags } : {};
}

/** Segmind's results in the normal form: the JSON of v2, and what v1 answers at once. Sections are of the protocol sheet. */
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Media,
  type Output,
  RetryableError,
  type Run,
  TerminalError,
} from '@claimcheck/core';
import type { CallAnswer } from './_call.ts';
import { factsOf, timingsIn, tokensIn, usdIn } from './_facts.ts';
import { linkedMedia, mimeType, storeBytes, storeInline } from './_media.ts';

/**
 * Reads the result body of v2 (section 4): `images` and `video` describe files, `output` is always there and is a link, plain text, or the
 * JSON text of a language model's answer. Clients of the vendor also meet arrays and objects in it.
 * @throws TerminalError when there is nothing in it: the run is over, so asking again would not change that.
 */
export async function readResult(run: Run, body: JsonObject): Promise<Output> {
  const described = [...listOf(body.images), body.video].map(describedMedia).filter((media) => media !== undefined);
  const seed = seedOf(body.seed);
  const output = described.length > 0 ? { media: described } : await readOutput(run, body.output);
  if (!output) throw new TerminalError('The provider finished without a result.');
  const metrics = isJsonObject(body.metrics) ? body.metrics : {};
  const timings = { ...timingsIn(body.timings), ...timingsIn(metrics, { isTiming: (name) => name.endsWith('_time') }) };
  // Credits are dollars. What is left of them is the operator's business, and goes no further.
  return { ...output, ...seed, ...factsOf(timings, { ...output.usage, ...usdIn(metrics.cost) }) };
}

/** Reads what v1 answers with 200 (section 2): the bytes of a file, or the JSON of a language model. The rest is in headers (section 7). */
export async function readSynchronous(run: Run, answer: CallAnswer): Promise<Output> {
  const type = mimeType(answer.header('content-type')) ?? '';
  const isFile = /^(image|video|audio|model)\//.test(type) && answer.bytes.length > 0;
  const said = isFile ? undefined : (answer.json ?? (type === 'text/plain' ? Buffer.from(answer.bytes).toString('utf8') : undefined));
  const output = isFile ? { media: [await storeBytes(run, answer.bytes, type)] } : await readOutput(run, said);
  // v1 has no run to ask for later, so a page of a proxy leaves open whether there was one.
  if (!output) throw new RetryableError('The provider answered with something that is no result.', { mayHaveStarted: answer.startsRun });
  const told = (name: string) => Number(answer.header(name) || Number.NaN);
  const timings = timingsIn({ generation_time: told('x-generation-time') });
  return { ...output, ...seedOf(told('x-seed-value')), ...factsOf(timings, { ...output.usage, ...usdIn(told('x-cost')) }) };
}

async function readOutput(run: Run, output: JsonValue | undefined): Promise<Output | undefined> {
  if (typeof output === 'string') return readText(run, output);
  if (Array.isArray(output) && output.length > 0) {
    const media = await Promise.all(output.map(async (each) => (typeof each === 'string' ? mediaOf(run, each) : describedMedia(each))));
    const found = media.filter((each) => each !== undefined);
    return found.length === output.length ? { media: found } : { media: [], json: output };
  }
  return isJsonObject(output) ? readAnswer(output) : undefined;
}

async function readText(run: Run, output: string): Promise<Output | undefined> {
  const media = await mediaOf(run, output);
  if (media) return { media: [media] };
  const answer = parsed(output);
  if (isJsonObject(answer)) return readAnswer(answer);
  return output === '' ? undefined : { media: [], text: output };
}

/** Of a language model's answer its words, where it has the shape of OpenAI's, Anthropic's or Gemini's (section 4); else the whole of it. */
function readAnswer(answer: JsonObject): Output {
  const text = [
    at(answer, 'choices', 0, 'message', 'content'),
    at(answer, 'content', 0, 'text'),
    at(answer, 'candidates', 0, 'content', 'parts', 0, 'text'),
  ].find((found) => typeof found === 'string');
  const tokens = factsOf({}, tokensIn(answer.usage ?? answer.usageMetadata));
  return { media: [], ...(typeof text === 'string' ? { text } : { json: answer }), ...tokens };
}

async function mediaOf(run: Run, text: string): Promise<Media | undefined> {
  return linkedMedia(text) ?? storeInline(run, text);
}

/** A file object (section 4): `{url, content_type, file_name, file_size}`. */
function describedMedia(file: JsonValue | undefined): Media | undefined {
  if (!isJsonObject(file)) return undefined;
  return linkedMedia(file.url, { contentType: file.content_type, fileName: file.file_name, bytes: file.file_size });
}

/** -1 asks for a random seed (section 3) and is none itself. */
function seedOf(seed: JsonValue | undefined): Pick<Output, 'seed'> {
  return typeof seed === 'number' && Number.isSafeInteger(seed) && seed >= 0 ? { seed } : {};
}

function listOf(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? value : [];
}

function at(value: JsonValue | undefined, ...path: readonly (string | number)[]): JsonValue | undefined {
  let found = value;
  for (const step of path) {
    if (typeof step === 'number') found = listOf(found)[step];
    else found = isJsonObject(found) ? found[step] : undefined;
  }
  return found;
}

function parsed(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

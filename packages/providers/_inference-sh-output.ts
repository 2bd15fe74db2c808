/** The output of a task of inference.sh in the normal form. Each app has an output of its own, so files are looked for wherever they are. */
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Media,
  type Output,
  RetryableError,
  type Run,
  type Usage,
} from '@claimcheck/core';
import { factsOf, secondsIn, timingsIn, tokensIn } from './_facts.ts';
import { linkedMedia, storeInline } from './_media.ts';

/** More than any app makes; an answer that goes on for ever ends here. */
const MEDIA_MAX = 100;
const DEPTH_MAX = 8;
/** Echoes of the input, which may be links as well. */
const ECHOES: ReadonlySet<string> = new Set(['input', 'prompt', 'negative_prompt']);

/** @throws RetryableError when there is no output yet. */
export async function readTaskOutput(run: Run, output: JsonValue | undefined): Promise<Output> {
  if (output === undefined || output === null) throw new RetryableError('The task is done, but the provider has no result yet.');
  // What an app's own language has for pricing is no part of what it made.
  const { output_meta: meta, ...made } = isJsonObject(output) ? output : { output };
  const media: Media[] = [];
  await collect(run, made, media, 0);
  const text = [made.response, made.text, output].find((words) => typeof words === 'string');
  return {
    media,
    // What has become media is not repeated: it may hold megabytes of base64.
    ...(media.length === 0 && (typeof text === 'string' ? { text } : { json: isJsonObject(output) ? made : output })),
    ...(typeof made.seed === 'number' && Number.isSafeInteger(made.seed) && made.seed >= 0 && { seed: made.seed }),
    ...factsOf(timingsIn(made.usage, { isTiming: (name) => TIMINGS.has(name) }), { ...usageIn(meta), ...tokensIn(made.usage) }),
  };
}

/** Apps of language models tell `usage`, in the names of the vendor's own library for apps: these are seconds, beside numbers of tokens. */
const TIMINGS: ReadonlySet<string> = new Set(['time_to_first_token', 'reasoning_time']);

/** Other apps tell what to charge for: items that were read and made, each with its tokens or seconds. */
function usageIn(meta: JsonValue | undefined): Usage {
  const { inputs, outputs } = isJsonObject(meta) ? meta : {};
  return {
    ...tokensIn({ ...total(inputs, 'tokens', 'input_tokens'), ...total(outputs, 'tokens', 'output_tokens') }),
    ...secondsIn(total(outputs, 'seconds', 'seconds').seconds),
  };
}

/** The sum of a member over all items, under another name; nothing where none has it. */
function total(items: JsonValue | undefined, member: string, name: string): JsonObject {
  const amounts = (Array.isArray(items) ? items : []).map((item) => (isJsonObject(item) ? item[member] : undefined));
  const numbers = amounts.filter((amount) => typeof amount === 'number');
  return numbers.length > 0 ? { [name]: numbers.reduce((sum, amount) => sum + amount, 0) } : {};
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

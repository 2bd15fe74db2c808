/**
 * What WaveSpeed says of a run, in the normal form: the prediction object, which polls wrap in an envelope and webhooks carry as it is.
 * Sections are of the protocol sheet.
 */
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
import { factsOf, timingsIn } from './_facts.ts';
import { linkedMedia, storeBytes, storeInline } from './_media.ts';

/** Failures that have a code of their own (section 5); 0 is none, and what is not listed is a failure of the run. */
const REFUSED_CODES: readonly unknown[] = [1200];
/** Missing parameter, invalid parameter, medium out of reach. */
const INPUT_CODES: readonly unknown[] = [1400, 1401, 1402];
/** Insufficient credits: ours, not the caller's. */
const ACCOUNT_CODES: readonly unknown[] = [1407];
/** Internal, unavailable, timeout: of the vendor, not of the request. */
const TRANSIENT_CODES: readonly unknown[] = [5000, 5003, 5004];

/** States that end a run without a result, with what is said when the vendor says nothing (section 5). */
const ENDED: Readonly<Record<string, string>> = {
  failed: 'The run failed at the provider.',
  cancelled: 'The run was cancelled at the provider.',
  timeout: 'The run took longer than the provider allows.',
  deleted: 'The run was deleted at the provider.',
};

/** `said` makes the vendor's words fit for a client, or takes what is given instead. */
export type Said = (text: JsonValue | undefined, otherwise: string) => string;

/**
 * False while the vendor works on it. `created` after `processing` is no contradiction: answers may be stale.
 * @throws RetryableError for a state that is not known.
 */
export function hasEnded({ status }: JsonObject): boolean {
  if (status === 'created' || status === 'processing') return false;
  if (typeof status === 'string' && (status === 'completed' || Object.hasOwn(ENDED, status))) return true;
  throw new RetryableError('The provider answered with a state that is not known.');
}

/**
 * The result of a prediction that has ended.
 * @throws TerminalError for one that ended without a result; RetryableError where the vendor itself was in trouble.
 */
export async function readPrediction(run: Run, prediction: JsonObject, said: Said): Promise<Output> {
  const { status, error, code } = prediction;
  if (status === 'completed') return readOutputs(run, prediction);
  const otherwise = (typeof status === 'string' ? ENDED[status] : undefined) ?? 'The run failed at the provider.';
  throw failureOf(code, said(error, otherwise));
}

/** The error for a failure with a task-level code; also of answers to a submission, where the code may stand in the envelope. */
export function failureOf(code: JsonValue | undefined, message: string): TerminalError | RetryableError {
  if (TRANSIENT_CODES.includes(code)) return new RetryableError(message);
  if (REFUSED_CODES.includes(code)) return new TerminalError(message, { code: 'content_refused' });
  if (ACCOUNT_CODES.includes(code)) return new TerminalError(message, { isProvidersOnly: true });
  return new TerminalError(message, { code: INPUT_CODES.includes(code) ? 'invalid_input' : 'provider_error' });
}

/** True when the files come as text in the answer, which also rules out a webhook (section 6). */
export function asksForBase64({ parameters }: Run): boolean {
  return parameters.enable_base64_output === true;
}

/** `outputs` are links, bare base64, words of language models, or objects of some models (section 4). */
async function readOutputs(run: Run, prediction: JsonObject): Promise<Output> {
  const outputs = Array.isArray(prediction.outputs) ? prediction.outputs : [];
  const flags = Array.isArray(prediction.has_nsfw_contents) ? prediction.has_nsfw_contents : undefined;
  const media: Media[] = [];
  const nsfw: boolean[] = [];
  const texts: string[] = [];
  const documents: JsonValue[] = [];
  // One after the other: each may be decoded and stored, and that holds it in memory.
  for (const [index, output] of outputs.entries()) {
    const medium = typeof output === 'string' ? await mediumOf(run, output) : undefined;
    if (medium) {
      media.push(medium);
      nsfw.push(flags?.[index] === true);
    } else if (typeof output === 'string') texts.push(output);
    else documents.push(output);
  }
  if (outputs.length === 0) {
    if (flags?.includes(true)) throw new TerminalError('The provider withheld the result for its content.', { code: 'content_refused' });
    throw new TerminalError('The provider finished without a result.');
  }
  return {
    media,
    ...(texts.length > 0 && { text: texts.join('\n') }),
    ...(documents.length > 0 && { json: documents.length === 1 ? (documents[0] ?? null) : documents }),
    ...seedOf(run, prediction),
    ...(flags && media.length > 0 && { nsfw }),
    // Both in milliseconds (section 4).
    ...factsOf({
      ...timingsIn(prediction, { isTiming: (name) => name === 'executionTime', perSecond: 1000 }),
      ...timingsIn(prediction.timings, { perSecond: 1000 }),
    }),
  };
}

async function mediumOf(run: Run, output: string): Promise<Media | undefined> {
  const medium = linkedMedia(output) ?? (await storeInline(run, output));
  if (medium || !asksForBase64(run) || !/^[A-Za-z0-9+/]{100,}={0,2}$/.test(output)) return medium;
  // It was asked for, so it is a file even if nobody can tell of which kind.
  return storeBytes(run, Buffer.from(output, 'base64'));
}

/** The vendor tells the input back, and the seed in it (section 4); else the one that was asked for is the one that was used. -1 is none. */
function seedOf({ parameters }: Run, { input }: JsonObject): Pick<Output, 'seed'> {
  const seeds = [isJsonObject(input) ? input.seed : undefined, parameters.seed];
  const seed = seeds.find((each) => typeof each === 'number' && Number.isSafeInteger(each) && each >= 0);
  return typeof seed === 'number' ? { seed } : {};
}

/**
 * Segmind: a run is submitted to the queue of v2 and polled; a model that v2 does not know is run by v1, which answers with the file itself.
 * Sections in comments are of the protocol sheet segmind.md.
 *
 * - Authentication: `SEGMIND_API_KEY` as `x-api-key` (section 1).
 * - Final: 4xx, FAILED (served as 422), refused content, which is told in words only (section 5). Another provider may serve 401, 402, 403,
 *   406 (no credits), 404 and 410 (section 6). Tried again: 429 when its limit starts anew, 5xx.
 * - Resumed by request id for an hour (section 5); a look that fails is made again. A run of v1 cannot be resumed.
 * - Never cancelled, and never told of: the vendor has neither cancellation nor callbacks per run (sections 2 and 9). No progress, no logs.
 * - Submitted twice it runs twice: there is no idempotency key (section 2).
 * - Hosts: calls go to `SEGMIND_BASE_URL` only, whatever `status_url` and `response_url` say; results are links.
 * - The vendor's client is in Python, and gives up at one poll that fails (section 10).
 */
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Provider,
  RetryableError,
  type Run,
  type Step,
  TerminalError,
} from '@claimcheck/core';
import { z } from 'zod';
import { baseUrlSetting, keySetting } from './_base-url.ts';
import { type CallAnswer, call, jsonOf, objectOf, pathOf, retryAfterOf } from './_call.ts';
import { createGate } from './_gate.ts';
import { type Handle, readHandle, startedHandle } from './_handle.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { tryLook } from './_look.ts';
import { checkAfterMs } from './_pace.ts';
import { readResult, readSynchronous } from './_segmind-output.ts';
import { sentenceOf } from './_sentence.ts';

/** The vendor's client polls every second (section 8); a run that has taken long is asked about less often. */
const PACE = { firstMs: 1000, mostMs: 5000 };
/** v1 is for work below a minute (section 2); twice that allows for a queue in front of it. */
const SYNCHRONOUS_MS = 120_000;
const SYNCHRONOUS_BYTES_MAX = 20_000_000;
/** Limits are per minute (section 6), so no wait for one is longer. */
const RATE_WAIT_MS_MAX = 60_000;

/** Calls of v1 at a time: each may hold its whole answer in memory, and the vendor takes 50 a minute at most (section 6). */
const synchronous = createGate(10);

const settings = z.object({
  /** The vendor's key, `SG_…` (section 1). Without it the provider is off. */
  SEGMIND_API_KEY: keySetting(),
  /** Where the vendor is called, before `/v1` and `/v2`. */
  SEGMIND_BASE_URL: baseUrlSetting('https://api.segmind.com'),
  /** Runs at once, and runs started per time, of all workers together. */
  SEGMIND_CONCURRENCY: concurrencySetting(),
  SEGMIND_RATE: rateSetting(),
});

/** What calls need besides the run. */
interface Account {
  readonly key: string;
  readonly baseUrl: string;
}

const segmind: Provider<z.infer<typeof settings>> = {
  name: 'segmind',
  settings,
  open({ SEGMIND_API_KEY: key, SEGMIND_BASE_URL: baseUrl, SEGMIND_CONCURRENCY: concurrency, SEGMIND_RATE: rate }) {
    if (key === undefined) return { off: 'SEGMIND_API_KEY is not set' };
    const account = { key, baseUrl };
    return {
      ...limitsOf(concurrency, rate),
      start: (run) => start(account, run),
      check: (run, handle) => check(account, run, handle),
    };
  },
};
export default segmind;

async function start(account: Account, run: Run): Promise<Step> {
  const answer = await ask(account, run, `/v2/${pathOf(run.model)}`, run.parameters);
  // An unknown model, or one that v2 does not take (a page of HTML, section 6): nothing has been started.
  if (answer.status === 404 || answer.status === 405) return startSynchronously(account, run);
  return running(run, startedHandle(run, bodyOf(account, answer).request_id));
}

/** v1 holds the call until the run has ended, and knows of it no more after that. */
async function startSynchronously(account: Account, run: Run): Promise<Step> {
  const output = await synchronous.run(run.signal, async () => {
    const answer = await ask(account, run, `/v1/${pathOf(run.model)}`, run.parameters, {
      headers: { accept: '*/*' },
      timeoutMs: SYNCHRONOUS_MS,
      bytesMax: SYNCHRONOUS_BYTES_MAX,
    });
    if (answer.status !== 200) throw refusalOf(account, answer);
    return readSynchronous(run, answer);
  });
  return { kind: 'finished', output };
}

/** `status_url` and `response_url` are not used: they are made from the id, so that no answer can send the key elsewhere. */
async function check(account: Account, run: Run, handle: JsonValue): Promise<Step> {
  const known = readHandle(handle);
  const looked = await tryLook(() => lookForResult(account, run, known.id));
  if (looked.kind === 'later') return { ...running(run, known), checkAfterMs: looked.checkAfterMs };
  if (!looked.seen) return running(run, known);
  return { kind: 'finished', output: await readResult(run, looked.seen) };
}

/** The result body; undefined while there is none. */
async function lookForResult(account: Account, run: Run, requestId: string): Promise<JsonObject | undefined> {
  const status = await ask(account, run, `/v2/requests/${requestId}/status`);
  // Unknown, or older than an hour (section 5).
  if (status.status === 404) throw new TerminalError('The provider does not know the run, or no longer.');
  if (!isFinished(account, bodyOf(account, status))) return undefined;
  // The status has no output (section 4).
  const answer = await ask(account, run, `/v2/requests/${requestId}`);
  if (answer.status === 404) throw new RetryableError('The provider does not have the result yet.');
  const result = bodyOf(account, answer);
  // What is read early looks like the status (section 4).
  return isFinished(account, result) ? result : undefined;
}

/** The states of section 5. @throws TerminalError for FAILED, RetryableError for a state nobody has heard of. */
function isFinished(account: Account, { status, error }: JsonObject): boolean {
  if (status === 'COMPLETED') return true;
  if (status === 'QUEUED' || status === 'PROCESSING') return false;
  if (status === 'FAILED') throw failureOf(account, error);
  throw new RetryableError('The provider answered with a state that is not known.');
}

/** The vendor has no state or code for refused content, only its words (section 5): so this is the one place that reads them. */
const REFUSED =
  /\b(nsfw|moderat(ed|ion)|safety (filter|system|checker)|content (policy|filter|blocked)|responsible ai|rai|(sensitive|prohibited|unsafe) content)\b/i;

function failureOf(account: Account, error: JsonValue | undefined): TerminalError {
  const sentence = said(account, error, 'The run failed at the provider.');
  return new TerminalError(sentence, { code: REFUSED.test(sentence) ? 'content_refused' : 'provider_error' });
}

/** The JSON object of an answer; also of 422, which is how a run that FAILED is served (section 2). */
function bodyOf(account: Account, answer: CallAnswer): JsonObject {
  if (answer.status >= 300) {
    const { json } = answer;
    if (answer.status === 422 && isJsonObject(json) && json.status === 'FAILED') return json;
    throw refusalOf(account, answer);
  }
  return objectOf(answer);
}

/** The error for an answer that is no success (section 6). */
function refusalOf(account: Account, answer: CallAnswer): Error {
  const { status, json } = answer;
  if (status === 429) return new RetryableError('The provider has too much to do.', rateWaitOf(answer));
  if (status === 401 || status === 402 || status === 403 || status >= 500 || status < 400) {
    jsonOf(answer);
    return new RetryableError(`The provider answered with status ${status}.`, { mayHaveStarted: answer.startsRun });
  }
  const sentence = (otherwise: string) => said(account, isJsonObject(json) ? json.error : undefined, otherwise);
  if (status === 400 || status === 413 || status === 422) {
    const words = sentence('The provider refused the parameters.');
    return new TerminalError(words, { code: REFUSED.test(words) ? 'content_refused' : 'invalid_input' });
  }
  const isProvidersOnly = true;
  if (status === 404) return new TerminalError(sentence('The provider does not know the model.'), { isProvidersOnly });
  if (status === 410) return new TerminalError(sentence('The provider has retired the model.'), { isProvidersOnly });
  // 406 is documented for missing credits, and also stands for other things, so its own words come first.
  if (status === 406) return new TerminalError(sentence('The account at the provider has no credit left.'), { isProvidersOnly });
  return new TerminalError(sentence(`The provider refused the request with status ${status}.`));
}

/**
 * The vendor sends the instant when its limit starts anew instead of `Retry-After` (section 6). It is compared with the time in the same
 * answer, as our clock may differ.
 */
function rateWaitOf({ header }: CallAnswer): { readonly retryAfterMs?: number } {
  const told = retryAfterOf({ header });
  if (told.retryAfterMs !== undefined) return told;
  const resetAt = instantOf(header('x-rate-limit-reset-at-utc'));
  const answeredAt = instantOf(header('date'));
  if (Number.isNaN(resetAt - answeredAt)) return {};
  return { retryAfterMs: Math.min(Math.max(resetAt - answeredAt, 1000), RATE_WAIT_MS_MAX) };
}

/** The header's name says UTC, so an instant without a zone is one of UTC too. */
function instantOf(text: string | undefined): number {
  if (text === undefined) return Number.NaN;
  return Date.parse(/^\d{4}-\d\d-\d\d[T ][\d:.]+$/.test(text) ? `${text.replace(' ', 'T')}Z` : text);
}

function ask(
  { key, baseUrl }: Account,
  { signal, clock }: Run,
  path: string,
  json?: JsonObject,
  more: { readonly headers?: Readonly<Record<string, string>>; readonly timeoutMs?: number; readonly bytesMax?: number } = {},
): Promise<CallAnswer> {
  const headers = { 'x-api-key': key, ...more.headers };
  const submission = json && { method: 'POST' as const, json, startsRun: true };
  return call({ ...more, ...submission, url: `${baseUrl}${path}`, headers, signal, clock });
}

function said({ key }: Account, text: JsonValue | undefined, otherwise: string): string {
  return sentenceOf(text, otherwise, key);
}

/** The vendor cannot call back for a run, so a callback URL makes no difference. */
function running(run: Run, handle: Handle): Extract<Step, { kind: 'running' }> {
  return { kind: 'running', handle: { ...handle }, checkAfterMs: checkAfterMs(run, handle.startedAt, PACE, false) };
}

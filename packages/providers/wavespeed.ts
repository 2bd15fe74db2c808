/**
 * WaveSpeed: a run is a prediction of API v3 that is polled, or told of by a signed webhook. Sections in comments are of the protocol sheet
 * wavespeed.md.
 *
 * - Authentication: `WAVESPEED_API_KEY` as a bearer token (section 2); webhooks by the vendor's own `v3` signature (section 9).
 * - Final: 4xx, task codes but those below, the states cancelled, timeout and deleted, refused content (1200). Another provider may serve 401,
 *   402, 403, 404 and 1407 (no credits). Tried again: 429 after `Retry-After`, 5xx, task codes 5000, 5003 and 5004 (section 5). The code in an
 *   envelope counts before the status of its answer (section 3).
 * - Resumed by prediction id; a look that fails is made again.
 * - Cancelled by DELETE (section 1). No progress, no logs.
 * - Submitted twice it runs twice: no idempotency key is known (section 2).
 * - Hosts: calls go to `WAVESPEED_BASE_URL` only, whatever `urls.get` says; results are links, or base64, which is stored.
 * - The vendor's client waits for a run until its end, and cannot go on with one that another process started (section 8).
 */
import {
  type Callback,
  type Clock,
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
import { type Call, type CallAnswer, call, jsonOf, objectOf, parseJson, pathOf, retryAfterOf } from './_call.ts';
import { type CallbackKeys, keepCallbackKeys } from './_callback-keys.ts';
import { createGate } from './_gate.ts';
import { type Handle, readHandle, startedHandle } from './_handle.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { tryLook } from './_look.ts';
import { checkAfterMs } from './_pace.ts';
import { sentenceOf } from './_sentence.ts';
import { isFresh } from './_signed-webhook.ts';
import { asksForBase64, failureOf, hasEnded, readPrediction } from './_wavespeed-prediction.ts';
import { isSignedWith, looksSigned } from './_wavespeed-signature.ts';

/** The vendor advises two seconds for pictures and five for videos (section 8). */
const PACE = { firstMs: 2000, mostMs: 5000 };
/** Files as text: four pictures of the largest size. */
const BASE64_BYTES_MAX = 50_000_000;
/** Answers with files as text that may be in memory at a time. */
const largeAnswers = createGate(4);
const SECRET_TIMEOUT_MS = 10_000;

const settings = z.object({
  /** The vendor's key. Without it the provider is off. */
  WAVESPEED_API_KEY: keySetting(),
  /** Where the vendor is called, before `/api/v3`. */
  WAVESPEED_BASE_URL: baseUrlSetting('https://api.wavespeed.ai'),
  /** Runs at once, and runs started per time, of all workers together. */
  WAVESPEED_CONCURRENCY: concurrencySetting(),
  WAVESPEED_RATE: rateSetting(),
});

/** What calls need besides the run. */
interface Account {
  readonly key: string;
  readonly baseUrl: string;
}

const wavespeed: Provider<z.infer<typeof settings>> = {
  name: 'wavespeed',
  settings,
  open({ WAVESPEED_API_KEY: key, WAVESPEED_BASE_URL: baseUrl, WAVESPEED_CONCURRENCY: concurrency, WAVESPEED_RATE: rate }) {
    if (key === undefined) return { off: 'WAVESPEED_API_KEY is not set' };
    const account = { key, baseUrl };
    const secrets = keepCallbackKeys((clock) => fetchSecret(account, clock));
    return {
      ...limitsOf(concurrency, rate),
      start: (run) => start(account, run),
      check: (run, handle) => check(account, run, handle),
      cancel: (run, handle) => cancel(account, run, handle),
      receive: (run, callback) => receive(secrets, account, run, callback),
    };
  },
};
export default wavespeed;

async function start(account: Account, run: Run): Promise<Step> {
  // Holding the call until the end would only tie up a connection: the run is polled anyway (section 6).
  const { enable_sync_mode: _, ...json } = run.parameters;
  const webhook = webhookOf(account, run);
  const query = webhook === undefined ? '' : `?webhook=${encodeURIComponent(webhook)}`;
  const answer = await ask(account, run, `/${pathOf(run.model)}${query}`, { method: 'POST', json, startsRun: true });
  const prediction = dataOf(account, answer);
  const handle = startedHandle(run, prediction.id);
  if (prediction.status === 'failed') await readPrediction(run, prediction, wordsOf(account));
  return running(account, run, handle);
}

/** Files as text are large, so only some of them are read at a time. */
async function check(account: Account, run: Run, handle: JsonValue): Promise<Step> {
  const known = readHandle(handle);
  if (!asksForBase64(run)) return look(account, run, known, {});
  return largeAnswers.run(run.signal, () => look(account, run, known, { bytesMax: BASE64_BYTES_MAX }));
}

/** `urls.get` is not used: the address is made from the id, so that no answer can send the key elsewhere. */
async function look(account: Account, run: Run, known: Handle, limits: Pick<Call, 'bytesMax'>): Promise<Step> {
  const looked = await tryLook(async () => {
    const answer = await ask(account, run, `/predictions/${known.id}/result`, limits);
    if (answer.status === 404) throw new TerminalError('The provider does not know the run, or no longer.');
    const prediction = dataOf(account, answer);
    return hasEnded(prediction) ? prediction : undefined;
  });
  if (looked.kind === 'later') return { ...running(account, run, known), checkAfterMs: looked.checkAfterMs };
  if (!looked.seen) return running(account, run, known);
  return { kind: 'finished', output: await readPrediction(run, looked.seen, wordsOf(account)) };
}

/** One address for deleting and cancelling (section 1); a run that is not there any more needs neither. */
async function cancel(account: Account, run: Run, handle: JsonValue): Promise<void> {
  const answer = await ask(account, run, `/predictions/${readHandle(handle).id}`, { method: 'DELETE' });
  if (answer.status !== 404) dataOf(account, answer);
}

/** The body is the prediction itself, without an envelope, and is sent at the end of a run only (section 9). */
async function receive(secrets: CallbackKeys<string>, account: Account, run: Run, callback: Callback): Promise<Step | undefined> {
  if (!looksSigned(callback) || !isFresh(callback, run.clock)) return undefined;
  const prediction = parseJson(callback.body);
  // Before there is a handle nothing ties the message to this run: the vendor signs those of all runs alike.
  if (!isJsonObject(prediction) || !isJsonObject(callback.handle) || prediction.id !== callback.handle.id) return undefined;
  if (!(await secrets.accept(run.clock, (secret) => isSignedWith(callback, secret)))) return undefined;
  if (prediction.status !== 'completed' && prediction.status !== 'failed') return undefined;
  return { kind: 'finished', output: await readPrediction(run, prediction, wordsOf(account)) };
}

/** `{secret}` in the envelope, or without it as one client has seen (section 7). */
async function fetchSecret(account: Account, clock: Clock): Promise<string> {
  // Several runs may wait for this, so it belongs to none of them and ends with its timeout.
  const { signal } = new AbortController();
  const body = bodyOf(account, await ask(account, { signal, clock }, '/webhook/secret', { timeoutMs: SECRET_TIMEOUT_MS }));
  const { secret } = isJsonObject(body.data) ? body.data : body;
  if (typeof secret === 'string' && secret !== '') return secret;
  throw new RetryableError('The provider did not tell what it signs webhooks with.');
}

/** What is in the envelope (section 3). */
function dataOf(account: Account, answer: CallAnswer): JsonObject {
  const { data } = bodyOf(account, answer);
  if (isJsonObject(data)) return data;
  throw new RetryableError('The provider answered without saying anything.', { mayHaveStarted: answer.startsRun });
}

/** The envelope of a success. Its `code` mirrors the status, and counts where the two differ; some clients do without it (section 3). */
function bodyOf(account: Account, answer: CallAnswer): JsonObject {
  if (answer.status >= 300) throw refusalOf(account, answer, answer.status);
  const body = objectOf(answer);
  if (typeof body.code === 'number' && body.code !== 200) throw refusalOf(account, answer, body.code);
  return body;
}

/** The error for an answer that is no success (sections 3 and 5). */
function refusalOf(account: Account, answer: CallAnswer, status: number): Error {
  if (status === 429) return new RetryableError('The provider has too much to do.', retryAfterOf(answer));
  const isTransport = status === 401 || status === 402 || status === 403 || (status >= 500 && status < 600) || status < 400;
  if (isTransport) {
    jsonOf({ ...answer, status });
    return new RetryableError(`The provider answered with status ${status}.`, { mayHaveStarted: answer.startsRun });
  }
  const body = isJsonObject(answer.json) ? answer.json : {};
  // The text is in `message`; one documented error has it in `error`, and no envelope (section 3).
  const words = (otherwise: string) => wordsOf(account)(body.message ?? body.error, otherwise);
  if (status === 404) return new TerminalError(words('The provider does not know the model.'), { isProvidersOnly: true });
  // Codes of tasks have four digits, those of HTTP three.
  if (typeof body.code === 'number' && body.code >= 1000) return failureOf(body.code, words('The provider refused the request.'));
  if (status === 400 || status === 413 || status === 422) {
    return new TerminalError(words('The provider refused the parameters.'), { code: 'invalid_input' });
  }
  return new TerminalError(words(`The provider refused the request with status ${status}.`));
}

function ask(
  { key, baseUrl }: Account,
  { signal, clock }: Pick<Run, 'signal' | 'clock'>,
  path: string,
  more: Pick<Call, 'method' | 'json' | 'startsRun' | 'bytesMax' | 'timeoutMs'> = {},
): Promise<CallAnswer> {
  return call({ ...more, url: `${baseUrl}/api/v3${path}`, headers: { authorization: `Bearer ${key}` }, signal, clock });
}

function wordsOf({ key }: Account): (text: JsonValue | undefined, otherwise: string) => string {
  return (text, otherwise) => sentenceOf(text, otherwise, key);
}

/**
 * Where the vendor may tell of the run: over HTTPS only (section 9), which whatever answers in its place over HTTP does not mind. It refuses
 * a webhook together with files as text (section 6).
 */
function webhookOf({ baseUrl }: Account, run: Run): string | undefined {
  if (asksForBase64(run)) return undefined;
  return run.callbackUrl?.startsWith('https:') || !baseUrl.startsWith('https:') ? run.callbackUrl : undefined;
}

function running(account: Account, run: Run, handle: Handle): Extract<Step, { kind: 'running' }> {
  const isCalledBack = webhookOf(account, run) !== undefined;
  return { kind: 'running', handle: { ...handle }, checkAfterMs: checkAfterMs(run, handle.startedAt, PACE, isCalledBack) };
}

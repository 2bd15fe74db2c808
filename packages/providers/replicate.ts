/**
 * Replicate: a prediction is created by model or by version, then polled, or told of by a signed webhook. Sections in comments are of the
 * protocol sheet replicate.md. Ids of models are `owner/name` for official models and the newest version of others, `owner/name:version`, or
 * a version alone.
 *
 * - Authentication: `REPLICATE_API_TOKEN` as a bearer token (section 2); webhooks by Standard Webhooks with the account's secret (section 7).
 * - Final: 4xx, predictions that failed without a code or with most codes, refused content, which is told in words only. Another provider may
 *   serve 401, 402, 403, an unknown model and a version that is gone. Tried again: 408, 409, 425, 429 after `Retry-After` or `retry_after`, 5xx,
 *   predictions that failed with E1000 or E6716 (section 6).
 * - Resumed by prediction id; a look that fails is made again. Output of a prediction that goes on may be a part (section 3).
 * - Cancelled by POST, harmless later. Progress is the last bar in the logs; lines of logs and pieces of text are handed on as they come.
 * - Submitted twice it runs twice: there is no idempotency key (section 3).
 * - Hosts: calls go to `REPLICATE_BASE_URL` only; results are links to `replicate.delivery`, or data URIs, which are stored.
 * - The vendor's client creates again after a lost connection, without a wait after 429, and polls `aborted` for ever (sections 5 and 10).
 */
import {
  type Callback,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Output,
  type Provider,
  RetryableError,
  type Run,
  type Step,
  TerminalError,
} from '@claimcheck/core';
import { z } from 'zod';
import { baseUrlSetting, keySetting } from './_base-url.ts';
import { type CallAnswer, call, jsonOf, objectOf, parseJson, pathOf } from './_call.ts';
import { type CallbackKeys, keepCallbackKeys } from './_callback-keys.ts';
import { eventsToTell } from './_cog-events.ts';
import { partialTextOf, readCogOutput } from './_cog-output.ts';
import { cogFacts } from './_facts.ts';
import { type Handle, readHandle, startedHandle } from './_handle.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { endedLinesOf, endTold, linesOf, progressIn, seedIn, told } from './_log-progress.ts';
import { tryLook } from './_look.ts';
import { checkAfterMs } from './_pace.ts';
import { predictionError, replicateError } from './_replicate-errors.ts';
import { isFresh, isSigned } from './_signed-webhook.ts';

/** The vendor's client polls every half second (section 10). */
const PACE = { firstMs: 500, mostMs: 5_000 };
/** Small models answer with data URIs, and the input comes back in every answer (section 4). */
const BYTES_MAX = 32_000_000;
const SECRET_TIMEOUT_MS = 10_000;

const settings = z.object({
  /** The vendor's key, `r8_…` (section 2). Without it the provider is off. */
  REPLICATE_API_TOKEN: keySetting(),
  /** Where the vendor is called, with the version of its API. */
  REPLICATE_BASE_URL: baseUrlSetting('https://api.replicate.com/v1'),
  /** Runs at once, and runs started per time, of all workers together. */
  REPLICATE_CONCURRENCY: concurrencySetting(),
  REPLICATE_RATE: rateSetting(),
});

/** What calls need besides the run. */
interface Account {
  readonly key: string;
  readonly baseUrl: string;
}

const replicate: Provider<z.infer<typeof settings>> = {
  name: 'replicate',
  settings,
  open({ REPLICATE_API_TOKEN: key, REPLICATE_BASE_URL: baseUrl, REPLICATE_CONCURRENCY: concurrency, REPLICATE_RATE: rate }) {
    if (key === undefined) return { off: 'REPLICATE_API_TOKEN is not set' };
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
export default replicate;

async function start(account: Account, run: Run): Promise<Step> {
  const [name = '', version] = run.model.includes('/') ? run.model.split(':', 2) : ['', run.model];
  let answer = version === undefined ? await createByModel(account, run, name) : await createByVersion(account, run, version);
  if (answer.status === 404 && version === undefined) {
    // A community model is created by version only (section 13).
    answer = await createByVersion(account, run, await readNewestVersion(account, run, name));
  }
  // Also when the answer shows an end: the handle has to be saved before anything else is made of it.
  return running(account, run, startedHandle(run, predictionOf(account, answer).id));
}

/** `urls` are not used: addresses are made from the id, so that no answer can send the key elsewhere. */
async function check(account: Account, run: Run, handle: JsonValue): Promise<Step> {
  const known = readHandle(handle);
  const looked = await tryLook(async () => {
    const prediction = predictionOf(account, await ask(account, run, `/predictions/${known.id}`));
    if (!isKnownStatus(prediction.status)) throw new RetryableError('The provider answered with a status that is not known.');
    return prediction;
  });
  if (looked.kind === 'later') return { ...running(account, run, known), checkAfterMs: looked.checkAfterMs };
  const { seen: prediction } = looked;
  if (isTerminal(prediction.status)) return endOf(account, run, prediction);
  return goingOn(account, run, known, prediction);
}

function goingOn(account: Account, run: Run, known: Handle, prediction: JsonObject): Step {
  const logs = logsOf(prediction);
  return { ...running(account, run, known), ...progressIn(logs), ...told(linesOf(logs), partialTextOf(prediction.output)) };
}

/** Answers with the prediction (section 1), also when it has ended; 404 when it is gone. */
async function cancel(account: Account, run: Run, handle: JsonValue): Promise<void> {
  const answer = await ask(account, run, `/predictions/${readHandle(handle).id}/cancel`, { method: 'POST' });
  if (answer.status !== 404) predictionOf(account, answer);
}

/** The body is the prediction at that moment (section 7). Order is not guaranteed, and duplicates happen. */
async function receive(secrets: CallbackKeys<string>, account: Account, run: Run, callback: Callback): Promise<Step | undefined> {
  const { handle } = callback;
  if (handle === undefined || !isFresh(callback, run.clock)) return undefined;
  const { id } = readHandle(handle);
  if (!(await secrets.accept(run.clock, (secret) => isSigned(callback, secret)))) return undefined;
  const prediction = parseJson(callback.body);
  // The secret signs all predictions of the account; only the id ties one to this run.
  if (!isJsonObject(prediction) || prediction.id !== id) return undefined;
  if (isTerminal(prediction.status)) return endOf(account, run, prediction);
  return prediction.status === 'processing' ? goingOn(account, run, readHandle(handle), prediction) : undefined;
}

function endOf(account: Account, run: Run, prediction: JsonObject): Promise<Step> {
  return endTold(endedLinesOf(prediction.logs), () => outputOf(account, run, prediction));
}

/** What a prediction that has ended came to (sections 4 and 5). @throws for one that failed. */
async function outputOf({ key }: Account, run: Run, prediction: JsonObject): Promise<Output> {
  const { status, output, data_removed: isRemoved, metrics, input } = prediction;
  if (status === 'canceled') throw new TerminalError('The run was cancelled at the provider.');
  if (status === 'aborted') throw new TerminalError('The time of the run was over before it began at the provider.');
  if (status !== 'succeeded') throw predictionError(prediction.error, key);
  if (output === undefined || output === null) {
    // About an hour after the end the vendor removes what was produced (section 4).
    throw new TerminalError(isRemoved === true ? 'The provider no longer has the result.' : 'The provider finished without a result.');
  }
  const read = await readCogOutput(run, output);
  // The seed is in no field of its own: models tell it in their logs, else it is the one that was asked for. -1 asks for any (section 13).
  const asked = isJsonObject(input) && typeof input.seed === 'number' && input.seed >= 0 ? input.seed : undefined;
  const seed = read.seed ?? seedIn(logsOf(prediction)) ?? asked;
  return { ...read, ...(seed !== undefined && { seed }), ...cogFacts(metrics) };
}

function createByModel(account: Account, run: Run, name: string): Promise<CallAnswer> {
  return ask(account, run, `/models/${pathOf(name)}/predictions`, creation(account, run));
}

function createByVersion(account: Account, run: Run, version: string): Promise<CallAnswer> {
  return ask(account, run, '/predictions', creation(account, run, version));
}

async function readNewestVersion(account: Account, run: Run, name: string): Promise<string> {
  const answer = await ask(account, run, `/models/${pathOf(name)}`);
  if (answer.status === 404) throw new TerminalError('The provider does not know the model.', { isProvidersOnly: true });
  const { latest_version: newest } = predictionOf(account, answer);
  if (isJsonObject(newest) && typeof newest.id === 'string') return newest.id;
  throw new TerminalError('The provider has no version of the model.', { isProvidersOnly: true });
}

/** Section 3. Nobody waits for the answer: a blocking creation leaves open whether its output is whole. */
function creation(account: Account, run: Run, version?: string) {
  const callbackUrl = callbackUrlOf(account, run);
  const json: JsonObject = {
    ...(version !== undefined && { version }),
    input: run.parameters,
    ...(callbackUrl !== undefined && { webhook: callbackUrl, webhook_events_filter: eventsToTell(run) }),
  };
  return { method: 'POST' as const, json, startsRun: true };
}

/** The vendor calls HTTPS only (section 7) and refuses a creation that asks for more. What answers in its place over HTTP does not mind. */
function callbackUrlOf({ baseUrl }: Account, { callbackUrl }: Run): string | undefined {
  return callbackUrl?.startsWith('https:') || !baseUrl.startsWith('https:') ? callbackUrl : undefined;
}

async function fetchSecret({ key, baseUrl }: Account, clock: Run['clock']): Promise<string> {
  // Several runs may wait for this, so it belongs to none of them and ends with its timeout.
  const { signal } = new AbortController();
  const url = `${baseUrl}/webhooks/default/secret`;
  const answer = jsonOf(await call({ url, headers: authorization(key), timeoutMs: SECRET_TIMEOUT_MS, signal, clock }));
  const secret = isJsonObject(answer) ? answer.key : undefined;
  if (typeof secret === 'string' && secret.startsWith('whsec_')) return secret;
  throw new RetryableError('The provider did not tell its webhook secret.');
}

function ask(
  { key, baseUrl }: Account,
  { signal, clock }: Run,
  path: string,
  more: { readonly method?: 'POST'; readonly json?: JsonObject; readonly startsRun?: boolean } = {},
): Promise<CallAnswer> {
  return call({ ...more, url: `${baseUrl}${path}`, headers: authorization(key), bytesMax: BYTES_MAX, signal, clock });
}

function authorization(key: string) {
  return { authorization: `Bearer ${key}` };
}

/** The JSON object of an answer. @throws for anything that is no success. */
function predictionOf({ key }: Account, answer: CallAnswer): JsonObject {
  if (answer.status < 200 || answer.status >= 300) throw replicateError(answer, key);
  return objectOf(answer);
}

/** The documented ones (section 5). */
function isKnownStatus(status: JsonValue | undefined): boolean {
  return status === 'starting' || status === 'processing' || isTerminal(status);
}

function isTerminal(status: JsonValue | undefined): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'canceled' || status === 'aborted';
}

function logsOf({ logs }: JsonObject): string {
  return typeof logs === 'string' ? logs : '';
}

function running(account: Account, run: Run, handle: Handle): Extract<Step, { kind: 'running' }> {
  const isCalledBack = callbackUrlOf(account, run) !== undefined;
  return { kind: 'running', handle: { ...handle }, checkAfterMs: checkAfterMs(run, handle.startedAt, PACE, isCalledBack) };
}

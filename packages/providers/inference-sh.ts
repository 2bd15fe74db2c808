/**
 * inference.sh: a run is a task, started at `POST /apps/run`, followed by its stream of lines, and polled where that breaks. The id of a model is
 * the vendor's `app`: `namespace/name`, with `@version` and `:function` where wanted. "Sheet" below is protocols/inference-sh.md.
 *
 * - Authentication: `INFERENCE_API_KEY` as a bearer token (sheet, section 1). Webhooks are not signed (section 9): one is a hint to ask.
 * - Final: 4xx, failed and cancelled tasks. Refused content has no mark of its own. Another provider may serve 401, 402, 403, an app that is
 *   unknown or gone, and 412, what our account lacks. Tried again: 429, 5xx (section 10).
 * - Resumed by task id: a stream tells the whole task first, whoever opens it, and again at its end (section 6). A look that fails is made
 *   again. With a callback address there is no stream, as the callback tells of the end too.
 * - Cancelled by POST, best effort. Progress is the percent that workers tell; logs and words are handed on as they come.
 * - Submitted twice it runs twice: the vendor recognises no second submission.
 * - Hosts: calls go to `INFERENCE_BASE_URL` only; results are links, or inline, which is stored.
 * - The vendor's client never settles when a stream ends early, and cannot be imported by Node as it is (sections 6 and 12).
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
import { type CallAnswer, call, jsonOf, objectOf, parseJson } from './_call.ts';
import { type Handle, readHandle, startedHandle } from './_handle.ts';
import { readTaskOutput } from './_inference-sh-output.ts';
import { readTaskLines } from './_inference-sh-stream.ts';
import { readJsonLines } from './_json-lines.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { endTold, entriesOf, told } from './_log-progress.ts';
import { tryLook } from './_look.ts';
import { checkAfterMs } from './_pace.ts';
import { sentenceOf } from './_sentence.ts';

/** Sheet, section 6, "Poll": the vendor's client looks every two seconds. */
const PACE = { firstMs: 2000, mostMs: 5000 };
/** A stream that has told nothing new for so long is left and opened again, since its first line tells how the task stands now. */
const STREAM_HOLD_MS = 30_000;
/** What a task tells while it runs is told on when the stream is left, which for that happens no more often. */
const STREAM_TELL_MS = 2_000;
/** Sheet, section 4: what is printed by builds, set-ups and servers has other types. */
const LOG_OF_RUN = 1;
/** After a stream that broke, tasks are polled for so long. */
const STREAM_PAUSE_MS = 60_000;

/** Sheet, section 5, in the order of the current numbers. */
const STATUSES = [
  'unknown',
  'received',
  'queued',
  'dispatched',
  'preparing',
  'serving',
  'setting_up',
  'running',
  'cancelling',
  'uploading',
  'completed',
  'failed',
  'cancelled',
] as const;
type Status = (typeof STATUSES)[number];
const NAMES: ReadonlyMap<string, Status> = new Map(STATUSES.map((status) => [status, status]));

interface Vendor {
  readonly baseUrl: string;
  readonly key: string;
  /** Instant of the clock from which on tasks are followed by their streams. */
  streamsFrom: number;
}

const settings = z.object({
  /** The vendor's key `inf_…` (sheet, section 1). Without it the provider is off. */
  INFERENCE_API_KEY: keySetting(),
  /** Where the vendor is called, in place of exactly this address. */
  INFERENCE_BASE_URL: baseUrlSetting('https://api.inference.sh'),
  /** Runs at once, and runs started per time, of all workers together. */
  INFERENCE_CONCURRENCY: concurrencySetting(),
  INFERENCE_RATE: rateSetting(),
});

const inferenceSh: Provider<z.infer<typeof settings>> = {
  name: 'inference-sh',
  settings,
  open({ INFERENCE_API_KEY: key, INFERENCE_BASE_URL: baseUrl, INFERENCE_CONCURRENCY: concurrency, INFERENCE_RATE: rate }) {
    if (!key) return { off: 'INFERENCE_API_KEY is not set' };
    const vendor: Vendor = { baseUrl, key, streamsFrom: Number.NEGATIVE_INFINITY };
    // Not idempotent: the sheet knows no key that the vendor recognises a second submission by.
    return {
      ...limitsOf(concurrency, rate),
      start: (run) => start(vendor, run),
      check: (run, handle) => check(vendor, run, handle),
      cancel: (run, handle) => cancel(vendor, run, handle),
      receive: (run, callback) => receive(vendor, run, callback),
    };
  },
};
export default inferenceSh;

/** Sheet, sections 2 and 3. The answer is not terminal, even for work that is already done (section 6, "Poll"). */
async function start(vendor: Vendor, run: Run): Promise<Step> {
  const answer = await request(vendor, run, 'POST', '/apps/run', {
    app: run.model,
    input: run.parameters,
    ...(run.callbackUrl !== undefined && { webhook: run.callbackUrl }),
  });
  const handle = startedHandle(run, dataOf(answer, vendor.key).id);
  return { kind: 'running', handle, checkAfterMs: isStreamed(vendor, run) ? 0 : checkAfterMs(run, handle.startedAt, PACE) };
}

/** By the stream where there is one, which tells of the end at once; else, or when that broke, by asking. */
async function check(vendor: Vendor, run: Run, saved: JsonValue): Promise<Step> {
  const handle = readHandle(saved);
  const followed = isStreamed(vendor, run) ? await follow(vendor, run, handle) : undefined;
  return followed ?? poll(vendor, run, handle);
}

/** A callback tells of the end too, and costs no connection meanwhile. */
function isStreamed({ streamsFrom }: Vendor, { callbackUrl, clock }: Run): boolean {
  return callbackUrl === undefined && clock.now() >= streamsFrom;
}

/** Reads the stream until there is something to tell, or for as long as it is held. Undefined when it has to be asked for in the other way. */
async function follow(vendor: Vendor, run: Run, handle: Handle): Promise<Step | undefined> {
  const { clock, signal } = run;
  const openedAt = clock.now();
  const call = { url: `${vendor.baseUrl}/tasks/${handle.id}/stream`, headers: authorization(vendor), holdMs: STREAM_HOLD_MS };
  const stream = readTaskLines();
  let first: JsonObject | undefined;
  const end = await readJsonLines({ ...call, signal, clock }, (line) => {
    stream.read(line);
    if (hasEnded(stream.task)) return true;
    first ??= stream.task;
    return clock.now() - openedAt >= STREAM_TELL_MS && isAhead(stream.task, first);
  });
  if (end === 'broken') {
    vendor.streamsFrom = clock.now() + STREAM_PAUSE_MS;
    return undefined;
  }
  const { task } = stream;
  // Only a line with all of the task has the output that belongs to its end (sheet, section 6, "Hard rules").
  if (hasEnded(task) && (!stream.isWhole || task.id !== handle.id)) return undefined;
  const looked = await tryLook(() => stepOf(vendor, run, handle, task));
  if (looked.kind === 'later') return undefined;
  return looked.seen.kind === 'running' ? { ...looked.seen, checkAfterMs: 0 } : looked.seen;
}

/** A look that fails is made again: the task goes on, and a RetryableError would start, and pay for, another one. */
async function poll(vendor: Vendor, run: Run, handle: Handle): Promise<Step> {
  const looked = await tryLook(async () => {
    const task = dataOf(await request(vendor, run, 'GET', `/tasks/${handle.id}`), vendor.key);
    return stepOf(vendor, run, handle, task);
  });
  return looked.kind === 'seen' ? looked.seen : { kind: 'running', handle, checkAfterMs: looked.checkAfterMs };
}

async function stepOf(vendor: Vendor, run: Run, handle: Handle, task: JsonObject): Promise<Step> {
  const status = statusOf(task);
  if (hasEnded(task)) return endTold(linesIn(task), () => outputOf(vendor, run, task));
  if (!status || status === 'unknown') throw new RetryableError('The provider told a status that it does not document.');
  return { kind: 'running', handle, checkAfterMs: checkAfterMs(run, handle.startedAt, PACE), ...toldIn(task) };
}

/** Sheet, section 6, "Results". No mark of refused content is documented, so every failure is the provider's. */
async function outputOf(vendor: Vendor, run: Run, task: JsonObject): Promise<Output> {
  const status = statusOf(task);
  if (status === 'completed') return readTaskOutput(run, task.output);
  if (status === 'cancelled') throw new TerminalError('The provider cancelled the task.');
  throw new TerminalError(wordsOf({ error: task.error ?? null }, vendor.key, 'The task failed at the provider.'));
}

/** What a task tells while it runs: progress, what its run has printed, and words as far as they have come. */
function toldIn(task: JsonObject) {
  const { progress, output } = task;
  const { response, text = response } = isJsonObject(output) ? output : {};
  return { ...progressOf(progress), ...told(linesIn(task), typeof text === 'string' ? text : undefined) };
}

function linesIn({ logs }: JsonObject): readonly string[] {
  const entries = (Array.isArray(logs) ? logs : []).filter(isJsonObject).filter(({ log_type: type }) => type === LOG_OF_RUN);
  return entriesOf(entries.map(({ content }) => content));
}

/** Sheet, section 2. What a task that has ended answers is not documented (section 10), so only a call that reached nobody throws. */
async function cancel(vendor: Vendor, run: Run, saved: JsonValue): Promise<void> {
  const answer = await request(vendor, run, 'POST', `/tasks/${readHandle(saved).id}/cancel`);
  if (answer.status >= 500 || answer.status === 401 || answer.status === 403 || answer.status === 429) jsonOf(answer);
}

/**
 * Webhooks of tasks are not signed (sheet, section 9), so what one says proves nothing, and its number for "completed" has two meanings
 * (section 5). It is a hint to ask the vendor itself, and only when it names the run's own task.
 */
async function receive(vendor: Vendor, run: Run, { body, handle }: Callback): Promise<Step | undefined> {
  if (handle === undefined) return undefined;
  const told = parseJson(body);
  if (!isJsonObject(told) || told.id !== readHandle(handle).id) return undefined;
  const step = await poll(vendor, run, readHandle(handle));
  return step.kind === 'finished' ? step : undefined;
}

function request(vendor: Vendor, run: Run, method: 'GET' | 'POST', path: string, json?: JsonValue): Promise<CallAnswer> {
  return call({
    url: `${vendor.baseUrl}${path}`,
    method,
    // The vendor's clients call with this content type even when there is no body (sheet, section 2).
    headers: { ...authorization(vendor), 'content-type': 'application/json' },
    ...(json !== undefined && { json, startsRun: true }),
    signal: run.signal,
    clock: run.clock,
  });
}

function authorization({ key }: Vendor) {
  return { authorization: `Bearer ${key}` };
}

/** What is in the envelope, of whichever of the three generations (sheet, section 1): `data` where there is one, else the whole. */
function dataOf(answer: CallAnswer, key: string): JsonObject {
  const json = objectOf(answer);
  // The first generation told failures in the body as well.
  const status = json.success === false && answer.status < 400 ? (typeof json.status === 'number' ? json.status : 500) : answer.status;
  if (status >= 400) throw errorOf(status, json, answer.startsRun, key);
  const data = 'data' in json ? json.data : json;
  if (!isJsonObject(data)) throw new RetryableError('The provider answered without a task.', { mayHaveStarted: answer.startsRun });
  return data;
}

/** Key, credits, role; an app that is not there (any longer); a secret or connection that the app wants our account to have. */
const OURS: ReadonlySet<number> = new Set([401, 402, 403, 404, 410, 412]);

/** Sheet, section 10. */
function errorOf(status: number, json: JsonObject, startsRun: boolean, key: string): TerminalError | RetryableError {
  if (status === 429 || status >= 500) return new RetryableError(wordsOf(json, key, `The provider failed with status ${status}.`));
  const refused = wordsOf(json, key, `The provider refused the request with status ${status}.`);
  return new TerminalError(refused, {
    code: status === 400 || status === 422 ? 'invalid_input' : 'provider_error',
    isProvidersOnly: startsRun && OURS.has(status),
  });
}

/** The first words there are: clients read all of these (sheet, section 1, "Quirks"), and a 412 lists what the account lacks (section 10). */
function wordsOf({ detail, title, error, message, errors }: JsonObject, key: string, otherwise: string): string {
  const first = Array.isArray(errors) ? errors[0] : undefined;
  const told = [detail, title, isJsonObject(error) ? error.message : error, message, isJsonObject(first) ? first.message : undefined];
  const words = told.find((text) => typeof text === 'string' && text.trim() !== '');
  return sentenceOf(words, otherwise, key);
}

/** By name where there is one: the numbers from 8 on changed their meaning (sheet, section 5). Names come in any case. */
function statusOf({ status_text: text, status }: JsonObject): Status | undefined {
  for (const name of [text, status]) {
    const known = typeof name === 'string' ? NAMES.get(name.toLowerCase()) : undefined;
    if (known) return known;
  }
  return typeof status === 'number' ? STATUSES[status] : undefined;
}

function isAhead(task: JsonObject, before: JsonObject): boolean {
  const [now, then] = [task, before]
    .map(toldIn)
    .map(({ progress, logs = [], partialText = '' }) => [progress, logs.length, partialText.length]);
  return String(now) !== String(then);
}

function hasEnded(task: JsonObject): boolean {
  const status = statusOf(task);
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

/** Percent (seed page, "stream live updates"); the typed task has no such field, so it is there only if the worker tells. */
function progressOf(percent: JsonValue | undefined): { readonly progress?: number } {
  return typeof percent === 'number' && percent >= 0 ? { progress: Math.min(percent, 100) / 100 } : {};
}

/**
 * fal: a run is submitted to its queue, then polled, or told of by a signed webhook. Sections in comments are of the protocol sheet fal.md.
 *
 * - Authentication: `FAL_KEY` as `Authorization: Key …` (section 4); webhooks by Ed25519 with keys that are public (section 7).
 * - Final: 4xx, types that nobody knows, a start that took longer than was allowed, refused content (`content_policy_violation`). Another
 *   provider may serve 401, 402, 403 (also an exhausted balance) and an unknown model. Tried again: 408, 409, 429 after `Retry-After`, and the
 *   transient types of section 5, although the queue has tried those itself.
 * - Resumed by request id and app. A look that fails is made again; only the result's own status ends a run, since the status of the queue is the
 *   same for success and failure (section 2).
 * - Cancelled by PUT, best effort (section 6). Progress is the last bar in the logs; logs come with the status, timings with the result.
 * - Submitted twice it runs twice: there is no idempotency key (section 10).
 * - Hosts: calls go to `FAL_BASE_URL` and `FAL_JWKS_URL` only; links to results are the vendor's media hosts, and fetched by the engine's guard.
 * - The vendor's client cannot be pointed elsewhere and submits again by itself (sections 10 and 12), so these are calls of our own.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type Callback, isJsonObject, type JsonValue, type Provider, RetryableError, type Run, type Step } from '@claimcheck/core';
import { z } from 'zod';
import { baseUrlSetting, keySetting } from './_base-url.ts';
import { type CallAnswer, call, jsonOf, objectOf, parseJson, pathOf } from './_call.ts';
import { type CallbackKeys, keepCallbackKeys } from './_callback-keys.ts';
import { falError, isInProgress } from './_fal-errors.ts';
import { readFalOutput } from './_fal-output.ts';
import { type Handle, readHandle, startedHandle } from './_handle.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { endTold, entriesOf, progressIn, told } from './_log-progress.ts';
import { tryLook } from './_look.ts';
import { checkAfterMs } from './_pace.ts';
import { isFresh } from './_signed-webhook.ts';

/** The vendor's client polls every half second (section 10). */
const PACE = { firstMs: 500, mostMs: 5_000 };
/** Pictures of a run with `sync_mode` are inside of its result. */
const RESULT_BYTES_MAX = 32_000_000;
/** Runs that one worker holds: they wait in the vendor's queue, and to look at so many takes half a core (`npm run bench:polls`). */
const CONCURRENCY = 2_000;
const KEYS_TIMEOUT_MS = 10_000;
const KEYS_BYTES_MAX = 100_000;

const settings = z.object({
  /** The vendor's key, `id:secret` (section 4). Without it the provider is off. */
  FAL_KEY: keySetting(),
  /** The queue (section 1). */
  FAL_BASE_URL: baseUrlSetting('https://queue.fal.run'),
  /** Where the public keys of its webhooks are (section 7), which is another host than the queue's. */
  FAL_JWKS_URL: baseUrlSetting('https://rest.fal.ai/.well-known/jwks.json'),
  /** Runs at once, and runs started per time, of all workers together. */
  FAL_CONCURRENCY: concurrencySetting(),
  FAL_RATE: rateSetting(),
});

/** What calls need besides the run. */
interface Account {
  readonly key: string;
  readonly baseUrl: string;
}

interface FalHandle extends Handle {
  /** Model id without its sub path: all that the addresses of a run have of it (section 1). */
  readonly app: string;
}

const fal: Provider<z.infer<typeof settings>> = {
  name: 'fal',
  settings,
  open({ FAL_KEY: key, FAL_BASE_URL: baseUrl, FAL_JWKS_URL: jwksUrl, FAL_CONCURRENCY: concurrency, FAL_RATE: rate }) {
    if (key === undefined) return { off: 'FAL_KEY is not set' };
    const account = { key, baseUrl };
    const keys = keepCallbackKeys((clock) => fetchKeys(jwksUrl, clock));
    return {
      ...limitsOf(concurrency, rate),
      concurrency: CONCURRENCY,
      start: (run) => start(account, run),
      check: (run, handle) => check(account, run, handle),
      cancel: (run, handle) => cancel(account, run, handle),
      receive: (run, callback) => receive(account, keys, run, callback),
    };
  },
};
export default fal;

async function start(account: Account, run: Run): Promise<Step> {
  const path = modelPathOf(run.model);
  const query = run.callbackUrl === undefined ? '' : `?fal_webhook=${encodeURIComponent(run.callbackUrl)}`;
  const answer = await call({ ...requestTo(account, run, `/${path}${query}`), method: 'POST', json: run.parameters, startsRun: true });
  if (!isSuccess(answer)) throw falError(answer, account.key);
  return running(run, { app: appOf(path), ...startedHandle(run, objectOf(answer).request_id) });
}

/** `status_url` and `response_url` are not used: they are made from the id, so that no answer can send the key elsewhere. */
async function check(account: Account, run: Run, handle: JsonValue): Promise<Step> {
  const known = readFalHandle(handle);
  const status = await tryLook(() => readStatus(account, run, known));
  if (status.kind === 'later') return { ...running(run, known), checkAfterMs: status.checkAfterMs };
  if (!status.seen.isOver) return { ...running(run, known), ...status.seen.told };
  return readResult(account, run, known, status.seen);
}

interface SeenStatus {
  readonly isOver: boolean;
  readonly metrics: JsonValue | undefined;
  readonly told: { readonly progress?: number; readonly logs?: readonly string[] };
}

/** Success and failure look alike in the status of older stacks; the result tells them apart (section 2). */
async function readStatus(account: Account, run: Run, { app, id }: FalHandle): Promise<SeenStatus> {
  const answer = await call(requestTo(account, run, `/${app}/requests/${id}/status?logs=1`));
  if (answer.status >= 400 && answer.status < 500) throw falError(answer, account.key);
  const body = jsonOf(answer);
  const { status, logs, metrics } = isJsonObject(body) ? body : {};
  if (status !== 'IN_QUEUE' && status !== 'IN_PROGRESS' && status !== 'COMPLETED') {
    throw new RetryableError('The provider answered with a status that is not known.');
  }
  const messages = (Array.isArray(logs) ? logs : []).map((entry) => (isJsonObject(entry) ? entry.message : ''));
  const progress = status === 'IN_PROGRESS' ? progressIn(messages.slice(-50).join('\n')) : {};
  return { isOver: status === 'COMPLETED', metrics, told: { ...progress, ...told(entriesOf(messages)) } };
}

/** The model's own answer, its status included (section 2). @throws for a run that failed. */
async function readResult(account: Account, run: Run, known: FalHandle, { metrics, told: { logs = [] } }: SeenStatus): Promise<Step> {
  const looked = await tryLook(async () => {
    const { app, id } = known;
    const answer = await call({ ...requestTo(account, run, `/${app}/requests/${id}`), bytesMax: RESULT_BYTES_MAX });
    if (isInProgress(answer)) throw new RetryableError('The result is not there yet.');
    // Said by the queue, or by something in front of it, and not by the run: the result may be had later.
    if (isSuccess(answer) || answer.status === 429 || (answer.status >= 500 && !isJsonObject(answer.json))) jsonOf(answer);
    return answer;
  });
  if (looked.kind === 'later') return { ...running(run, known), checkAfterMs: looked.checkAfterMs };
  const { seen: answer } = looked;
  return endTold(logs, async () => {
    if (!isSuccess(answer)) throw falError(answer, account.key);
    return readFalOutput(run, jsonOf(answer), metrics);
  });
}

/** 2xx when it was asked to stop, 400 when it has ended, 404 when it is gone (section 6): in all cases there is nothing more to do. */
async function cancel(account: Account, run: Run, handle: JsonValue): Promise<void> {
  const { app, id } = readFalHandle(handle);
  const answer = await call({ ...requestTo(account, run, `/${app}/requests/${id}/cancel`), method: 'PUT' });
  if (!isSuccess(answer) && answer.status !== 400 && answer.status !== 404) throw falError(answer, account.key);
}

async function receive(
  account: Account,
  keys: CallbackKeys<readonly KeyObject[]>,
  run: Run,
  callback: Callback,
): Promise<Step | undefined> {
  const { handle, body: bytes } = callback;
  // Every customer of the vendor can have it sign webhooks; only the id ties one to this run.
  if (handle === undefined || !isFresh(callback, run.clock, 'x-fal-webhook-timestamp')) return undefined;
  const known = readFalHandle(handle);
  if (!(await keys.accept(run.clock, (publicKeys) => isSigned(callback, publicKeys)))) return undefined;
  const body = parseJson(bytes);
  if (!isJsonObject(body)) return undefined;
  // The two differ after a retry inside of the queue (section 7).
  if (body.request_id !== known.id && body.gateway_request_id !== known.id) return undefined;
  if (body.status === 'OK' && body.payload !== undefined && body.payload !== null) {
    return { kind: 'finished', output: await readFalOutput(run, body.payload) };
  }
  // How it failed is told best by the result: the webhook has no headers of it. So has one whose output could not be put into it.
  return body.status === 'OK' || body.status === 'ERROR' ? check(account, run, handle) : undefined;
}

/** Ed25519 over four lines, the last of which is the hash of the exact body (section 7). */
function isSigned({ header, body }: Callback, publicKeys: readonly KeyObject[]): boolean {
  const [requestId, userId, timestamp, signature] = ['request-id', 'user-id', 'timestamp', 'signature'].map((name) =>
    header(`x-fal-webhook-${name}`),
  );
  if (!requestId || !userId || !timestamp || !signature || !/^[0-9a-f]{128}$/i.test(signature)) return false;
  const hash = createHash('sha256').update(body).digest('hex');
  const message = Buffer.from([requestId, userId, timestamp, hash].join('\n'));
  return publicKeys.some((publicKey) => verify(null, message, publicKey, Buffer.from(signature, 'hex')));
}

/** The public keys, from an address that needs no key of ours (section 7). */
async function fetchKeys(url: string, clock: Run['clock']): Promise<readonly KeyObject[]> {
  // Several runs may wait for this, so it belongs to none of them and ends with its timeout.
  const { signal } = new AbortController();
  const document = jsonOf(await call({ url, timeoutMs: KEYS_TIMEOUT_MS, bytesMax: KEYS_BYTES_MAX, signal, clock }));
  const entries = isJsonObject(document) && Array.isArray(document.keys) ? document.keys : [];
  return entries.filter(isJsonObject).flatMap(({ kty, crv, x }) => {
    // The live document pads with `=`, which Node's import of such keys refuses.
    const bytes = Buffer.from(typeof x === 'string' ? x : '', 'base64url');
    if (kty !== 'OKP' || crv !== 'Ed25519' || bytes.length !== 32) return [];
    return [createPublicKey({ key: { kty, crv, x: bytes.toString('base64url') }, format: 'jwk' })];
  });
}

function requestTo({ key, baseUrl }: Account, { signal, clock }: Run, path: string) {
  return { url: `${baseUrl}${path}`, headers: { authorization: `Key ${key}` }, signal, clock };
}

function isSuccess({ status }: CallAnswer): boolean {
  return status >= 200 && status < 300;
}

function running(run: Run, handle: FalHandle): Extract<Step, { kind: 'running' }> {
  return { kind: 'running', handle: { ...handle }, checkAfterMs: checkAfterMs(run, handle.startedAt, PACE) };
}

/** The old form `110602490-lora` means `110602490/lora` (section 1). */
function modelPathOf(model: string): string {
  return pathOf(model.replace(/^(\d+)-([^/]+)$/, '$1/$2'));
}

/** `owner/app`, or three parts behind the name spaces `workflows` and `comfy` (section 1). */
function appOf(path: string): string {
  return path
    .split('/')
    .slice(0, /^(workflows|comfy)\//.test(path) ? 3 : 2)
    .join('/');
}

function readFalHandle(handle: JsonValue): FalHandle {
  const { app } = isJsonObject(handle) ? handle : {};
  // Without its app it is none of ours.
  return { ...readHandle(typeof app === 'string' ? handle : null), app: String(app) };
}

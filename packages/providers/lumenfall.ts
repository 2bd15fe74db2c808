/**
 * Lumenfall, a gateway that speaks like OpenAI: pictures come in the answer, and so do words, of models that are written `chat:<id>`; videos,
 * of those that are written `video:<id>`, are jobs that are polled, or tell of their end by a signed webhook. "Sheet" below is
 * protocols/lumenfall.md; what it shares with OpenAI is in `_openai-wire.ts`.
 *
 * - Authentication: `LUMENFALL_API_KEY` as a bearer token (sheet, section 3); webhooks by Standard Webhooks (section 10).
 * - Final: 4xx, errors inside of a good answer, refused content (`CONTENT_POLICY_VIOLATION`). Another provider may serve 401, 402, 403 and 404.
 *   Tried again: 408, 409, 429 after `Retry-After`, 5xx; a 502 in the gateway's own words has started nothing (section 11).
 * - Videos are resumed by id, and a look that fails is made again. Pictures and words cannot be: they are over with the answer.
 * - Videos are cancelled by DELETE, best effort. Progress where the vendor tells; no logs.
 * - Submitted twice a video is the same one, by `idempotency_key` (section 9), a picture another.
 * - Hosts: calls go to `LUMENFALL_BASE_URL` only, and for the webhooks' secret to the same host; results are links that live an hour, or
 *   base64, which is stored.
 * - The vendor has no library, and points to OpenAI's: see there.
 */
import {
  type Callback,
  type Clock,
  isJsonObject,
  type JsonObject,
  type Provider,
  RetryableError,
  type Run,
  type Step,
  type Usage,
} from '@claimcheck/core';
import { z } from 'zod';
import { baseUrlSetting, keySetting } from './_base-url.ts';
import { type CallbackKeys, keepCallbackKeys } from './_callback-keys.ts';
import { tokensIn, usdIn } from './_facts.ts';
import { type Handle, startedHandle } from './_handle.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { takesCallback } from './_lumenfall-callback.ts';
import { linkedMedia } from './_media.ts';
import {
  checkVideo,
  completedVideo,
  deleteVideo,
  makeAtOnce,
  progressOf,
  readAnswer,
  readModel,
  request,
  type Vendor,
  videoOutput,
} from './_openai-wire.ts';
import { checkAfterMs } from './_pace.ts';
import { isFresh, isSigned } from './_signed-webhook.ts';

/** Sheet, section 9: the vendor's own client looks every three seconds. */
const PACE = { firstMs: 3000, mostMs: 5000 };

const settings = z.object({
  /** The vendor's key `lmnfl_…` (sheet, section 3). Without it the provider is off. */
  LUMENFALL_API_KEY: keySetting(),
  /** Where the vendor is called, in place of exactly this address. */
  LUMENFALL_BASE_URL: baseUrlSetting('https://api.lumenfall.ai/openai/v1'),
  /** Runs at once, and runs started per time, of all workers together. */
  LUMENFALL_CONCURRENCY: concurrencySetting(),
  LUMENFALL_RATE: rateSetting(),
});

const lumenfall: Provider<z.infer<typeof settings>> = {
  name: 'lumenfall',
  settings,
  open({ LUMENFALL_API_KEY: key, LUMENFALL_BASE_URL: baseUrl, LUMENFALL_CONCURRENCY: concurrency, LUMENFALL_RATE: rate }) {
    if (!key) return { off: 'LUMENFALL_API_KEY is not set' };
    // Sheet, section 11.
    const [refusalCodes, failureCodes] = [new Set(['CONTENT_POLICY_VIOLATION']), new Set(['UPSTREAM_ERROR'])];
    // In pieces an answer does not tell its cost, as far as is known.
    const vendor: Vendor = { key, baseUrl, refusalCodes, failureCodes, writesAlong: false, usageIn };
    const secrets = keepCallbackKeys((clock) => readSecret(vendor, clock));
    // Not idempotent as a whole: the vendor recognises videos that it was asked for before (sheet, section 9), but not pictures.
    return {
      // Each may hold an answer of megabytes of base64 while it is read.
      concurrency: 50,
      ...limitsOf(concurrency, rate),
      start: (run) => start(vendor, run),
      check: (run, saved) => checkVideo(saved, (handle) => look(vendor, run, handle)),
      cancel: (run, handle) => deleteVideo(vendor, run, handle),
      receive: (run, callback) => receive(vendor, secrets, run, callback),
    };
  },
};
export default lumenfall;

async function start(vendor: Vendor, run: Run): Promise<Step> {
  const output = await makeAtOnce(vendor, run);
  if (output) return { kind: 'finished', output };
  const { model } = readModel(run);
  const { webhook_url: _webhook, ...parameters } = run.parameters;
  const callbackUrl = callbackOf(vendor, run);
  const json = {
    ...parameters,
    model,
    // 256 characters at most (sheet, section 9).
    idempotency_key: run.idempotencyKey.slice(0, 256),
    ...(callbackUrl !== undefined && { webhook_url: callbackUrl }),
  };
  const handle = startedHandle(run, readAnswer(vendor, await request(vendor, run, { path: '/videos', method: 'POST', json })).id);
  return { kind: 'running', handle, checkAfterMs: nextLookMs(vendor, run, handle.startedAt) };
}

async function look(vendor: Vendor, run: Run, handle: Handle): Promise<Step> {
  const video = readAnswer(vendor, await request(vendor, run, { path: `/videos/${handle.id}` }));
  const completed = completedVideo(vendor, video);
  if (!completed) {
    return { kind: 'running', handle, ...progressOf(video), checkAfterMs: nextLookMs(vendor, run, handle.startedAt) };
  }
  const output = isJsonObject(completed.output) ? completed.output : {};
  const media = linkedMedia(output.url, { contentType: output.content_type ?? 'video/mp4', bytes: output.size_bytes });
  if (!media) throw new RetryableError('The video is done, but the provider has no link to it yet.');
  return { kind: 'finished', output: videoOutput(vendor, completed, media) };
}

/** Pictures name the currency beside the cost (sheet, section 4), videos do not (section 9): prices are in dollars. */
function usageIn({ usage, metadata }: JsonObject): Usage {
  const { cost, cost_currency: currency = 'USD' } = isJsonObject(metadata) ? metadata : {};
  return { ...tokensIn(usage), ...(currency === 'USD' && usdIn(cost)) };
}

/**
 * Sheet, section 10. The id in a webhook may be of another kind than the one of the submission (section 9), so an event cannot be matched to
 * the run by it. A genuine one is therefore the reason to ask for the run's own state, which also makes copies of it harmless.
 */
async function receive(vendor: Vendor, secrets: CallbackKeys<string>, run: Run, callback: Callback): Promise<Step | undefined> {
  const { handle: saved } = callback;
  // What is stale is dropped before it costs a call.
  if (saved === undefined || !isFresh(callback, run.clock)) return undefined;
  if (!(await secrets.accept(run.clock, (secret) => isSigned(callback, secret)))) return undefined;
  const step = await checkVideo(saved, (handle) => look(vendor, run, handle));
  return step.kind === 'finished' ? step : undefined;
}

/** It is of the account, and beside the OpenAI-shaped part of the API (sheet, sections 1 and 10). */
async function readSecret(vendor: Vendor, clock: Clock): Promise<string> {
  const native = { ...vendor, baseUrl: vendor.baseUrl.replace(/\/openai\/v1$/, '/v1') };
  // Several callbacks may wait for it, so it does not end with the run of one; the call bounds its time.
  const { signal } = new AbortController();
  const { key } = readAnswer(vendor, await request(native, { signal, clock }, { path: '/webhooks/secret', timeoutMs: 10_000 }));
  if (typeof key !== 'string') throw new RetryableError('The provider did not tell its webhook secret.');
  return key;
}

function callbackOf({ baseUrl }: Vendor, { callbackUrl }: Run): string | undefined {
  return callbackUrl !== undefined && takesCallback(baseUrl, callbackUrl) ? callbackUrl : undefined;
}

function nextLookMs(vendor: Vendor, run: Run, startedAt: number): number {
  return checkAfterMs(run, startedAt, PACE, callbackOf(vendor, run) !== undefined);
}

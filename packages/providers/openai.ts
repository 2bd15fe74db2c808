/**
 * OpenAI, and whatever speaks like it at `OPENAI_BASE_URL`: pictures (`POST /images/generations`), words (`POST /chat/completions`) of models
 * that are written `chat:<id>`, and videos (`POST /videos`) of those that are written `video:<id>`. "Sheet" below is protocols/openai.md; what
 * it shares with Lumenfall is in `_openai-wire.ts`.
 *
 * - Authentication: `OPENAI_API_KEY` as a bearer token (sheet, section 1).
 * - Final: 4xx, what `x-should-retry: false` says, refused content (`content_policy_violation`, `moderation_blocked`). Another provider may serve
 *   401, 402, 403, 404 and an account that cannot pay. Tried again: 408, 409, 429 after `Retry-After`, 5xx (section 8).
 * - Videos are resumed by id, and a look that fails is made again. Pictures and words cannot be: they are over with the answer.
 * - Videos are cancelled by DELETE. Progress is their percent; no logs. Nothing is told of by callback: webhooks are set up per account.
 *   Words are told of while they are written, where the model and the account may.
 * - Submitted twice it is made twice: the vendor's clients send no idempotency key either (section 1).
 * - Hosts: calls go to `OPENAI_BASE_URL` only. Videos are fetched with the key and stored; pictures are links, or base64, which is stored.
 * - The vendor's client sends a submission up to three times by itself (section 8), and gateways differ from its types.
 */
import { isJsonObject, type Media, type Provider, RetryableError, type Run, type Step, TerminalError } from '@claimcheck/core';
import { z } from 'zod';
import { baseUrlSetting, keySetting } from './_base-url.ts';
import type { CallAnswer } from './_call.ts';
import { tokensIn } from './_facts.ts';
import { createGate } from './_gate.ts';
import { type Handle, startedHandle } from './_handle.ts';
import { concurrencySetting, limitsOf, rateSetting } from './_limits.ts';
import { linkedMedia, storeBytes } from './_media.ts';
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

/** Sheet, section 6: the Python client looks every second unless the vendor says otherwise. */
const PACE = { firstMs: 1000, mostMs: 5000 };
const POLL_AFTER_MS_MAX = 60_000;
/** Of one video; twelve seconds (sheet, section 6) of the largest format are a tenth of it. */
const VIDEO_BYTES_MAX = 200_000_000;
const VIDEO_TIMEOUT_MS = 240_000;
/** Videos are held in memory on their way to the store, so not all that end together are fetched together. */
const fetching = createGate(2);

const settings = z.object({
  /** The vendor's key (sheet, section 1). Without it the provider is off. */
  OPENAI_API_KEY: keySetting(),
  /** Where the vendor is called, in place of exactly this address. */
  OPENAI_BASE_URL: baseUrlSetting('https://api.openai.com/v1'),
  /** Runs at once, and runs started per time, of all workers together. */
  OPENAI_CONCURRENCY: concurrencySetting(),
  OPENAI_RATE: rateSetting(),
});

const openai: Provider<z.infer<typeof settings>> = {
  name: 'openai',
  settings,
  open({ OPENAI_API_KEY: key, OPENAI_BASE_URL: baseUrl, OPENAI_CONCURRENCY: concurrency, OPENAI_RATE: rate }) {
    if (!key) return { off: 'OPENAI_API_KEY is not set' };
    // The first is what pictures of the DALL-E family are refused by, the second is that of the GPT models and of videos.
    const refusalCodes = new Set(['content_policy_violation', 'moderation_blocked']);
    const vendor: Vendor = {
      key,
      baseUrl,
      refusalCodes,
      failureCodes: new Set(),
      writesAlong: true,
      usageIn: ({ usage }) => tokensIn(usage),
    };
    return {
      // Each may hold an answer of megabytes of base64 while it is read.
      concurrency: 50,
      ...limitsOf(concurrency, rate),
      start: (run) => start(vendor, run),
      check: (run, saved) => checkVideo(saved, (handle) => look(vendor, run, handle)),
      cancel: (run, handle) => deleteVideo(vendor, run, handle),
    };
  },
};
export default openai;

async function start(vendor: Vendor, run: Run): Promise<Step> {
  const output = await makeAtOnce(vendor, run);
  if (output) return { kind: 'finished', output };
  const { model } = readModel(run);
  // JSON is what some of the vendor's own clients send, so it needs no form (sheet, section 6).
  const answer = await request(vendor, run, { path: '/videos', method: 'POST', json: { ...run.parameters, model } });
  const video = readAnswer(vendor, answer);
  const handle = startedHandle(run, video.id);
  return { kind: 'running', handle, ...progressOf(video), checkAfterMs: nextLookMs(run, handle.startedAt, answer) };
}

async function look(vendor: Vendor, run: Run, handle: Handle): Promise<Step> {
  const answer = await request(vendor, run, { path: `/videos/${handle.id}` });
  const video = readAnswer(vendor, answer);
  if (completedVideo(vendor, video)) {
    return { kind: 'finished', output: videoOutput(vendor, video, await readVideo(vendor, run, handle.id)) };
  }
  return { kind: 'running', handle, ...progressOf(video), checkAfterMs: nextLookMs(run, handle.startedAt, answer) };
}

/** The bytes need the key, so they are kept here; a link to them would be of no use to a client (sheet, section 6, "Content"). */
function readVideo(vendor: Vendor, run: Run, id: string): Promise<Media> {
  return fetching.run(run.signal, async () => {
    const path = `/videos/${id}/content`;
    const limits = { accept: 'application/binary', timeoutMs: VIDEO_TIMEOUT_MS, bytesMax: VIDEO_BYTES_MAX };
    const answer = await request(vendor, run, { path, ...limits });
    const { status, bytes } = answer;
    if (status === 404 || status === 410) throw new TerminalError('The video is no longer at the provider.');
    // A gateway may send callers on to its store: not followed with the key, but good as the address of the result.
    const elsewhere = status >= 300 && status < 400 ? linkedMedia(answer.header('location'), { contentType: 'video/mp4' }) : undefined;
    if (elsewhere) return elsewhere;
    const contentType = answer.header('content-type');
    if (status !== 200 || bytes.length === 0 || contentType?.startsWith('text/') || isErrorDocument(answer)) {
      readAnswer(vendor, answer);
      throw new RetryableError('The provider answered with something else than the video.');
    }
    return storeBytes(run, bytes, contentType?.startsWith('video/') ? contentType : undefined);
  });
}

function isErrorDocument(answer: CallAnswer): boolean {
  return answer.header('content-type')?.startsWith('application/json') === true && isJsonObject(answer.json);
}

/** The vendor may ask for another pace (sheet, section 6). No callback comes, whatever the run offers. */
function nextLookMs(run: Run, startedAt: number, { header }: CallAnswer): number {
  const asked = header('openai-poll-after-ms');
  if (asked !== undefined && /^\d{1,9}$/.test(asked)) return Math.min(POLL_AFTER_MS_MAX, Math.max(100, Number(asked)));
  return checkAfterMs(run, startedAt, PACE, false);
}

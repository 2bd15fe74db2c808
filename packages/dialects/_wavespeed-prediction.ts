/**
 * WaveSpeed's prediction: the object that every answer about a job holds, and every webhook is. Sections in comments are of the protocol
 * sheet wavespeed.md.
 */
import { createHmac } from 'node:crypto';
import {
  type FailureCode,
  fromJsonText,
  InlineFile,
  isJsonObject,
  type Job,
  type Media,
  mediaUrl,
  type Output,
  type SignableMessage,
  type State,
  type WebhookMessage,
  type WebhookSigningKeys,
} from '@claimcheck/core';

/** What the vendor calls the states. Half of its clients never stop at any other end than these two (section 5), so a cancelled job has failed. */
export const STATUS = {
  QUEUED: 'created',
  PROCESSING: 'processing',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'failed',
} as const satisfies Record<State, string>;

/** The task's own codes (section 5); 0 is none. */
const TASK_CODES = {
  provider_error: 1403,
  content_refused: 1200,
  invalid_input: 1401,
  // The vendor's 5004 says with its clients that the job goes on (section 6), which is not so here.
  timeout: 1405,
  worker_crashed: 5000,
  // Nor one that says "try again": what became of the run is not known, and another would be paid again.
  outcome_unknown: 1405,
  cancelled: 1405,
  internal: 5000,
} as const satisfies Record<FailureCode, number>;

/** Files that stand in an answer are held in memory, here and by the client; more than this is told by addresses. */
const INLINE_BYTES_MAX = 20 * 1024 * 1024;

/** How a file is told. */
type Tell = (media: Media) => string | InlineFile;

/** Files are told by their addresses; see {@link predictionWithFiles} for a single job that a client asks after. */
export function prediction(job: Job, baseUrl: string, tell: Tell = (media) => mediaUrl(media, baseUrl)) {
  const outputs = job.state === 'COMPLETED' && job.output ? outputsOf(job.output, tell) : [];
  const attemptMs = attemptMsOf(job);
  const { code, message } = failureOf(job);
  return {
    id: job.id,
    model: job.model,
    input: fromJsonText(job.input),
    outputs,
    // The path is all that one client takes of it (section 8).
    urls: { get: resultUrl(job, baseUrl) },
    has_nsfw_contents: outputs.map((_output, index) => job.output?.nsfw?.[index] ?? false),
    status: STATUS[job.state],
    created_at: job.createdAt.toISOString(),
    error: message,
    code,
    executionTime: attemptMs,
    timings: { inference: inferenceMsOf(job) ?? attemptMs },
  };
}

/** With the files themselves as bare base64 where the request asked for them (section 6). */
export function predictionWithFiles(job: Job, baseUrl: string) {
  const input = fromJsonText(job.input);
  const isInline = isJsonObject(input) && input.enable_base64_output === true && isSmall(job.output);
  return prediction(job, baseUrl, (media) => (isInline ? inlineFile(media) : undefined) ?? mediaUrl(media, baseUrl));
}

/** Undefined for a file that is not ours, whose address is all there is. */
function inlineFile({ location }: Media): InlineFile | undefined {
  return 'asset' in location ? new InlineFile(location.asset, 'base64') : undefined;
}

/** A size that nobody knows may be any. */
function isSmall(output: Output | undefined): boolean {
  return (output?.media ?? []).reduce((sum, { bytes = Number.POSITIVE_INFINITY }) => sum + bytes, 0) <= INLINE_BYTES_MAX;
}

export function resultUrl({ id }: Pick<Job, 'id'>, baseUrl: string): string {
  return `${baseUrl}/api/v3/predictions/${id}/result`;
}

/** Files, words and data, each as one output (section 4). */
function outputsOf({ media, text, json }: Output, tell: Tell): readonly unknown[] {
  return [...media.map(tell), ...(text === undefined ? [] : [text]), ...(json === undefined ? [] : [json].flat())];
}

function failureOf({ state, failure }: Job): { readonly code: number; readonly message: string } {
  if (state !== 'FAILED' && state !== 'CANCELLED') return { code: 0, message: '' };
  if (!failure) return { code: TASK_CODES.internal, message: 'The job ended without a recorded reason.' };
  return { code: TASK_CODES[failure.code], message: failure.message };
}

/** Of the newest attempt; 0 until it has ended. */
function attemptMsOf({ attemptStartedAt, finishedAt }: Job): number {
  return attemptStartedAt && finishedAt ? Math.max(0, finishedAt.getTime() - attemptStartedAt.getTime()) : 0;
}

/** As the provider measured it, where it tells. */
function inferenceMsOf({ output }: Job): number | undefined {
  const seconds = output?.timings?.inference;
  return seconds === undefined ? undefined : Math.round(seconds * 1000);
}

/** The prediction itself, without the envelope of answers (section 9). Files as text are not for webhooks (section 6). */
export function encodeWebhook(job: Job): WebhookMessage {
  return { contentType: 'application/json', body: JSON.stringify(prediction(job, job.baseUrl)) };
}

/**
 * It looks like a Standard Webhook and is not one: the key is the text behind `whsec_` and not what it decodes to, and the digest is
 * hexadecimal (section 9). Receivers take exactly one signature, so while a secret is being replaced there is one too: of the new secret,
 * which is what they get when they ask for it.
 */
export function signWebhook({ id, timestamp, body }: SignableMessage, { secrets }: WebhookSigningKeys): Readonly<Record<string, string>> {
  const [secret] = secrets;
  if (secret === undefined) throw new Error('the caller has no secret to sign with');
  const digest = createHmac('sha256', secret.replace(/^whsec_/, ''))
    .update(`${id}.${timestamp}.${body}`)
    .digest('hex');
  return { 'webhook-signature': `v3,${digest}` };
}

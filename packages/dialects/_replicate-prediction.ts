/** A job as Replicate's prediction (replicate.md, sections 4 and 5): its status, what it produced, what it took, and its addresses. */
import { fromJsonText, isJsonObject, isTerminal, type Job, type JsonObject, mediaUrl, type Output, type State } from '@claimcheck/core';

/** Of everything that this dialect answers to. */
export const BASE = '/replicate/v1';

/** Stands for the owner of a model whose name has none: the vendor's clients refuse references without a slash. */
export const NO_OWNER = '_';

/** The vendor's `aborted` is never said: its clients poll it for ever, or break (section 5). */
export const STATUS = {
  QUEUED: 'starting',
  PROCESSING: 'processing',
  COMPLETED: 'succeeded',
  FAILED: 'failed',
  CANCELLED: 'canceled',
} as const satisfies Record<State, string>;

export interface PredictionOptions {
  /** In front of every address, without a trailing slash. */
  readonly baseUrl: string;
  /** Opens the stream without a key, as clients do (section 8); without one no stream is told of. */
  readonly followToken?: string | undefined;
  /** True when the client waited for the end: clients take anything but `starting` for that (section 10). */
  readonly isHeld?: boolean;
}

export function predictionBody(job: Job, options: PredictionOptions) {
  const { id, state, input, webhookUrl, createdAt, startedAt, finishedAt, deadline, output, logs = [] } = job;
  const isStarting = state === 'QUEUED' || (options.isHeld === true && !isTerminal(state));
  return {
    id,
    model: referenceOf(job.model),
    version: job.model,
    input: fromJsonText(input),
    output: output ? outputOf(output, inputOf(job), options.baseUrl) : null,
    logs: logs.map(({ text }) => `${text}\n`).join(''),
    error: errorOf(job),
    status: isStarting ? STATUS.QUEUED : statusOf(job),
    source: 'api',
    data_removed: false,
    created_at: createdAt.toISOString(),
    ...(startedAt && !isStarting && { started_at: startedAt.toISOString() }),
    ...(finishedAt && { completed_at: finishedAt.toISOString() }),
    ...(deadline && { deadline: deadline.toISOString() }),
    ...(finishedAt && { metrics: metricsOf(job, finishedAt) }),
    ...(webhookUrl !== undefined && { webhook: webhookUrl, webhook_events_filter: filterOf(job) }),
    urls: urlsOf(id, options),
  };
}

/** `owner/name`, also where the name has no owner. */
export function referenceOf(model: string): string {
  return model.includes('/') ? model : `${NO_OWNER}/${model}`;
}

/** The opposite of {@link referenceOf}. */
export function modelNameOf(reference: string): string {
  return reference.startsWith(`${NO_OWNER}/`) ? reference.slice(NO_OWNER.length + 1) : reference;
}

/** A time limit that the client has set cancels; the model's own is a failure, which clients throw. */
function statusOf(job: Job): string {
  return isOverDeadline(job) ? STATUS.CANCELLED : STATUS[job.state];
}

function isOverDeadline({ failure, deadline }: Job): boolean {
  return failure?.code === 'timeout' && deadline !== undefined;
}

/** Text or null: clients refuse anything else (section 4). */
function errorOf({ state, failure }: Job): string | null {
  if (state !== 'FAILED') return null;
  const { code, message } = failure ?? { code: 'internal', message: 'The job ended without a recorded reason.' };
  // The wire has no place for a code but the words; models of the vendor end them so when they refuse a content.
  return code === 'content_refused' ? `${message} (E005)` : message;
}

/** Parameters as parsed values: for looking only. */
function inputOf({ input }: Job): JsonObject {
  const value = fromJsonText(input);
  return isJsonObject(value) ? value : {};
}

/** Parameters by which a client says how many it wants. Models that have one answer with a list, of one as well. */
const COUNTS = ['num_outputs', 'num_images', 'n'];

/**
 * What a Cog model would have answered: one address, a list of them, or JSON. Language models answer with a list of pieces, which programs join.
 */
export function outputOf({ media, text, json }: Output, input: JsonObject, baseUrl: string): unknown {
  const files = media.map((file) => mediaUrl(file, baseUrl));
  if (text !== undefined) return [...files, text];
  if (files.length === 0) return json ?? null;
  return files.length === 1 && COUNTS.every((name) => input[name] === undefined) ? files[0] : files;
}

/** Seconds, and what is counted; by the vendor's names (section 4). */
function metricsOf({ attemptStartedAt, createdAt, output }: Job, end: Date) {
  const { inputTokens, outputTokens, seconds } = output?.usage ?? {};
  const images = (output?.media ?? []).filter(({ contentType }) => contentType.toLowerCase().startsWith('image/')).length;
  const hasVideo = output?.media.some(({ contentType }) => contentType.toLowerCase().startsWith('video/')) ?? false;
  return {
    ...(attemptStartedAt && { predict_time: secondsBetween(attemptStartedAt, end) }),
    total_time: secondsBetween(createdAt, end),
    ...(images > 0 && { image_count: images }),
    ...(inputTokens !== undefined && { input_token_count: inputTokens }),
    ...(outputTokens !== undefined && { output_token_count: outputTokens }),
    ...(hasVideo && seconds !== undefined && { video_output_duration_seconds: seconds }),
  };
}

function secondsBetween(from: Date, to: Date): number {
  return Math.max(0, to.getTime() - from.getTime()) / 1000;
}

function filterOf({ webhookOptions }: Job): readonly string[] {
  const events = webhookOptions?.events ?? [];
  return [
    ...(events.includes('started') ? ['start'] : []),
    ...(events.includes('progress') ? ['output', 'logs'] : []),
    // Always told.
    'completed',
  ];
}

/** `web` is a page with the vendor; here there is none, and clients that type it want an address. */
function urlsOf(id: string, { baseUrl, followToken }: PredictionOptions) {
  const url = `${baseUrl}${BASE}/predictions/${id}`;
  // Left out rather than null, which breaks the client for Python (section 4).
  const stream = followToken !== undefined && { stream: `${baseUrl}${BASE}/streams/${followToken}` };
  return { get: url, cancel: `${url}/cancel`, web: url, ...stream };
}

/** Videos, the vendor's jobs: the object, its list and its webhook (protocols/openai.md, section 6; lumenfall.md, sections 9 and 10). */
import { type Answer, AppError, type Job, type JobPage, mediaUrl, type State, type WebhookMessage } from '@claimcheck/core';
import { failureBody } from './_openai-errors.ts';
import { inputOf, metadataOf, NO_OUTPUT, sizeOf, unixSeconds } from './_openai-facts.ts';
import { count, fitter, isEmpty, LABELS, refused, renamed, size } from './_openai-fit.ts';
import { ID_PREFIXES } from './_openai-ids.ts';

/** The vendor knows no cancelled video, and its clients go on polling at a word that they do not know (lumenfall.md, section 9). */
const STATUSES = {
  QUEUED: 'queued',
  PROCESSING: 'in_progress',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'failed',
} as const satisfies Record<State, string>;

const SECONDS = ['seconds', 'duration', 'duration_seconds', 'num_seconds'];

export const fitVideo = fitter({
  rules: {
    n: count,
    seconds: renamed(...SECONDS),
    duration: renamed(...SECONDS),
    size,
    media_retention: refused(),
    metadata: refused(isEmpty),
    ...LABELS,
  },
  files: { input_reference: ['image', 'image_url', 'input_image', 'start_image', 'first_frame_image', 'images', 'image_urls'] },
});

/** Any job, as a video: of one that makes something else, `output` says what. */
export function videoBody(job: Job, baseUrl: string) {
  const { prompt, size: wantedSize } = inputOf(job);
  const [first] = job.output?.media ?? [];
  return {
    id: `${ID_PREFIXES.video}${job.id}`,
    object: 'video',
    model: job.model,
    status: STATUSES[job.state],
    progress: job.state === 'COMPLETED' ? 100 : Math.floor(job.progress * 100),
    created_at: unixSeconds(job.createdAt),
    completed_at: job.state === 'COMPLETED' && job.finishedAt ? unixSeconds(job.finishedAt) : null,
    expires_at: null,
    prompt: typeof prompt === 'string' ? prompt : null,
    size: typeof wantedSize === 'string' ? wantedSize : (sizeOf(first) ?? null),
    seconds: secondsOf(job),
    remixed_from_video_id: null,
    output: outputBody(job, baseUrl),
    error: errorOf(job),
    ...(job.finishedAt && { metadata: metadataOf(job) }),
  };
}

/** As text, however it was asked for; what was made, where nothing was asked for. */
function secondsOf(job: Job): string | null {
  const input = inputOf(job);
  const asked = SECONDS.map((name) => input[name]).find((value) => value !== undefined && value !== null);
  const seconds = asked ?? job.output?.usage?.seconds;
  return seconds === undefined ? null : String(seconds);
}

function outputBody({ state, output = NO_OUTPUT }: Job, baseUrl: string) {
  if (state !== 'COMPLETED') return null;
  const files = output.media.map((media) => ({
    url: mediaUrl(media, baseUrl),
    content_type: media.contentType,
    size_bytes: media.bytes ?? null,
  }));
  return {
    ...files[0],
    // The vendor has a place for one.
    ...(files.length > 1 && { files }),
    ...(output.text !== undefined && { text: output.text }),
    ...(output.json !== undefined && { json: output.json }),
  };
}

function errorOf(job: Job) {
  if (STATUSES[job.state] !== 'failed') return null;
  const { code, error_code, message } = failureBody(job);
  return { code, message, error_code };
}

/** `has_more` is what clients page on by, with the last id they have seen. */
export function videoList({ jobs, nextCursor }: JobPage, baseUrl: string) {
  const data = jobs.map((job) => videoBody(job, baseUrl));
  return { object: 'list', data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more: nextCursor !== undefined };
}

/** The file itself. @throws AppError when there is none, or not yet. */
export function contentAnswer(job: Job): Answer {
  const id = `${ID_PREFIXES.video}${job.id}`;
  const [first] = job.output?.media ?? [];
  if (job.state === 'QUEUED' || job.state === 'PROCESSING') {
    throw new AppError('invalid_request', `The video ${id} is ${STATUSES[job.state]}: ask for its content once it is completed.`, {
      requestId: job.id,
    });
  }
  if (!first) {
    const why = job.failure ? `: ${job.failure.message}` : ': its model makes no files.';
    throw new AppError('not_found', `The video ${id} has no content${why}`, { requestId: job.id });
  }
  if ('asset' in first.location) return { status: 200, body: { kind: 'asset', token: first.location.asset } };
  return { status: 302, headers: { location: first.location.url }, body: { kind: 'empty' } };
}

const EVENTS = {
  QUEUED: 'video.queued',
  PROCESSING: 'video.in_progress',
  COMPLETED: 'video.completed',
  FAILED: 'video.failed',
  CANCELLED: 'video.cancelled',
} as const satisfies Record<State, string>;

/** Both vendors' events in one: OpenAI's clients look at `id`, `object` and `data.id`, Lumenfall's at `data`. */
export function encodeWebhook(job: Job): WebhookMessage {
  const { id, model, status, output, error } = videoBody(job, job.baseUrl);
  const body = {
    id: `${ID_PREFIXES.event}${job.id}_${job.sequence}`,
    object: 'event',
    created_at: unixSeconds(job.finishedAt ?? job.updatedAt),
    type: EVENTS[job.state],
    data: { object: 'video.generation', id, model, status: job.state === 'CANCELLED' ? 'cancelled' : status, output, error },
  };
  return { contentType: 'application/json', body: JSON.stringify(body) };
}

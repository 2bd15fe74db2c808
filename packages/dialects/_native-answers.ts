/** The bodies of the native format: claim check, status, result and events. Members come in the order they are written here. */
import {
  type Answer,
  type Attempt,
  type Failure,
  fromJsonText,
  isTerminal,
  type Job,
  type JobEvent,
  type Media,
  mediaUrl,
  membersOf,
  type Output,
  type ServerSentEvent,
  type State,
} from '@claimcheck/core';

/** A job that ended without a result answers 422: the vendor's clients look for that code. */
const HTTP_STATUS = {
  QUEUED: 200,
  PROCESSING: 200,
  COMPLETED: 200,
  FAILED: 422,
  CANCELLED: 422,
} as const satisfies Record<State, number>;

export function responseUrl(id: string, baseUrl: string): string {
  return `${baseUrl}/v2/requests/${id}`;
}

/** The answer to a submission. `queue_position` is null once the job has left the queue, so that the members are always the same. */
export function claimCheck(job: Job, baseUrl: string) {
  return {
    request_id: job.id,
    status: job.state,
    status_url: `${responseUrl(job.id, baseUrl)}/status`,
    response_url: responseUrl(job.id, baseUrl),
    cancel_url: `${responseUrl(job.id, baseUrl)}/cancel`,
    poll_url: `${baseUrl}/v1/requests/${job.id}`,
    queue_position: job.queuePosition ?? null,
  };
}

/** Where a job stands, without what it produced. */
export function statusBody(job: Job, baseUrl: string) {
  return {
    status: job.state,
    request_id: job.id,
    metrics: metrics(job),
    ...(job.state === 'QUEUED' && job.queuePosition !== undefined && { queue_position: job.queuePosition }),
    progress: progressOf(job),
    ...(job.logs && { logs: job.logs.map(({ text, at }) => ({ timestamp: at.toISOString(), message: text })) }),
    status_url: `${responseUrl(job.id, baseUrl)}/status`,
    response_url: responseUrl(job.id, baseUrl),
    ...(HTTP_STATUS[job.state] === 422 && failureMembers(job)),
  };
}

/** Most providers never report the last step. */
function progressOf({ state, progress }: Pick<Job, 'state' | 'progress'>): number {
  return state === 'COMPLETED' ? 1 : progress;
}

export function statusAnswer(job: Job, baseUrl: string): Answer {
  return { status: HTTP_STATUS[job.state], body: { kind: 'json', value: statusBody(job, baseUrl) } };
}

/** The result once there is one, else the status: asking early is not an error. */
export function resultAnswer(job: Job, baseUrl: string): Answer {
  return { status: HTTP_STATUS[job.state], body: { kind: 'json', value: resultBody(job, baseUrl) } };
}

function resultBody(job: Job, baseUrl: string) {
  if (job.state !== 'COMPLETED') return statusBody(job, baseUrl);
  const prompt = promptOf(job);
  return {
    status: job.state,
    request_id: job.id,
    ...producedMembers(job, baseUrl),
    ...(prompt !== undefined && { prompt }),
    timings: job.output?.timings ?? {},
    error: null,
    metrics: metrics(job),
  };
}

/** What the job produced, in the vendor's members: `output` is always a string, files come again with their facts. */
export function producedMembers(job: Job, baseUrl: string) {
  const output = job.output ?? { media: [] };
  return {
    output: outputText(output, baseUrl),
    ...fileMembers(output.media, baseUrl),
    ...(output.seed !== undefined && { seed: output.seed }),
  };
}

function outputText(output: Output, baseUrl: string): string {
  const [first] = output.media;
  if (first) return mediaUrl(first, baseUrl);
  if (output.text !== undefined) return output.text;
  return output.json === undefined ? '' : JSON.stringify(output.json);
}

function fileMembers(media: readonly Media[], baseUrl: string) {
  const images = media.filter((file) => isOfKind(file, 'image'));
  const video = media.find((file) => isOfKind(file, 'video'));
  const audio = media.find((file) => isOfKind(file, 'audio'));
  // The vendor has no place for a second video or a 3D model; they were paid for, so they get one of ours.
  const files = media.filter((file) => !images.includes(file) && file !== video && file !== audio);
  return {
    ...(images.length > 0 && { images: images.map((file) => fileBody(file, baseUrl)) }),
    ...(video && { video: fileBody(video, baseUrl) }),
    ...(audio && { audio: fileBody(audio, baseUrl) }),
    ...(files.length > 0 && { files: files.map((file) => fileBody(file, baseUrl)) }),
  };
}

function isOfKind(media: Media, kind: 'image' | 'video' | 'audio'): boolean {
  return media.contentType.toLowerCase().startsWith(`${kind}/`);
}

function fileBody(media: Media, baseUrl: string) {
  return {
    url: mediaUrl(media, baseUrl),
    content_type: media.contentType,
    file_name: media.fileName,
    ...(media.bytes !== undefined && { file_size: media.bytes }),
    ...(media.width !== undefined && { width: media.width }),
    ...(media.height !== undefined && { height: media.height }),
  };
}

export function failureMembers(job: Job) {
  const { message, code }: Failure = job.failure ?? { code: 'internal', message: 'The job ended without a recorded reason.' };
  return { error: message, code };
}

export interface Metrics {
  /** Seconds of the newest attempt. */
  readonly inference_time?: number;
  /** Seconds until the first attempt. */
  readonly queue_time?: number;
  readonly total_time?: number;
  readonly resubmits?: number;
  /** Who served it, or tried to last. */
  readonly provider?: string;
  /** US dollars for all attempts together; absent when nothing is known. */
  readonly cost?: number;
  readonly attempts?: readonly object[];
}

/**
 * Seconds, empty until the job has ended. `inference_time` counts the newest attempt alone, `queue_time` ends with the first one;
 * after a retry `total_time` is therefore more than their sum.
 */
export function metrics(job: Job): Metrics {
  const end = job.finishedAt;
  if (!end) return {};
  return {
    inference_time: secondsBetween(job.attemptStartedAt ?? end, end),
    queue_time: secondsBetween(job.createdAt, job.startedAt ?? end),
    total_time: secondsBetween(job.createdAt, end),
    // Each may have been paid for twice, so it is not kept from whoever pays.
    ...(job.resubmits > 0 && { resubmits: job.resubmits }),
    ...attemptMembers(job),
  };
}

/** What was tried where, and what it cost. Nothing of a job that never started. */
function attemptMembers({ attempts = [], provider }: Job) {
  const costs = attempts.flatMap(({ costUsd }) => (costUsd === undefined ? [] : [costUsd]));
  return {
    ...(attempts.length > 0 && { provider }),
    // Sums of decimal fractions end in noise; a price has no more digits than this.
    ...(costs.length > 0 && { cost: Number(costs.reduce((sum, cost) => sum + cost, 0).toFixed(10)) }),
    ...(attempts.length > 0 && { attempts: attempts.map(attemptBody) }),
  };
}

function attemptBody({ number, provider, model, startedAt, finishedAt, outcome, failure, costUsd }: Attempt) {
  return {
    number,
    provider,
    ...(model !== undefined && { model }),
    outcome,
    started_at: startedAt.toISOString(),
    seconds: secondsBetween(startedAt, finishedAt),
    ...(failure && { error: failure.message, code: failure.code }),
    ...(costUsd !== undefined && { cost: costUsd }),
  };
}

/** A Date holds whole milliseconds, so the quotient prints with three decimals at most. */
function secondsBetween(from: Date, to: Date): number {
  return Math.max(0, to.getTime() - from.getTime()) / 1000;
}

/** Read from the input's exact text, so that nothing else of it, such as a long number, is ever re-written. */
function promptOf(job: Job): string | undefined {
  const text = membersOf(job.input).get('prompt');
  const prompt = text === undefined ? undefined : fromJsonText(text);
  return typeof prompt === 'string' ? prompt : undefined;
}

/**
 * A job's events for a stream. The data is the event's own, such as `error`, behind `request_id`, `status` and `progress`; the event
 * that ends the job also carries `response_url`, because an event holds no result: the client fetches it there.
 */
export async function* serverSentEvents(events: AsyncIterable<JobEvent>, baseUrl: string): AsyncGenerator<ServerSentEvent> {
  for await (const event of events) {
    const own = { request_id: event.jobId, status: event.state, progress: progressOf(event) };
    const ends = event.type === 'status' && isTerminal(event.state);
    yield {
      id: String(event.sequence),
      event: event.type,
      // Ours twice: in front for the order, behind because data from an upstream may not replace them.
      data: { ...own, ...event.data, ...own, ...(ends && { response_url: responseUrl(event.jobId, baseUrl) }) },
    };
  }
}

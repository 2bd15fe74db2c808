/** The bodies of fal's queue (fal.md, sections 2, 8 and 9): the claim check, the status, the result, and the streams of both. */
import {
  type Answer,
  type Followed,
  fromJsonText,
  InlineFile,
  isJsonObject,
  isTerminal,
  type Job,
  type JsonObject,
  type LogLine,
  type Media,
  mediaUrl,
  type Output,
  type ServerSentEvent,
  type State,
} from '@claimcheck/core';
import { failedAs } from './_fal-errors.ts';

/** The vendor has no word for failed or cancelled: such a job is COMPLETED, and its result is an error (section 2). */
const STATUS = {
  QUEUED: 'IN_QUEUE',
  PROCESSING: 'IN_PROGRESS',
  COMPLETED: 'COMPLETED',
  FAILED: 'COMPLETED',
  CANCELLED: 'COMPLETED',
} as const satisfies Record<State, string>;

/** Files that stand in a result are held in memory, here and by the client; more than this is told by addresses in spite of `sync_mode`. */
const INLINE_BYTES_MAX = 20 * 1024 * 1024;

/** What every answer about one job carries: for the vendor's clients, the only place in which a result names its request. */
export function jobAnswer(job: Pick<Job, 'id'>, status: number, value: unknown): Answer {
  return { status, headers: { 'x-fal-request-id': job.id }, body: { kind: 'json', value } };
}

/** Clients rebuild these from the model's id, without its sub path, and so they are told (section 1). */
function jobUrls({ id, model }: Job, baseUrl: string) {
  const app = model
    .split('/')
    .slice(0, /^(workflows|comfy)\//.test(model) ? 3 : 2)
    .join('/');
  const url = `${baseUrl}/fal/queue/${app}/requests/${id}`;
  return { response_url: url, status_url: `${url}/status`, cancel_url: `${url}/cancel` };
}

export function claimCheck(job: Job, baseUrl: string) {
  return { status: STATUS.QUEUED, request_id: job.id, queue_position: job.queuePosition ?? 0, ...jobUrls(job, baseUrl) };
}

/** `logs` are null unless asked for; the vendor's Python client wants the member there all the same. */
export function statusBody(job: Job, baseUrl: string, logs: readonly LogLine[] | undefined) {
  const common = { status: STATUS[job.state], request_id: job.id, ...jobUrls(job, baseUrl) };
  if (job.state === 'QUEUED') return { ...common, queue_position: job.queuePosition ?? 0 };
  const told = { ...common, logs: logs?.map(logEntry) ?? null };
  if (!isTerminal(job.state)) return told;
  const ended = { ...told, metrics: { inference_time: secondsOf(job) } };
  if (job.state === 'COMPLETED') return ended;
  const { message, type } = failedAs(job);
  return { ...ended, error: message, error_type: type };
}

function logEntry({ text, at }: LogLine) {
  return { message: text, timestamp: at.toISOString(), level: 'INFO', source: 'USER' };
}

/** Of the newest attempt; 0 for a job that never started. */
function secondsOf({ attemptStartedAt, finishedAt }: Job): number {
  return attemptStartedAt && finishedAt ? Math.max(0, finishedAt.getTime() - attemptStartedAt.getTime()) / 1000 : 0;
}

/** 202 until it has ended (section 2). */
export function statusAnswer(job: Job, baseUrl: string, isLogged: boolean): Answer {
  return jobAnswer(job, isTerminal(job.state) ? 200 : 202, statusBody(job, baseUrl, isLogged ? (job.logs ?? []) : undefined));
}

/** The result of a job that has ended, the model's own answer with its status. */
export function resultAnswer(job: Job, baseUrl: string): Answer {
  return job.state === 'COMPLETED' ? jobAnswer(job, 200, outputBody(job, baseUrl, inlineFile)) : failedAs(job).answer;
}

/** A client's adapter tells this 400 from others by these words, since the vendor marks it in no other way. */
export function unfinishedAnswer(job: Job): Answer {
  return jobAnswer(job, 400, { detail: 'Request is still in progress', error_type: 'bad_request' });
}

/** How a file is told in a place where it may stand as its bytes; undefined for one that is elsewhere. */
type Inline = (media: Media) => InlineFile | undefined;

function inlineFile({ location }: Media): InlineFile | undefined {
  return 'asset' in location ? new InlineFile(location.asset, 'data URI') : undefined;
}

/** What a job produced. Without `inline` files are told by their addresses, whatever the client wanted. */
export function outputBody(job: Job, baseUrl: string, inline?: Inline): object {
  const output = job.output ?? { media: [] };
  const { media, text, json, seed, timings } = output;
  if (media.length === 0 && isJsonObject(json)) return json;
  const input = readInput(job);
  const isInline = inline !== undefined && input.sync_mode === true && sizeOf(media) <= INLINE_BYTES_MAX;
  const said = text ?? json;
  return {
    ...fileMembers(output, (file) => fileBody(file, (isInline ? inline(file) : undefined) ?? mediaUrl(file, baseUrl))),
    ...(said !== undefined && { output: said }),
    ...(seed !== undefined && { seed }),
    ...(media.length > 0 && typeof input.prompt === 'string' && { prompt: input.prompt }),
    ...((timings || media.length > 0) && { timings: timings ?? {} }),
    ...usageMembers(output),
  };
}

function readInput({ input }: Job): JsonObject {
  const value = fromJsonText(input);
  return isJsonObject(value) ? value : {};
}

/** A size that nobody knows may be any. */
function sizeOf(media: readonly Media[]): number {
  return media.reduce((sum, { bytes = Number.POSITIVE_INFINITY }) => sum + bytes, 0);
}

/** Pictures are a list, of videos and sounds the vendor's models make one (section 9); what else there is was paid for too. */
function fileMembers({ media, nsfw }: Output, body: (file: Media) => object) {
  const isOf = (kind: string) => (file: Media) => file.contentType.toLowerCase().startsWith(`${kind}/`);
  const images = media.filter(isOf('image'));
  const video = media.find(isOf('video'));
  const audio = media.find(isOf('audio'));
  const files = media.filter((file) => !images.includes(file) && file !== video && file !== audio);
  return {
    // The flags are always there with the vendor. A provider that tells nothing of them has flagged nothing.
    ...(images.length > 0 && {
      images: images.map(body),
      has_nsfw_concepts: images.map((file) => nsfw?.[media.indexOf(file)] ?? false),
    }),
    ...(video && { video: body(video) }),
    ...(audio && { audio: body(audio) }),
    ...(files.length > 0 && { files: files.map(body) }),
  };
}

function fileBody({ contentType, fileName, bytes, width, height }: Media, url: string | InlineFile) {
  return {
    url,
    content_type: contentType,
    file_name: fileName,
    ...(bytes !== undefined && { file_size: bytes }),
    ...(width !== undefined && { width }),
    ...(height !== undefined && { height }),
  };
}

function usageMembers({ usage }: Output) {
  const { inputTokens, outputTokens } = usage ?? {};
  if (inputTokens === undefined && outputTokens === undefined) return {};
  return { usage: { prompt_tokens: inputTokens ?? 0, completion_tokens: outputTokens ?? 0 } };
}

/**
 * The status now and whenever it changes, up to the end; with `isLogged` also whenever something was printed, each line once, because clients
 * put them together. What happened before is told as one status with all lines until then.
 */
export async function* statusEvents({ job, events, read }: Followed, baseUrl: string, isLogged: boolean): AsyncGenerator<ServerSentEvent> {
  let lines: LogLine[] = [];
  for await (const event of events) {
    const { data, at, sequence, state, type } = event;
    if (isLogged && type === 'log') lines.push(...textsIn(data?.lines).map((text) => ({ text, at })));
    const isNews = sequence === job.sequence || type === 'status' || lines.length > 0;
    if (sequence < job.sequence || !isNews) continue;
    // Where it stands in the queue and how it ended are not in the event.
    const now = await read();
    if (!now) return;
    const known: Job = isTerminal(state) || state === now.state ? now : { ...now, state };
    yield { data: statusBody(known, baseUrl, isLogged ? lines : undefined) };
    if (known.state !== 'QUEUED') lines = [];
  }
}

/** What a language model has written so far, whenever there is more of it, and at last the result, or the error that there is instead. */
export async function* resultEvents({ events, read }: Followed, baseUrl: string): AsyncGenerator<ServerSentEvent> {
  let text = '';
  for await (const { data, state, type } of events) {
    if (isTerminal(state)) {
      const job = await read();
      if (job) yield { data: job.state === 'COMPLETED' ? outputBody(job, baseUrl, inlineFile) : failedAs(job).payload };
    } else if (type === 'partial' && typeof data?.text === 'string') {
      text += data.text;
      yield { data: { output: text, partial: true } };
      // Another attempt begins anew.
    } else if (type === 'status') text = '';
  }
}

function textsIn(lines: unknown): string[] {
  return Array.isArray(lines) ? lines.filter((line) => typeof line === 'string') : [];
}

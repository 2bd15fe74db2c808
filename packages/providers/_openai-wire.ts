/**
 * What OpenAI and the gateways that speak like it have in common: pictures and words come in the answer, videos are made by jobs, and errors
 * have one shape. "Sheet" below is protocols/openai.md.
 */
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Media,
  type Output,
  RetryableError,
  type Run,
  type Step,
  TerminalError,
  type Usage,
} from '@claimcheck/core';
import { type CallAnswer, call, jsonOf, objectOf, retryAfterOf } from './_call.ts';
import { openChatStream } from './_chat-stream.ts';
import { factsOf, secondsIn } from './_facts.ts';
import { type Handle, readHandle } from './_handle.ts';
import { tryLook } from './_look.ts';
import { linkedMedia, storeBytes, storeInline } from './_media.ts';
import { sentenceOf } from './_sentence.ts';

export interface Vendor {
  readonly baseUrl: string;
  readonly key: string;
  /** Codes of errors that mean: this content is not made. */
  readonly refusalCodes: ReadonlySet<string>;
  /** Codes of errors that are not the input's, whatever their status says. */
  readonly failureCodes: ReadonlySet<string>;
  /** True where words can be had while they are written, and the answer tells the same in the end. */
  readonly writesAlong: boolean;
  /** What an answer with a result tells of its cost. */
  usageIn(answer: JsonObject): Usage;
}

/** What is made while the caller waits may take minutes; undici itself gives up after five. */
const HELD_TIMEOUT_MS = 290_000;
/** Ten pictures of a few megabytes each, in base64. */
const PICTURE_BYTES_MAX = 60_000_000;
/** Codes of an account that cannot pay, whose statuses are 429 for the first and 400 for the others: neither later nor another input would help. */
const UNPAID_CODES: ReadonlySet<string> = new Set(['insufficient_quota', 'billing_hard_limit_reached', 'billing_not_active']);

export type Kind = 'picture' | 'video' | 'chat';

/**
 * What a run asks for. The id of a model says nothing of its kind, so routes write `video:` or `chat:` in front of it; all others make
 * pictures.
 */
export function readModel(run: Run): { readonly kind: Kind; readonly model: string } {
  const [, kind, model] = /^(video|chat):(.*)$/s.exec(run.model) ?? [];
  return model === undefined ? { kind: 'picture', model: run.model } : { kind: kind === 'video' ? 'video' : 'chat', model };
}

/** What needs no job: the run is over with the answer. Undefined for a video. */
export async function makeAtOnce(vendor: Vendor, run: Run): Promise<Output | undefined> {
  const { kind, model } = readModel(run);
  if (kind === 'video') return undefined;
  return kind === 'picture' ? makePictures(vendor, run, model) : chat(vendor, run, model);
}

export interface Request {
  /** Follows the base URL. */
  readonly path: string;
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly json?: JsonValue;
  readonly timeoutMs?: number;
  readonly bytesMax?: number;
  readonly accept?: string;
  readonly onPart?: (bytes: Uint8Array) => void;
}

/** One call with the key; what carries a body starts a run. */
export function request(
  { key, baseUrl }: Vendor,
  { signal, clock }: Pick<Run, 'signal' | 'clock'>,
  { path, json, accept, ...rest }: Request,
): Promise<CallAnswer> {
  const headers = { authorization: `Bearer ${key}`, ...(accept !== undefined && { accept }) };
  return call({ url: `${baseUrl}${path}`, headers, ...(json !== undefined && { json, startsRun: true }), signal, clock, ...rest });
}

/** Makes pictures (sheet, section 3). There is nothing that could be asked for later, so the run is over with the answer. */
async function makePictures(vendor: Vendor, run: Run, model: string): Promise<Output> {
  // An answer in pieces (`stream`) could not be read, and would have been paid for.
  const { stream: _stream, partial_images: _partial, ...parameters } = run.parameters;
  const answer = await request(vendor, run, {
    path: '/images/generations',
    method: 'POST',
    json: { ...parameters, model },
    timeoutMs: HELD_TIMEOUT_MS,
    bytesMax: PICTURE_BYTES_MAX,
  });
  const json = resultIn(vendor, readAnswer(vendor, answer));
  const [width, height] = sizeIn(json.size);
  const hints = { contentType: typeNamed(json.output_format), width, height };
  const media: Media[] = [];
  for (const item of Array.isArray(json.data) ? json.data : []) {
    const found = isJsonObject(item) ? await readPicture(run, item, hints) : undefined;
    if (found) media.push(found);
  }
  // It is done and paid for, so another try would only pay again.
  if (media.length === 0) throw new TerminalError('The provider answered without a picture.');
  return { media, ...factsOf({}, vendor.usageIn(json)) };
}

/** Words are told of so often, in milliseconds, while they are written. */
const TELL_WORDS_MS = 250;

/** Has a language model answer (protocols/lumenfall.md, section 2). Like pictures, it is over with the answer. */
async function chat(vendor: Vendor, run: Run, model: string): Promise<Output> {
  const { stream: _stream, stream_options: _options, ...parameters } = run.parameters;
  const completion = resultIn(vendor, await readCompletion(vendor, run, { ...parameters, model }));
  const choices = (Array.isArray(completion.choices) ? completion.choices : []).filter(isJsonObject);
  const messages = choices.map(({ message }) => (isJsonObject(message) ? message : {}));
  const texts = messages.map(({ content }) => wordsIn(content)).filter((text) => text !== '');
  const facts = factsOf({}, vendor.usageIn(completion));
  if (texts.length > 0) return { media: [], text: texts.join('\n'), ...facts };
  const refused = messages.map(({ refusal: words }) => words).find((words) => typeof words === 'string');
  if (refused !== undefined || choices.some(({ finish_reason: reason }) => reason === 'content_filter')) {
    throw new TerminalError(wordsOf(vendor, { message: refused ?? null }, 'The provider refused the content.'), {
      code: 'content_refused',
    });
  }
  // Instead of words, such as calls of tools.
  if (messages.some(({ tool_calls: calls }) => Array.isArray(calls))) return { media: [], json: messages[0] ?? null, ...facts };
  throw new TerminalError('The provider answered without words.');
}

/** The answer of the model, whose words are told of as they are written, where it writes no more than words. */
async function readCompletion(vendor: Vendor, run: Run, json: JsonObject): Promise<JsonObject> {
  const asked = { path: '/chat/completions', method: 'POST', timeoutMs: HELD_TIMEOUT_MS } as const;
  if (vendor.writesAlong && json.tools === undefined && json.functions === undefined && (json.n ?? 1) === 1) {
    const stream = openChatStream();
    let toldAt = run.clock.now();
    const onPart = (bytes: Uint8Array): void => {
      stream.read(bytes);
      const now = run.clock.now();
      if (stream.text === '' || now - toldAt < TELL_WORDS_MS) return;
      toldAt = now;
      run.tell({ partialText: stream.text });
    };
    const streamed = { ...json, stream: true, stream_options: { include_usage: true } };
    const answer = await request(vendor, run, { ...asked, json: streamed, onPart });
    if (answer.status < 300 && /^text\/event-stream\b/i.test(answer.header('content-type') ?? '')) {
      const completion = stream.answer();
      if (completion) return completion;
      throw new RetryableError("The provider's answer broke off.", { mayHaveStarted: true });
    }
    if (!refusesToStream(answer)) return readAnswer(vendor, answer);
  }
  return readAnswer(vendor, await request(vendor, run, { ...asked, json }));
}

/** Some models, accounts and gateways answer in one piece only, and name the member that they do not take. Nothing was made then. */
function refusesToStream({ status, json }: CallAnswer): boolean {
  const { param } = isJsonObject(json) && isJsonObject(json.error) ? json.error : {};
  return status === 400 && typeof param === 'string' && /^stream(_options)?\b/.test(param);
}

/** Text, or the pieces that some models answer in. */
function wordsIn(content: JsonValue | undefined): string {
  if (typeof content === 'string') return content;
  const parts = (Array.isArray(content) ? content : []).filter(isJsonObject);
  return parts.map(({ text }) => (typeof text === 'string' ? text : '')).join('');
}

/** Gateways answer 200 with an error as well (protocols/lumenfall.md, section 11). */
function resultIn(vendor: Vendor, answer: JsonObject): JsonObject {
  const { error } = answer;
  if (isJsonObject(error) && error.message) throw refusal(vendor, error, 'The provider failed.', 'provider_error');
  return answer;
}

/**
 * The answer of a call that succeeded.
 * @throws TerminalError or RetryableError by the table of the sheet, section 8.
 */
export function readAnswer(vendor: Vendor, answer: CallAnswer): JsonObject {
  const { status } = answer;
  if (status >= 400) throwRefusal(vendor, answer);
  return objectOf(answer);
}

function throwRefusal(vendor: Vendor, answer: CallAnswer): never {
  const { status, json, startsRun } = answer;
  const error = isJsonObject(json) && isJsonObject(json.error) ? json.error : {};
  const otherwise = `The provider refused the request with status ${status}.`;
  if (isRefusal(vendor, error)) throw refusal(vendor, error, otherwise, 'provider_error');
  if (typeof error.code === 'string' && UNPAID_CODES.has(error.code)) {
    throw new TerminalError('The account at the provider has no credit left.', { isProvidersOnly: true });
  }
  const isTransient = status === 408 || status === 409 || status === 429 || status >= 500;
  // The vendor's own word against the table.
  if (isTransient && answer.header('x-should-retry') === 'false') throw refusal(vendor, error, otherwise, 'provider_error');
  if (status === 408 || status === 409) throw new RetryableError(wordsOf(vendor, error, otherwise), retryAfterOf(answer));
  // A 502 in the vendor's own words is not one of a proxy that may have handed the request on.
  if (status >= 500 && typeof error.code === 'string') {
    throw new RetryableError(`The provider failed with status ${status}.`, retryAfterOf(answer));
  }
  // What jsonOf knows, which includes an answer of 4xx that is not the vendor's.
  jsonOf(answer);
  if (status === 404 && startsRun) throw new TerminalError(wordsOf(vendor, error, otherwise), { isProvidersOnly: true });
  const isInput = (status === 400 || status === 422) && !hasCodeOf(vendor.failureCodes, error);
  throw refusal(vendor, error, otherwise, isInput ? 'invalid_input' : 'provider_error');
}

/** The error of a request that is not tried again, or of a job that failed. */
export function refusal(vendor: Vendor, error: JsonObject, otherwise: string, code: 'invalid_input' | 'provider_error'): TerminalError {
  return new TerminalError(wordsOf(vendor, error, otherwise), { code: isRefusal(vendor, error) ? 'content_refused' : code });
}

/** `video` is how the vendor answers about a job (sheet, section 6). Undefined while it is not at its end. */
export function completedVideo(vendor: Vendor, video: JsonObject): JsonObject | undefined {
  const { status, error } = video;
  if (status === 'completed') return video;
  if (status === 'queued' || status === 'in_progress') return undefined;
  if (status === 'failed') throw refusal(vendor, isJsonObject(error) ? error : {}, 'The video failed at the provider.', 'provider_error');
  if (status === 'cancelled') throw new TerminalError('The provider cancelled the video.');
  throw new RetryableError('The provider told a status that it does not document.');
}

/** The output of a video that is done; it is charged by its length, which the vendor tells as text (sheet, section 6). */
export function videoOutput(vendor: Vendor, video: JsonObject, media: Media): Output {
  return { media: [media], ...factsOf({}, { ...vendor.usageIn(video), ...secondsIn(video.seconds) }) };
}

/**
 * Where a job stands, by `look`. A look that fails is made again: the job goes on, and a RetryableError would start, and pay for, another one.
 */
export async function checkVideo(saved: JsonValue, look: (handle: Handle) => Promise<Step>): Promise<Step> {
  const handle = readHandle(saved);
  const looked = await tryLook(() => look(handle));
  return looked.kind === 'seen' ? looked.seen : { kind: 'running', handle: saved, checkAfterMs: looked.checkAfterMs };
}

/** Whole percents (sheet, section 6), as a fraction. */
export function progressOf({ progress }: JsonObject): { readonly progress?: number } {
  return typeof progress === 'number' && progress >= 0 ? { progress: Math.min(progress, 100) / 100 } : {};
}

/** Asks the vendor to drop a job. Not finding it is as good; only a call that reached nobody throws. */
export async function deleteVideo(vendor: Vendor, run: Run, handle: JsonValue): Promise<void> {
  const answer = await request(vendor, run, { path: `/videos/${readHandle(handle).id}`, method: 'DELETE' });
  if (answer.status >= 500 || answer.status === 401 || answer.status === 403 || answer.status === 429) jsonOf(answer);
}

async function readPicture(
  run: Run,
  { url, b64_json: base64 }: JsonObject,
  hints: NonNullable<Parameters<typeof linkedMedia>[1]>,
): Promise<Media | undefined> {
  if (typeof base64 === 'string' && base64 !== '') {
    // Compatible servers call the format what they like; only text has no first bytes to tell it by.
    const told = hints.contentType === 'image/svg+xml' ? hints.contentType : undefined;
    return (await storeInline(run, base64)) ?? storeBytes(run, Buffer.from(base64, 'base64'), told);
  }
  return typeof url === 'string' ? (linkedMedia(url, hints) ?? (await storeInline(run, url))) : undefined;
}

/** Of `1024x1536`. */
function sizeIn(size: JsonValue | undefined): readonly [width?: number, height?: number] {
  const [, width, height] = (typeof size === 'string' && /^(\d{1,5})x(\d{1,5})$/.exec(size)) || [];
  return width && height ? [Number(width), Number(height)] : [];
}

/** Of `output_format` (sheet, section 3). */
function typeNamed(format: JsonValue | undefined): string | undefined {
  if (format === 'svg') return 'image/svg+xml';
  if (format === 'jpg') return 'image/jpeg';
  return typeof format === 'string' && /^(png|jpeg|webp|gif|avif)$/.test(format) ? `image/${format}` : undefined;
}

function isRefusal({ refusalCodes }: Vendor, error: JsonObject): boolean {
  return hasCodeOf(refusalCodes, error);
}

/** Gateways that serve the clients of both write Lumenfall's code beside OpenAI's (protocols/lumenfall.md, section 11). */
function hasCodeOf(codes: ReadonlySet<string>, { code, error_code: other }: JsonObject): boolean {
  return [code, other].some((known) => typeof known === 'string' && codes.has(known));
}

function wordsOf({ key }: Vendor, { message }: JsonObject, otherwise: string): string {
  return sentenceOf(message, otherwise, key);
}

/**
 * The provider that needs no key: it draws the prompt as a picture, films that picture where a model makes videos, and says the prompt back
 * where a model writes. Marks in the prompt make it slow, fail, or never end, so that a client can try every outcome without paying for one.
 * While it runs it prints lines, and a text comes word by word, so that clients that follow have something to show.
 * It is always on; whether a model may use it is the caller's decision.
 * A run is only a start time: what it does is read from the parameters again at every call, so any process can carry it on.
 */
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  type Media,
  type Output,
  type ProducedFile,
  type Provider,
  RetryableError,
  type Run,
  type Step,
  TerminalError,
} from '@claimcheck/core';
import { z } from 'zod';
import { createGate } from './_gate.ts';
import { sandboxLog } from './_sandbox-log.ts';
import { type Marked, readMarks } from './_sandbox-marks.ts';
import { readCount, readPicture, readPrompt, readSeconds, readSeed } from './_sandbox-parameters.ts';
import { drawPicture, type Picture } from './_sandbox-picture.ts';
import { playTone } from './_sandbox-sound.ts';
import { filmStill } from './_sandbox-video.ts';

/** Long enough that a client sees PROCESSING and one progress, short enough for a first try to feel instant. */
const DURATION_MS_DEFAULT = 200;
/** How often a run that hangs is looked at. */
const HANG_CHECK_MS = 1000;
/** Bounds of the wait between two looks, which is a tenth of the run: so progress shows, and an hour is not polled ten times a second. */
const CHECK_MS_MIN = 100;
const CHECK_MS_MAX = 2000;

/**
 * Pictures drawn at a time, over all runs of the process. Drawing holds tens of megabytes, and one of the four threads that Node has for
 * all of DNS, files and cryptography; one must stay free, or a burst of finished runs would stop the whole worker.
 */
const drawing = createGate(3);

const FILES: Readonly<Record<Picture['format'], Pick<ProducedFile, 'contentType' | 'fileName'>>> = {
  png: { contentType: 'image/png', fileName: 'image.png' },
  jpeg: { contentType: 'image/jpeg', fileName: 'image.jpg' },
  webp: { contentType: 'image/webp', fileName: 'image.webp' },
  avif: { contentType: 'image/avif', fileName: 'image.avif' },
  gif: { contentType: 'image/gif', fileName: 'image.gif' },
};

const sandbox: Provider = {
  name: 'sandbox',
  settings: z.object({}),
  open: () => ({
    start: async (run) => running(run, readMarks(readPrompt(run.parameters)), run.clock.now(), 0),
    check,
    // No `cancel`: between two calls there is nothing that could be stopped.
  }),
};
export default sandbox;

async function check(run: Run, handle: JsonValue): Promise<Step> {
  run.signal.throwIfAborted();
  const marked = readMarks(readPrompt(run.parameters));
  const startedAt = readHandle(handle);
  // The run may have been started by a machine whose clock is ahead.
  const elapsedMs = Math.max(0, run.clock.now() - startedAt);
  if (marked.hangs || elapsedMs < durationOf(marked)) return running(run, marked, startedAt, elapsedMs);
  throwMarkedError(marked, run.attempt);
  return { kind: 'finished', output: await produce(run, marked.text), logs: sandboxLog(run, 1) };
}

function running(run: Run, marked: Marked, startedAt: number, elapsedMs: number): Step {
  const handle = { startedAt };
  if (marked.hangs) return { kind: 'running', handle, progress: 0, logs: sandboxLog(run, 0), checkAfterMs: HANG_CHECK_MS };
  const durationMs = durationOf(marked);
  const pauseMs = Math.min(CHECK_MS_MAX, Math.max(CHECK_MS_MIN, Math.round(durationMs / 10)));
  // Whole percents, rounded down: 1 is for the end.
  const progress = durationMs === 0 ? 0 : Math.floor((100 * elapsedMs) / durationMs) / 100;
  return {
    kind: 'running',
    handle,
    progress,
    logs: sandboxLog(run, progress),
    ...(run.produces === 'text' && { partialText: beginningOf(marked.text, progress) }),
    checkAfterMs: Math.min(pauseMs, durationMs - elapsedMs),
  };
}

function durationOf(marked: Marked): number {
  return marked.durationMs ?? DURATION_MS_DEFAULT;
}

/** Flaky comes first: a prompt that is flaky and fails shows its retries, then its failure. */
function throwMarkedError({ flakyAttempts, failure, refused }: Marked, attempt: number): void {
  if (attempt <= flakyAttempts) {
    throw new RetryableError(`The sandbox failed attempt ${attempt} of the ${flakyAttempts} that the prompt asked to fail.`);
  }
  if (failure !== undefined) throw new TerminalError(failure);
  if (refused)
    throw new TerminalError('The sandbox refused this prompt because it is marked as unsafe content.', { code: 'content_refused' });
}

/** As much of a text as a writer has of it by then, in whole words. */
function beginningOf(text: string, fraction: number): string {
  const words = text.split(/(?<=\s)/u);
  return words.slice(0, Math.floor(fraction * words.length)).join('');
}

async function produce(run: Run, text: string): Promise<Output> {
  const { produces, parameters } = run;
  const seed = readSeed(parameters);
  if (produces === 'text') return { media: [], text };
  if (produces === 'json') return { media: [], json: { prompt: text, seed }, seed };
  const media: Media[] = [];
  for (let index = 0; index < readCount(parameters); index += 1) {
    // Storing counts as drawing, so that finished pictures cannot pile up in memory before a slow store.
    media.push(await drawing.run(run.signal, async () => run.storeFile(await makeFile(produces, parameters, text, seed + index))));
  }
  return { media, seed };
}

async function makeFile(kind: 'image' | 'video' | 'audio', parameters: JsonObject, text: string, seed: number): Promise<ProducedFile> {
  if (kind === 'audio') return { bytes: playTone(seed, readSeconds(parameters)), contentType: 'audio/wav', fileName: 'sound.wav' };
  const picture: Picture = { ...readPicture(parameters), text, seed };
  const { width, height, format } = picture;
  if (kind === 'image') return { bytes: await drawPicture(picture), width, height, ...FILES[format] };
  const webp = await drawPicture({ ...picture, format: 'webp' });
  const bytes = filmStill({ webp, width, height, seconds: readSeconds(parameters) });
  return { bytes, width, height, contentType: 'video/webm', fileName: 'video.webm' };
}

function readHandle(handle: JsonValue): number {
  const startedAt = isJsonObject(handle) ? handle.startedAt : undefined;
  if (typeof startedAt !== 'number')
    throw new TerminalError('The sandbox was asked about a run that it did not start.', { code: 'internal' });
  return startedAt;
}

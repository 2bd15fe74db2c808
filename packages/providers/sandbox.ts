/**
 * The provider that needs no key: it draws the prompt as a picture, and marks in the prompt make it slow, fail, or never end,
 * so that a client can try every outcome without paying for one. It is always on; whether a model may use it is the caller's decision.
 * A run is only a start time: what it does is read from the parameters again at every call, so any process can carry it on.
 */
import {
  isJsonObject,
  type JsonValue,
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
import { type Marked, readMarks } from './_sandbox-marks.ts';
import { readPicture, readPrompt } from './_sandbox-parameters.ts';
import { drawPicture, type Picture } from './_sandbox-picture.ts';

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
};

const sandbox: Provider = {
  name: 'sandbox',
  settings: z.object({}),
  open: () => ({
    start: async (run) => running(readMarks(readPrompt(run.parameters)), run.clock.now(), 0),
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
  if (marked.hangs || elapsedMs < durationOf(marked)) return running(marked, startedAt, elapsedMs);
  throwMarkedError(marked, run.attempt);
  return { kind: 'finished', output: await produce(run, marked.text) };
}

function running(marked: Marked, startedAt: number, elapsedMs: number): Step {
  const handle = { startedAt };
  if (marked.hangs) return { kind: 'running', handle, progress: 0, checkAfterMs: HANG_CHECK_MS };
  const durationMs = durationOf(marked);
  const pauseMs = Math.min(CHECK_MS_MAX, Math.max(CHECK_MS_MIN, Math.round(durationMs / 10)));
  return {
    kind: 'running',
    handle,
    // Whole percents, rounded down: 1 is for the end.
    progress: durationMs === 0 ? 0 : Math.floor((100 * elapsedMs) / durationMs) / 100,
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

async function produce(run: Run, text: string): Promise<Output> {
  const picture: Picture = { ...readPicture(run.parameters), text };
  const { width, height, seed, format } = picture;
  // Storing counts as drawing, so that finished pictures cannot pile up in memory before a slow store.
  const media = await drawing.run(run.signal, async () =>
    run.storeFile({ bytes: await drawPicture(picture), width, height, ...FILES[format] }),
  );
  return { media: [media], seed };
}

function readHandle(handle: JsonValue): number {
  const startedAt = isJsonObject(handle) ? handle.startedAt : undefined;
  if (typeof startedAt !== 'number')
    throw new TerminalError('The sandbox was asked about a run that it did not start.', { code: 'internal' });
  return startedAt;
}

/**
 * Fetches a medium of a run from the upstream's link, with the patience that something paid for deserves: what may be a moment's trouble is
 * tried again, a few times and for a few minutes in all.
 */
import type { Clock } from '@claimcheck/core';
import { type Download, type Downloader, OutboundError, TooLargeError } from './outbound/index.ts';
import { makeTurns, type Turns } from './turns.ts';

/** What a file turned out to be is not what it was said to be. */
export class WrongContentError extends Error {
  override readonly name = 'WrongContentError';
}

/**
 * `gone`: the link leads to nothing any more. `wrong`: it leads to something else. `blocked`: it leads where nothing may be fetched from.
 * `too_large`: to more bytes than are kept. `unreachable`: no whole file came. `unstored`: it came, and could not be kept.
 */
export type FetchFailure = 'gone' | 'wrong' | 'blocked' | 'too_large' | 'unreachable' | 'unstored';

export type Fetched<Result> =
  | { readonly kind: 'fetched'; readonly result: Result }
  | { readonly kind: FetchFailure; readonly error: unknown; readonly tries: number };

/** `take` reads the body of an answer with a file, and may be called once per try. Rejects with the signal's reason only. */
export type FetchMedia = <Result>(
  url: string,
  take: (download: Download) => Promise<Result>,
  signal: AbortSignal,
) => Promise<Fetched<Result>>;

export interface FetchMediaDeps {
  readonly downloader: Downloader;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Largest file that is fetched. */
  readonly bytesMax: number;
}

/** Files from one host at once. Hosts do not wait for each other, so that a slow one keeps nobody up but itself. */
const PER_HOST = 16;
/** For all tries of a file together, waits included. */
const TOTAL_MS = 600_000;
const IDLE_MS = 30_000;
/** Before the second, third and fourth try; up to a fifth shorter or longer. */
const WAITS_MS = [1_000, 4_000, 15_000] as const;
/** The longest that an upstream can make us wait between two tries. */
const RETRY_AFTER_MS_MAX = 60_000;

/** A try that failed, and what that means unless another goes better. */
class TryError extends Error {
  readonly kind: FetchFailure;
  readonly isFinal: boolean;
  readonly retryAfterMs: number | undefined;
  constructor(
    kind: FetchFailure,
    cause: unknown,
    details: { readonly isFinal?: boolean; readonly retryAfterMs?: number | undefined } = {},
  ) {
    super(kind, { cause });
    this.kind = kind;
    this.isFinal = details.isFinal ?? false;
    this.retryAfterMs = details.retryAfterMs;
  }
}

export function makeFetchMedia({ downloader, clock, random, bytesMax }: FetchMediaDeps): FetchMedia {
  const hosts = new Map<string, Turns>();

  /** @throws TryError, or the signal's reason. */
  async function tryOnce<Result>(
    url: string,
    take: (download: Download) => Promise<Result>,
    totalMs: number,
    signal: AbortSignal,
  ): Promise<Result> {
    let broken: unknown;
    let isWhole = false;
    async function* noting(chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
      try {
        yield* chunks;
        isWhole = true;
      } catch (error) {
        broken = error;
        throw error;
      }
    }
    try {
      using download = await downloader.download({ url, totalMs, idleMs: IDLE_MS, bytesMax, signal });
      checkAnswer(download);
      const result = await take({ ...download, body: noting(download.body) });
      // A part that passes for the whole would be worse than nothing.
      if (!isWhole) throw new Error('the file was not read to its end');
      return result;
    } catch (error) {
      signal.throwIfAborted();
      // Whoever reads the body may have wrapped its error.
      throw toTryError(broken ?? error);
    }
  }

  async function tryOften<Result>(
    url: string,
    take: (download: Download) => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Fetched<Result>> {
    const until = clock.now() + TOTAL_MS;
    for (let tries = 1; ; tries++) {
      try {
        return { kind: 'fetched', result: await tryOnce(url, take, until - clock.now(), signal) };
      } catch (error) {
        if (!(error instanceof TryError)) throw error;
        const waitMs = waitBefore(tries, error);
        if (waitMs === undefined || clock.now() + waitMs >= until) return { kind: error.kind, error: error.cause, tries };
        await clock.sleep(waitMs, signal);
      }
    }
  }

  /** Until the next try; undefined when there shall be none. */
  function waitBefore(tries: number, { isFinal, retryAfterMs = 0 }: TryError): number | undefined {
    const usual = WAITS_MS[tries - 1];
    return isFinal || usual === undefined ? undefined : Math.max(retryAfterMs, usual * (0.8 + 0.4 * random()));
  }

  return async (url, take, signal) => {
    const host = URL.parse(url)?.host ?? '';
    const turns = hosts.get(host) ?? makeTurns(PER_HOST);
    hosts.set(host, turns);
    try {
      return await turns.take(() => tryOften(url, take, signal), signal);
    } finally {
      if (turns.isIdle) hosts.delete(host);
    }
  };
}

/** @throws TryError unless the answer has a file. */
function checkAnswer({ status, headers }: Download): void {
  const error = new Error(`the upstream answered ${status}`);
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    throw new TryError('unreachable', error, { retryAfterMs: retryAfterMs(headers['retry-after']) });
  }
  // A file may appear a moment later than the answer that names it; one that may not be had now may never be had.
  if (status >= 400) throw new TryError('gone', error, { isFinal: status !== 404 });
  if (status !== 200 && status !== 203) throw new TryError('unreachable', error);
  const encoding = headers['content-encoding'] ?? 'identity';
  // It was told not to pack, so this is how the file is stored there. What was unpacked would have no limit that was announced.
  if (encoding !== 'identity') throw new TryError('unreachable', new Error(`the file is packed as ${encoding}`), { isFinal: true });
}

function toTryError(error: unknown): TryError {
  if (error instanceof TryError) return error;
  if (error instanceof TooLargeError) return new TryError('too_large', error, { isFinal: true });
  if (error instanceof WrongContentError) return new TryError('wrong', error);
  if (!(error instanceof OutboundError)) return new TryError('unstored', error);
  return error.code === 'blocked_address' ? new TryError('blocked', error, { isFinal: true }) : new TryError('unreachable', error);
}

/** In seconds; a date would trust another machine's clock. */
function retryAfterMs(header: string | undefined): number | undefined {
  return /^\d{1,6}$/.test(header ?? '') ? Math.min(Number(header) * 1_000, RETRY_AFTER_MS_MAX) : undefined;
}

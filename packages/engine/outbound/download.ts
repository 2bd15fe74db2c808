/**
 * Downloads from URLs of strangers. As with calls, every connection is guarded, nothing is unpacked, and everything has a limit; unlike them,
 * redirects are followed, each guarded as the first URL was, and the body is a stream that waits for its reader.
 */
import { Readable } from 'node:stream';
import type { Clock } from '@claimcheck/core';
import type { Dispatcher } from 'undici';
import { codeOf } from './call.ts';
import { type Guard, refusedUrl } from './guard.ts';
import { OutboundError } from './outbound-error.ts';
import { openPool } from './pool.ts';

export interface DownloaderOptions {
  readonly guard: Guard;
  readonly clock: Clock;
  /** Connections to one origin at the same time; further downloads wait for one, within their time. Default 16. */
  readonly connectionsPerOrigin?: number;
  /** Limit of looking up a name, in milliseconds. Default 5,000. */
  readonly dnsMsMax?: number;
  /** Limit of connecting and agreeing on encryption together, in milliseconds. Default 10,000. */
  readonly connectMsMax?: number;
  /** Certificate authorities in PEM that are trusted instead of the known ones. */
  readonly ca?: string;
}

export interface DownloadRequest {
  readonly url: string;
  /** Limit from the start to the last byte, redirects included, in milliseconds. */
  readonly totalMs: number;
  /**
   * Limit of silence, in milliseconds: for how long nothing may come while something is waited for. A reader that takes its time does not
   * count. Noticed after twice as long at most.
   */
  readonly idleMs: number;
  /** Limit of the body, in bytes: announced or sent. */
  readonly bytesMax: number;
  /** Redirects that are followed; 3 unless given. */
  readonly redirectsMax?: number;
  /** Ends the download with its reason. */
  readonly signal: AbortSignal;
}

export interface Download extends Disposable {
  /** 200 to 599, without redirects. */
  readonly status: number;
  /** By name in lower case. Repeated headers are joined with commas. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Once. Fails with an {@link OutboundError} when the connection breaks before the end, or a limit of time is reached, with a
   * {@link TooLargeError}, or with the signal's reason.
   */
  readonly body: AsyncIterable<Uint8Array>;
  /** Breaks the connection unless the body was read to its end. */
  [Symbol.dispose](): void;
}

export interface Downloader {
  /**
   * Resolves with the head of the answer, whatever its status; its body must be read, or the answer disposed of.
   * @throws OutboundError when there is none, TooLargeError when it announces too much, and the signal's reason when that aborts first.
   */
  download(request: DownloadRequest): Promise<Download>;
  /** Breaks all connections. May be called twice. */
  close(): Promise<void>;
}

/** The body is larger than was asked for. */
export class TooLargeError extends Error {
  override readonly name = 'TooLargeError';
}

const HEADER_BYTES_MAX = 16_384;
/** What is read ahead of the reader. */
const BUFFER_BYTES = 256 * 1024;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export function openDownloader(options: DownloaderOptions): Downloader {
  const { guard, clock, connectionsPerOrigin = 16, dnsMsMax = 5_000, connectMsMax = 10_000, ca } = options;
  const pool = openPool({ guard, clock, connectionsPerOrigin, dnsMsMax, connectMsMax, headerBytesMax: HEADER_BYTES_MAX, ca });

  /** One request of a download. Resolves with the URL that a redirect points to, else with the answer. Limits end it through their signal. */
  function fetchOnce(url: string, limits: Limits, bytesMax: number): Promise<Download | string> {
    limits.signal.throwIfAborted();
    const problem = guard.problemWith(url);
    if (problem) throw refusedUrl(problem.message);
    const { promise, resolve, reject } = Promise.withResolvers<Download | string>();
    const over = new AbortController();
    let controller: Dispatcher.DispatchController | undefined;
    let status: number | undefined;
    let isRedirect = false;
    let bytes = 0;

    const body = new Readable({
      highWaterMark: BUFFER_BYTES,
      read() {
        limits.isReaderWaiting = true;
        controller?.resume();
      },
      destroy(error, done) {
        over.abort();
        if (!isRedirect) limits.end();
        controller?.abort(error ?? new Error('the rest is not wanted'));
        done(error);
      },
    });
    // Its reader gets the error. Until there is a reader, nobody would listen, which would end the process.
    body.on('error', reject);
    limits.signal.addEventListener('abort', () => body.destroy(limits.signal.reason), { signal: over.signal });

    const { origin, pathname, search } = new URL(url);
    pool.dispatch(
      { origin, path: `${pathname}${search}`, method: 'GET', headers: { accept: '*/*', 'accept-encoding': 'identity' } },
      {
        onRequestStart(started) {
          controller = started;
          // It was ended while it waited for its connection.
          if (body.destroyed) started.abort(new Error('the download is over'));
        },
        onResponseStart(_controller, received, headers) {
          // Answers below 200 only announce the answer.
          if (received < 200) return;
          status = received;
          limits.heard += 1;
          const announced = Number(headers['content-length'] ?? 0);
          if (REDIRECTS.has(status)) {
            isRedirect = true;
            const target = URL.parse(String(headers.location ?? ''), url)?.href;
            // What a redirect says besides is not worth reading, so the connection cannot be used again.
            body.destroy(target === undefined ? new OutboundError('response_invalid', { status }) : undefined);
            if (target !== undefined) resolve(target);
          } else if (status > 599) body.destroy(new OutboundError('response_invalid'));
          else if (announced > bytesMax) body.destroy(new TooLargeError(`${announced} bytes are announced, ${bytesMax} are allowed`));
          else resolve({ status, headers: texts(headers), body, [Symbol.dispose]: () => void body.destroy() });
        },
        onResponseData(current, chunk) {
          limits.heard += 1;
          bytes += chunk.length;
          if (bytes > bytesMax) body.destroy(new TooLargeError(`more than ${bytesMax} bytes were sent`));
          else if (!body.push(chunk)) {
            limits.isReaderWaiting = false;
            current.pause();
          }
        },
        onResponseEnd() {
          over.abort();
          limits.end();
          body.push(null);
        },
        onResponseError(_controller, error) {
          body.destroy(error instanceof OutboundError ? error : new OutboundError(codeOf(error, status), { status, cause: error }));
        },
      },
    );
    return promise;
  }

  return {
    async download({ redirectsMax = 3, ...request }) {
      const limits = startLimits(clock, request);
      try {
        let url = request.url;
        for (let redirects = 0; redirects <= redirectsMax; redirects++) {
          const answer = await fetchOnce(url, limits, request.bytesMax);
          if (typeof answer !== 'string') return answer;
          url = answer;
        }
        throw new OutboundError('response_invalid', { message: `There were more than ${redirectsMax} redirects.` });
      } catch (error) {
        limits.end();
        throw error;
      }
    },
    close: pool.close,
  };
}

/** What ends a download before its time, over all of its requests. */
interface Limits {
  /** Aborts with what the download is to fail with. */
  readonly signal: AbortSignal;
  /** Rises with everything that comes. */
  heard: number;
  /** False while the reader has enough to do. */
  isReaderWaiting: boolean;
  end(): void;
}

function startLimits(clock: Clock, { totalMs, idleMs, signal }: DownloadRequest): Limits {
  const over = new AbortController();
  const stop = new AbortController();
  const limits: Limits = { signal: AbortSignal.any([signal, stop.signal]), heard: 0, isReaderWaiting: true, end: () => over.abort() };
  const tooLate = () => stop.abort(new OutboundError(limits.heard === 0 ? 'headers_timeout' : 'total_timeout'));
  const watchSilence = async (): Promise<void> => {
    for (let heard = -1; heard !== limits.heard || !limits.isReaderWaiting; ) {
      heard = limits.heard;
      await clock.sleep(idleMs, over.signal);
    }
    tooLate();
  };
  // Both end with the download, which is no error.
  clock.sleep(totalMs, over.signal).then(tooLate, () => {});
  watchSilence().catch(() => {});
  return limits;
}

function texts(headers: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value ?? '')]));
}

/** Calls URLs of strangers: no redirects, nothing unpacked, one deadline, and no more read than asked for. */
import type { Clock } from '@claimcheck/core';
import { type Dispatcher, errors } from 'undici';
import type { Connection } from './connector.ts';
import { type Guard, refusedUrl } from './guard.ts';
import { type CallTimings, type OutboundCode, OutboundError } from './outbound-error.ts';
import { openPool } from './pool.ts';

export interface CallerOptions {
  readonly guard: Guard;
  readonly clock: Clock;
  /** Connections to one origin at the same time; further calls wait for one, within their deadline. Default 10. */
  readonly connectionsPerOrigin?: number;
  /** Limit of looking up a name, in milliseconds. Default 3,000. */
  readonly dnsMsMax?: number;
  /** Limit of connecting and agreeing on encryption together, in milliseconds. Default 3,000. */
  readonly connectMsMax?: number;
  /** Limit of an answer's header names and values together, in bytes. Default 16,384. */
  readonly headerBytesMax?: number;
  /** Certificate authorities in PEM that are trusted instead of the known ones. */
  readonly ca?: string;
}

export interface OutboundCall {
  readonly url: string;
  readonly method: 'GET' | 'POST';
  /** Sent as they are, besides `host`, `content-length` and `accept-encoding: identity`. What users set must have been checked. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Limit of the whole call, from its start to the last byte of the answer, in milliseconds. */
  readonly totalMs: number;
  /** Ends the call early. */
  readonly signal?: AbortSignal;
  /** Limit of what is read of the answer's body, in bytes. A longer answer is no error: it is cut, and its connection closed. */
  readonly bodyBytesMax: number;
}

export interface OutboundAnswer {
  /** 200 to 599, redirects included: they are not followed. */
  readonly status: number;
  /** By name in lower case. Repeated headers are joined with commas. */
  readonly headers: Readonly<Record<string, string>>;
  /** The first bytes of the body as UTF-8, just as they came; bytes that are no UTF-8 become replacement characters. May contain NUL. */
  readonly bodyHead: string;
  /** Whether there was more. */
  readonly isBodyCut: boolean;
  readonly timings: CallTimings;
  /** The address that answered, in canonical spelling. */
  readonly address: string;
}

export interface Caller {
  /**
   * Resolves with the answer, whatever its status.
   * @throws OutboundError when there is no complete answer, and the signal's reason when it aborts first.
   */
  call(call: OutboundCall): Promise<OutboundAnswer>;
  /** Breaks all connections: finish calls first. Calls that come later fail. May be called twice. */
  close(): Promise<void>;
}

/** What became of a request so far. */
interface Progress {
  connection?: Connection;
  isReused?: boolean;
  firstByteMs?: number;
  status?: number;
}

/** Errors after the connection was open, by the codes of Node and undici. */
const CALL_ERRORS: Readonly<Record<string, OutboundCode>> = {
  ECONNRESET: 'connection_reset',
  EPIPE: 'connection_reset',
  ETIMEDOUT: 'connection_reset',
  UND_ERR_SOCKET: 'connection_reset',
  UND_ERR_HEADERS_OVERFLOW: 'response_invalid',
  // The library's own check of a status below 100.
  ERR_ASSERTION: 'response_invalid',
  EPROTO: 'tls_error',
};

/** Opens a caller. Connections are made when needed, kept for a few seconds and shared by all its calls. */
export function openCaller(options: CallerOptions): Caller {
  const { guard, clock, connectionsPerOrigin = 10, dnsMsMax = 3_000, connectMsMax = 3_000, headerBytesMax = 16_384, ca } = options;
  const pool = openPool({ guard, clock, connectionsPerOrigin, dnsMsMax, connectMsMax, headerBytesMax, ca });
  /** Connections that have served a call. */
  const used = new WeakSet<Connection>();

  async function call(request: OutboundCall): Promise<OutboundAnswer> {
    request.signal?.throwIfAborted();
    const startedMs = performance.now();
    const elapsedMs = () => performance.now() - startedMs;
    const problem = guard.problemWith(request.url);
    if (problem) throw refusedUrl(problem.message);

    const progress: Progress = {};
    const body = collectBody(request.bodyBytesMax);
    const { promise, resolve, reject } = Promise.withResolvers<OutboundAnswer>();
    const over = new AbortController();
    let controller: Dispatcher.DispatchController | undefined;
    let headers: Readonly<Record<string, string>> = {};

    function stop(reason: Error): void {
      reject(reason);
      over.abort(reason);
      controller?.abort(reason);
    }

    function finish(): void {
      const { connection, status = 0, isReused = false, firstByteMs = elapsedMs() } = progress;
      const timings: CallTimings = { ...(!isReused && connection?.timings), firstByteMs, totalMs: elapsedMs(), isReused };
      resolve({ status, headers, bodyHead: body.text(), isBodyCut: body.isCut(), timings, address: connection?.address ?? '' });
      over.abort();
    }

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        controller = started;
        // The deadline passed while the call waited for its connection.
        if (over.signal.aborted) return started.abort(new Error('the call is over'));
        const connection = pool.connectionOf(handler);
        progress.isReused = connection !== undefined && used.has(connection);
        progress.connection = connection;
        if (connection) used.add(connection);
      },
      onResponseStarted() {
        progress.firstByteMs ??= elapsedMs();
      },
      onResponseStart(_controller, status, received) {
        // Answers below 200 only announce the answer.
        if (status < 200) return;
        if (status > 599) return stop(new OutboundError('response_invalid'));
        progress.status = status;
        headers = Object.fromEntries(Object.entries(received).map(([name, value]) => [name, String(value ?? '')]));
      },
      onResponseData(current, chunk) {
        body.add(chunk);
        if (!body.isCut()) return;
        finish();
        // The rest is not worth reading, so the connection cannot be used again.
        current.abort(new Error('enough was read'));
      },
      onResponseEnd: finish,
      onResponseError: (_controller, error) => stop(error),
    };

    clock.sleep(request.totalMs, over.signal).then(
      () => stop(new OutboundError(isUnanswered(progress) ? 'headers_timeout' : 'total_timeout')),
      () => {},
    );
    request.signal?.addEventListener('abort', () => stop(request.signal?.reason), { signal: over.signal });
    const url = new URL(request.url);
    pool.dispatch(
      {
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: request.method,
        headers: { ...request.headers, 'accept-encoding': 'identity' },
        body: request.body ?? null,
      },
      handler,
    );
    return promise.catch((error: unknown) => {
      if (request.signal?.aborted && error === request.signal.reason) throw error;
      throw describe(error, progress, elapsedMs());
    });
  }

  return { call, close: pool.close };
}

/** Whether the request was on its way and no status had come. */
function isUnanswered({ connection, status }: Progress): boolean {
  return connection !== undefined && status === undefined;
}

/** Keeps the first bytes of a body, in copies of their own: a chunk may be a small view of a large buffer. */
function collectBody(bytesMax: number) {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  let isCut = false;
  return {
    add(chunk: Uint8Array): void {
      const part = new Uint8Array(chunk.subarray(0, bytesMax - bytes));
      isCut ||= part.length < chunk.length;
      bytes += part.length;
      if (part.length > 0) parts.push(part);
    },
    isCut: () => isCut,
    // A character that the cut went through is left out.
    text: () => new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts), { stream: isCut }),
  };
}

/** The error for the caller's caller: a stable code, and all that is known of the call. */
function describe(error: unknown, progress: Progress, totalMs: number): OutboundError {
  const { connection, status, isReused, firstByteMs } = progress;
  const known = error instanceof OutboundError ? error : undefined;
  return new OutboundError(known?.code ?? codeOf(error, status), {
    message: known?.message,
    timings: { ...known?.timings, ...(!isReused && connection?.timings), firstByteMs, totalMs, isReused },
    address: connection?.address,
    status,
    isLiteral: known?.isLiteral,
    // What the parser did not understand is part of its error, and belongs in no log.
    cause: known?.cause ?? (error instanceof errors.HTTPParserError ? undefined : error),
  });
}

/** What an error of the library means, before (no status) or after an answer had begun. */
export function codeOf(error: unknown, status: number | undefined): OutboundCode {
  // Its own code is undefined, whatever its type says.
  if (error instanceof errors.HTTPParserError) return 'response_invalid';
  if (error instanceof errors.ResponseContentLengthMismatchError) return status === undefined ? 'response_invalid' : 'connection_reset';
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS')) return 'tls_error';
  return CALL_ERRORS[code] ?? 'internal';
}

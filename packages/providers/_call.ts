/**
 * One HTTP call to an upstream, with a limit for everything: time, size, redirects. What cannot be an answer of the vendor is a typed error
 * here; what the vendor's statuses mean is the adapter's business.
 */
import { type Clock, isJsonObject, type JsonObject, type JsonValue, RetryableError, TerminalError } from '@claimcheck/core';

export interface Call {
  readonly url: string;
  readonly method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Names in lower case. Credentials go here, and nowhere else than to the configured base URL. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly json?: JsonValue;
  /** Milliseconds until the last byte of the answer; 30,000 unless given. */
  readonly timeoutMs?: number;
  /** True for the call that starts a run: when its answer does not come, the upstream may run it all the same, and the error says so. */
  readonly startsRun?: boolean;
  /** Given every part of the answer as it comes, unpacked. It must not throw, nor keep the bytes. */
  readonly onPart?: (bytes: Uint8Array) => void;
  /** Bytes of the answer, unpacked; 10 MB unless given. */
  readonly bytesMax?: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

export interface CallAnswer {
  readonly status: number;
  header(name: string): string | undefined;
  readonly bytes: Uint8Array;
  /** The body as JSON, read when it is asked for; undefined when it is something else, as a page of a proxy in between. */
  readonly json: JsonValue | undefined;
  /** As of the call. */
  readonly startsRun: boolean;
}

const TIMEOUT_MS = 30_000;
const BYTES_MAX = 10_000_000;

/**
 * Resolves with any answer, whatever its status; redirects are answers as well.
 * @throws RetryableError when no complete answer came, `signal.reason` when it aborts.
 */
export async function call({
  url,
  method = 'GET',
  headers = {},
  json,
  timeoutMs = TIMEOUT_MS,
  bytesMax = BYTES_MAX,
  startsRun = false,
  onPart,
  signal,
  clock,
}: Call): Promise<CallAnswer> {
  signal.throwIfAborted();
  const over = new AbortController();
  const ended = new AbortController();
  clock.sleep(timeoutMs, ended.signal).then(
    () => over.abort(new RetryableError('The provider did not answer in time.', { mayHaveStarted: startsRun })),
    () => {},
  );
  try {
    const response = await fetch(url, {
      method,
      redirect: 'manual',
      headers: { accept: 'application/json', ...(json !== undefined && { 'content-type': 'application/json' }), ...headers },
      ...(json !== undefined && { body: JSON.stringify(json) }),
      signal: AbortSignal.any([signal, over.signal]),
    });
    const bytes = await readAtMost(response, bytesMax, onPart);
    return {
      status: response.status,
      header: (name) => response.headers.get(name) ?? undefined,
      bytes,
      // Not before: a video is not searched for JSON.
      get json() {
        return parseJson(bytes);
      },
      startsRun,
    };
  } catch (error) {
    signal.throwIfAborted();
    over.signal.throwIfAborted();
    if (error instanceof RetryableError || error instanceof TerminalError) throw error;
    const mayHaveStarted = startsRun && !isUnsent(error);
    throw new RetryableError(mayHaveStarted ? 'The connection to the provider broke.' : 'The provider could not be reached.', {
      cause: error,
      mayHaveStarted,
    });
  } finally {
    ended.abort();
  }
}

/**
 * Throws for what means the same at every vendor: 401 and 403 (our key), 402 (our account), 429 and 5xx (later), redirects (our base URL),
 * and an answer that is no JSON. What is ours is told as the provider's only, since another provider may serve the request.
 * Returns the JSON of any other answer, of 4xx too: what that says is in the vendor's own words.
 */
export function jsonOf(answer: CallAnswer): JsonValue {
  const { status, json, startsRun } = answer;
  if (status === 401 || status === 403) {
    throw new TerminalError('The provider refused the key that this service has for it.', { isProvidersOnly: true });
  }
  if (status === 402) throw new TerminalError('The account at the provider has no credit left.', { isProvidersOnly: true });
  if (status === 429) throw new RetryableError('The provider has too much to do.', retryAfterOf(answer));
  if (status >= 500) {
    // What stands in front of a provider answers like this for a request that the provider has.
    const mayHaveStarted = startsRun && (status === 502 || status === 504);
    throw new RetryableError(`The provider failed with status ${status}.`, { ...retryAfterOf(answer), mayHaveStarted });
  }
  if (status >= 300 && status < 400) {
    throw new TerminalError('The provider answered with a redirect, which is not followed.', { isProvidersOnly: true });
  }
  if (json === undefined) throw new RetryableError('The provider answered with something that is not JSON.', { mayHaveStarted: startsRun });
  return json;
}

/** Like {@link jsonOf}, for vendors who answer with an object whenever they succeed. */
export function objectOf(answer: CallAnswer): JsonObject {
  const json = jsonOf(answer);
  if (isJsonObject(json)) return json;
  throw new RetryableError('The provider answered with something that is no JSON object.', { mayHaveStarted: answer.startsRun });
}

/** A vendor's id of a model as a part of an address. */
export function pathOf(model: string): string {
  return model.split('/').map(encodeURIComponent).join('/');
}

/** The longest wait that an upstream can ask for. */
const RETRY_AFTER_MS_MAX = 3_600_000;

/**
 * `Retry-After` in seconds, an hour at most; a date would trust another machine's clock. Before it comes `retry-after-ms`, the more exact
 * header that clients of OpenAI read first (protocols/openai.md, section 8).
 */
export function retryAfterOf({ header }: Pick<CallAnswer, 'header'>): { readonly retryAfterMs?: number } {
  const exactMs = durationIn(header('retry-after-ms'));
  const seconds = durationIn(header('retry-after'));
  const retryAfterMs = exactMs ?? (seconds === undefined ? undefined : seconds * 1000);
  return retryAfterMs === undefined ? {} : { retryAfterMs: Math.min(retryAfterMs, RETRY_AFTER_MS_MAX) };
}

function durationIn(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}

/** The connection was never made, so nothing can have been started. */
const UNSENT: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

function isUnsent(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && UNSENT.has(cause.code);
}

/**
 * All of the answer, as long as it is small enough; what is announced to be too large is not read at all. An error whose body is too large is
 * still that error, without its words.
 */
async function readAtMost(response: Response, bytesMax: number, onPart?: (bytes: Uint8Array) => void): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = Number(response.headers.get('content-length') ?? 0) > bytesMax ? Number.POSITIVE_INFINITY : 0;
  if (bytes > bytesMax) await response.body?.cancel();
  else {
    for await (const part of response.body ?? []) {
      bytes += part.byteLength;
      if (bytes > bytesMax) break;
      parts.push(part);
      onPart?.(part);
    }
  }
  if (bytes <= bytesMax) return Buffer.concat(parts);
  if (response.ok) throw new TerminalError(`The provider's answer is larger than ${bytesMax} bytes.`);
  return new Uint8Array();
}

/** Undefined for what is no JSON. */
export function parseJson(bytes: Uint8Array): JsonValue | undefined {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}

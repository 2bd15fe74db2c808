/**
 * An answer that the vendor writes line by line while it works: one JSON value a line. It tells sooner than asking again and again, and can
 * be done without: whatever goes wrong with it is no error, as whoever reads it can ask in the ordinary way instead.
 */
import type { Clock, JsonValue } from '@claimcheck/core';

export interface JsonLinesCall {
  readonly url: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds after which the reading ends, however much is still to come. */
  readonly holdMs: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** `taken`: enough was read. `held`: time was over. `broken`: it never came, ended by itself, or is no such answer. */
export type JsonLinesEnd = 'taken' | 'held' | 'broken';

/** Until the first line, which tells how things stand and so comes at once. */
const FIRST_LINE_MS = 10_000;
const LINE_CHARACTERS_MAX = 10_000_000;
const BYTES_MAX = 50_000_000;

/**
 * Gives every line to `take` until that returns true; it must not throw. Lines that are no JSON are passed over, as is the last one when
 * the answer breaks off inside of it.
 * @throws only `signal.reason`.
 */
export async function readJsonLines(
  { url, headers, holdMs, signal, clock }: JsonLinesCall,
  take: (line: JsonValue) => boolean,
): Promise<JsonLinesEnd> {
  signal.throwIfAborted();
  const [over, ended] = [new AbortController(), new AbortController()];
  let isHeld = false;
  let lines = 0;
  const after = (ms: number, act: () => void) => clock.sleep(ms, ended.signal).then(act, () => {});
  void after(holdMs, () => {
    isHeld = lines > 0;
    over.abort();
  });
  void after(FIRST_LINE_MS, () => lines === 0 && over.abort());
  try {
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { accept: 'application/x-ndjson', ...headers },
      signal: AbortSignal.any([signal, over.signal]),
    });
    const isLines = response.status === 200 && /^application\/x-ndjson\b/i.test(response.headers.get('content-type') ?? '');
    for await (const line of isLines ? linesOf(response) : []) {
      lines += 1;
      if (take(line)) return 'taken';
    }
    return 'broken';
  } catch {
    signal.throwIfAborted();
    return isHeld ? 'held' : 'broken';
  } finally {
    ended.abort();
    // What is not read any more is not waited for either.
    over.abort();
  }
}

/** Ends early at what is too long to be an answer. */
async function* linesOf(response: Response): AsyncGenerator<JsonValue> {
  const decoder = new TextDecoder();
  let bytes = 0;
  let line = '';
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    const [first = '', ...others] = decoder.decode(chunk, { stream: true }).split('\n');
    line += first;
    for (const next of others) {
      yield* valuesIn(line);
      line = next;
    }
    if (bytes > BYTES_MAX || line.length > LINE_CHARACTERS_MAX) return;
  }
  yield* valuesIn(line);
}

function valuesIn(line: string): readonly JsonValue[] {
  try {
    return line.trim() === '' ? [] : [JSON.parse(line)];
  } catch {
    return [];
  }
}

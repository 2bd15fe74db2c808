/** Reads bodies of requests, with every limit on what a stranger may send: bytes, the memory of all together, and time. */
import { AppError, type Clock, systemClock } from '@claimcheck/core';

export interface Bodies {
  /**
   * The body as it comes, in chunks. It is asked for when the first is, and given up when no more are.
   * @throws AppError `payload_too_large` as soon as that is known, `invalid_request` for one that breaks off or comes too slowly.
   */
  chunks(request: Request, limits: BodyLimits): AsyncIterable<Uint8Array>;
  /** The whole body. @throws AppError also `unavailable`, see {@link BodyLease}. */
  read(request: Request, limits: BodyLimits & { readonly lease?: BodyLease }): Promise<Buffer>;
  /** For one request. */
  lease(): BodyLease;
}

export interface BodyLimits {
  readonly bytesMax: number;
  /** Says what is too large, where there is more to say than the number. */
  readonly tooLarge?: () => AppError;
}

/** The memory that a body takes. Small ones are free; large ones share what there is for them. */
export interface BodyLease extends Disposable {
  /** @throws AppError `unavailable` when other requests have what there is. */
  grow(bytes: number): void;
}

export interface BodiesOptions {
  readonly clock?: Clock;
  /** Aborts when the process drains. */
  readonly closing: AbortSignal;
}

/** Bytes of a request that brings files as data URIs. Three quarters of it are files, as large as a few pictures are. */
export const BODY_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes of all other JSON: parsing and checking it holds everybody else up. */
export const JSON_BYTES_MAX = 1024 * 1024;
/** Of a form: headers of all its parts, and what stands between them. */
export const FORM_OVERHEAD_BYTES = 1024 * 1024;
/** Of one body; beyond it counts against {@link TOGETHER_BYTES_MAX}. */
const FREE_BYTES = JSON_BYTES_MAX;
/** Two of the largest at a time. Reading one takes its size several times over. */
const TOGETHER_BYTES_MAX = 2 * BODY_BYTES_MAX;
const RETRY_SECONDS = 2;

/** A client may keep us waiting for this long, and longer by what it has sent: by 64 KB/s, a slow connection, it gains what it loses. */
const PATIENCE_MS = 30_000;
const BYTES_PER_MS = 64;
const LOOK_MS = 5_000;

/** A body that is being read. */
interface Reading {
  bytes: number;
  /** In earlier reads. */
  waitedMs: number;
  /** Of the read under way. */
  waitingSince: number | undefined;
  isGivenUp: boolean;
  giveUp(): void;
}

/** Bytes of the largest request there can be where files may have so many. */
export function largestBody(fileBytesMax: number): number {
  return Math.max(BODY_BYTES_MAX, fileBytesMax + JSON_BYTES_MAX + FORM_OVERHEAD_BYTES);
}

export function openBodies({ clock = systemClock, closing }: BodiesOptions): Bodies {
  const readings = new Set<Reading>();
  let isLooking = false;
  let leased = 0;

  /** One look at all bodies now and then costs less than a timer for each. */
  async function lookAfter(): Promise<void> {
    isLooking = true;
    while (readings.size > 0 && !closing.aborted) {
      await clock.sleep(LOOK_MS, closing).catch(() => {});
      const now = clock.now();
      for (const reading of readings) if (isLate(reading, now)) reading.giveUp();
    }
    isLooking = false;
  }

  async function* chunks(request: Request, { bytesMax, tooLarge = () => tooManyBytes(bytesMax) }: BodyLimits): AsyncIterable<Uint8Array> {
    if (Number(request.headers.get('content-length') ?? 0) > bytesMax) throw tooLarge();
    if (!request.body) return;
    const reader: ReadableStreamDefaultReader<Uint8Array> = request.body.getReader();
    const reading: Reading = {
      bytes: 0,
      waitedMs: 0,
      waitingSince: undefined,
      isGivenUp: false,
      giveUp() {
        reading.isGivenUp = true;
        // Ends the read under way.
        reader.cancel().catch(() => {});
      },
    };
    readings.add(reading);
    if (!isLooking) void lookAfter();
    try {
      for (;;) {
        const { done, value } = await nextOf(reader, reading, clock);
        if (done) return;
        reading.bytes += value.byteLength;
        if (reading.bytes > bytesMax) throw tooLarge();
        yield value;
      }
    } finally {
      readings.delete(reading);
      // Harmless after the end.
      reader.cancel().catch(() => {});
    }
  }

  return {
    chunks,
    async read(request, { lease, ...limits }) {
      const parts: Uint8Array[] = [];
      for await (const chunk of chunks(request, limits)) {
        lease?.grow(chunk.byteLength);
        parts.push(chunk);
      }
      return Buffer.concat(parts);
    },
    lease() {
      let bytes = 0;
      let counted = 0;
      return {
        grow(more) {
          const wanted = Math.max(bytes + more - FREE_BYTES, 0) - counted;
          if (leased + wanted > TOGETHER_BYTES_MAX) {
            const message = 'Too many large requests are being read at this moment; nothing was accepted, please try again.';
            throw new AppError('unavailable', message, { retryAfterSeconds: RETRY_SECONDS });
          }
          bytes += more;
          counted += wanted;
          leased += wanted;
        },
        [Symbol.dispose]() {
          leased -= counted;
          bytes = 0;
          counted = 0;
        },
      };
    },
  };
}

/** @throws AppError for a body that breaks off or was given up. */
async function nextOf(reader: ReadableStreamDefaultReader<Uint8Array>, reading: Reading, clock: Clock) {
  const since = clock.now();
  reading.waitingSince = since;
  let next: Awaited<ReturnType<typeof reader.read>>;
  try {
    next = await reader.read();
  } catch (cause) {
    // The client is most likely gone, which is nothing that an operator has to know.
    throw new AppError('invalid_request', 'The body ended before it was complete.', { cause });
  }
  if (reading.isGivenUp) throw new AppError('invalid_request', 'The body came too slowly: 64 kB a second are expected.');
  reading.waitingSince = undefined;
  reading.waitedMs += clock.now() - since;
  return next;
}

function isLate({ bytes, waitedMs, waitingSince }: Reading, now: number): boolean {
  // While nothing is read it is we who are slow.
  return waitingSince !== undefined && waitedMs + now - waitingSince > PATIENCE_MS + bytes / BYTES_PER_MS;
}

function tooManyBytes(bytesMax: number): AppError {
  return new AppError('payload_too_large', `The body may have ${bytesMax} bytes at most.`);
}

/** Writes a dialect's answer as an HTTP response. */
import { type Answer, AppError, InlineFile, type Log, PlainText, type ServerSentEvent, systemClock } from '@claimcheck/core';
import type { AssetStore } from '@claimcheck/engine';
import { fileResponse } from './files.ts';

/** Proxies drop connections that stay silent, often after 30 or 60 s. */
const HEARTBEAT_MS = 10_000;

export interface AnswerContext {
  readonly request: Request;
  readonly assets: AssetStore;
  readonly log: Log;
  /** Ends event streams. */
  readonly signal: AbortSignal;
}

/** @throws AppError `not_found` when the answer is a file that is gone. */
export async function toResponse(answer: Answer, context: AnswerContext): Promise<Response> {
  const { status, body } = answer;
  const headers = new Headers(answer.headers);
  switch (body.kind) {
    case 'json':
      // Some vendors have a type of their own for errors.
      if (!headers.has('content-type')) headers.set('content-type', 'application/json');
      return new Response(await jsonText(body.value, context.assets), { status, headers });
    case 'text':
      headers.set('content-type', body.contentType);
      return new Response(body.text, { status, headers });
    case 'empty':
      return new Response(null, { status, headers });
    case 'asset': {
      const asset = await context.assets.find(body.token);
      if (!asset) throw new AppError('not_found', 'The file has expired.');
      return fileResponse(asset, context.assets, context.request, headers);
    }
    case 'events':
      headers.set('content-type', 'text/event-stream; charset=utf-8');
      // Asks nginx and its like not to hold events back.
      headers.set('x-accel-buffering', 'no');
      return new Response(context.request.method === 'HEAD' ? null : eventStream(body.events, context), { status, headers });
    case 'lines':
      headers.set('content-type', 'application/x-ndjson');
      headers.set('x-accel-buffering', 'no');
      return new Response(context.request.method === 'HEAD' ? null : lineStream(body, context), { status, headers });
  }
}

/** Files in an answer are held in memory while it is written; more than this is answered by their addresses, or not at all. */
const INLINE_BYTES_MAX = 64 * 1024 * 1024;

/** JSON with the bytes of files in the places of their {@link InlineFile}s. @throws AppError when they are gone or too large. */
async function jsonText(value: unknown, assets: AssetStore): Promise<string> {
  const wanted = new Map<string, string>();
  const text = JSON.stringify(value, (_name, member: unknown) => {
    if (!(member instanceof InlineFile)) return member;
    wanted.set(member.token, '');
    return member;
  });
  if (wanted.size === 0) return text;
  let bytes = 0;
  const types = new Map<string, string>();
  for (const token of wanted.keys()) {
    const asset = await assets.find(token);
    if (!asset) throw new AppError('not_found', 'The file has expired.');
    bytes += asset.bytes;
    if (bytes > INLINE_BYTES_MAX)
      throw new AppError('payload_too_large', 'The files are too large to stand in an answer: ask for their addresses.');
    types.set(token, asset.contentType);
    wanted.set(token, Buffer.from(await new Response(assets.read(token)).arrayBuffer()).toString('base64'));
  }
  return JSON.stringify(value, (_name, member: unknown) => {
    if (!(member instanceof InlineFile)) return member;
    const base64 = wanted.get(member.token) ?? '';
    return member.form === 'base64' ? base64 : `data:${types.get(member.token)};base64,${base64}`;
  });
}

/** Server-sent events as bytes, with a comment line whenever nothing happens for a while. */
function eventStream(events: AsyncIterable<ServerSentEvent>, context: AnswerContext): ReadableStream<Uint8Array> {
  return beatingStream(context, {
    source: events,
    heartbeat: ': still here\n\n',
    write: async ({ id, event, data }) => {
      const text = data instanceof PlainText ? data.text : await jsonText(data, context.assets);
      return formatEvent({ id, event, data: text });
    },
    // A clean end: the client connects again and says which event was its last.
    endEarly: (controller) => controller.close(),
  });
}

/** One JSON text per line. */
function lineStream(
  { lines, heartbeat }: { readonly lines: AsyncIterable<unknown>; readonly heartbeat: unknown },
  context: AnswerContext,
): ReadableStream<Uint8Array> {
  return beatingStream(context, {
    source: lines,
    heartbeat: `${JSON.stringify(heartbeat)}\n`,
    write: async (line) => `${await jsonText(line, context.assets)}\n`,
    // Its clients take a clean end for the end of the job.
    endEarly: (controller) => controller.error(new Error('the stream was broken off')),
  });
}

interface BeatingStream<Item> {
  readonly source: AsyncIterable<Item>;
  /** Written whenever nothing comes for a while. */
  readonly heartbeat: string;
  write(item: Item): Promise<string>;
  /** The service stops, or the source broke. */
  endEarly(controller: ReadableStreamDefaultController<Uint8Array>): void;
}

/** Nothing starts before the first read. */
function beatingStream<Item>({ signal, log }: AnswerContext, beating: BeatingStream<Item>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const source = beating.source[Symbol.asyncIterator]();
  const gone = new AbortController();
  const over = AbortSignal.any([gone.signal, signal]);
  // Outlives a pull that ends with a heartbeat.
  let next: Promise<IteratorResult<Item>> | undefined;
  const stop = () => {
    gone.abort();
    source.return?.().catch(() => {});
  };
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          next ??= source.next();
          const result = await raceHeartbeat(next, over);
          if (result === 'silent') controller.enqueue(encoder.encode(beating.heartbeat));
          else if (result === 'over') {
            beating.endEarly(controller);
            stop();
          } else if (result.done) {
            if (signal.aborted) beating.endEarly(controller);
            else controller.close();
            stop();
          } else {
            next = undefined;
            controller.enqueue(encoder.encode(await beating.write(result.value)));
          }
        } catch (error) {
          log.warn({ error }, 'stream broke');
          beating.endEarly(controller);
          stop();
        }
      },
      cancel: stop,
    },
    // Events are read when the client takes them, so that a client that is gone or slow holds none in memory.
    { highWaterMark: 0 },
  );
}

async function raceHeartbeat<Value>(next: Promise<Value>, over: AbortSignal): Promise<Value | 'silent' | 'over'> {
  const waiting = new AbortController();
  const pause = systemClock.sleep(HEARTBEAT_MS, AbortSignal.any([waiting.signal, over])).then(
    () => 'silent' as const,
    () => 'over' as const,
  );
  try {
    return await Promise.race([next, pause]);
  } finally {
    waiting.abort();
  }
}

function formatEvent({
  id,
  event,
  data,
}: {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}): string {
  // JSON is one line; a line feed inside of other text would end the field.
  const dataLines = data.split(/\r\n|\n|\r/).map((line) => `data: ${line}`);
  const lines = [id !== undefined && `id: ${id}`, event !== undefined && `event: ${event}`, ...dataLines];
  return `${lines.filter((line) => line !== false).join('\n')}\n\n`;
}

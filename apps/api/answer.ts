/** Writes a dialect's answer as an HTTP response. */
import { type Answer, AppError, type Log, type ServerSentEvent, systemClock } from '@claimcheck/core';
import type { AssetStore } from '@claimcheck/engine';
import { fileResponse } from './files.ts';

/** Proxies drop connections that stay silent, often after 30 or 60 s. */
const HEARTBEAT_MS = 15_000;

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
      headers.set('content-type', 'application/json');
      return new Response(JSON.stringify(body.value), { status, headers });
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
  }
}

/** Server-sent events as bytes, with a comment line whenever nothing happens for a while. Nothing starts before the first read. */
function eventStream(events: AsyncIterable<ServerSentEvent>, { signal, log }: AnswerContext): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const source = events[Symbol.asyncIterator]();
  const gone = new AbortController();
  const over = AbortSignal.any([gone.signal, signal]);
  // Outlives a pull that ends with a heartbeat.
  let next: ReturnType<typeof source.next> | undefined;
  const stop = () => {
    gone.abort();
    source.return?.().catch(() => {});
  };
  return new ReadableStream(
    {
      async pull(controller) {
        next ??= source.next();
        const result = await raceHeartbeat(next, over).catch((error: unknown) => {
          // A clean end: the client connects again and says which event was its last.
          log.warn({ error }, 'event stream broke');
          return 'over' as const;
        });
        if (result === 'silent') controller.enqueue(encoder.encode(': still here\n\n'));
        else if (result === 'over' || result.done) {
          controller.close();
          stop();
        } else {
          next = undefined;
          controller.enqueue(encoder.encode(formatEvent(result.value)));
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

function formatEvent({ id, event, data }: ServerSentEvent): string {
  const lines = [id !== undefined && `id: ${id}`, event !== undefined && `event: ${event}`, `data: ${JSON.stringify(data)}`];
  return `${lines.filter((line) => line !== false).join('\n')}\n\n`;
}

/** Writes a dialect's answer as an HTTP response. */
import { type Answer, AppError, type ServerSentEvent, systemClock } from '@claimcheck/core';
import type { AssetStore } from '@claimcheck/engine';
import { fileResponse } from './files.ts';

/** Proxies drop connections that stay silent, often after 30 or 60 s. */
const HEARTBEAT_MS = 15_000;

/** `signal` ends event streams. @throws AppError `not_found` when the answer is a file that is gone. */
export async function toResponse(answer: Answer, request: Request, assets: AssetStore, signal: AbortSignal): Promise<Response> {
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
      const asset = await assets.find(body.token);
      if (!asset) throw new AppError('not_found', 'The file has expired.');
      return fileResponse(asset, assets, request, headers);
    }
    case 'events':
      headers.set('content-type', 'text/event-stream; charset=utf-8');
      headers.set('cache-control', 'no-store');
      // Asks nginx and its like not to hold events back.
      headers.set('x-accel-buffering', 'no');
      return new Response(eventStream(body.events, signal), { status, headers });
  }
}

/** Server-sent events as bytes, with a comment line whenever nothing happens for a while. */
function eventStream(events: AsyncIterable<ServerSentEvent>, signal: AbortSignal): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const source = events[Symbol.asyncIterator]();
  const gone = new AbortController();
  let next = source.next();
  return new ReadableStream({
    async pull(controller) {
      const waiting = new AbortController();
      const pause = systemClock.sleep(HEARTBEAT_MS, AbortSignal.any([waiting.signal, gone.signal, signal])).then(
        () => 'silent' as const,
        () => 'over' as const,
      );
      const result = await Promise.race([next, pause]);
      waiting.abort();
      if (result === 'silent') controller.enqueue(encoder.encode(': still here\n\n'));
      else if (result === 'over' || result.done) {
        controller.close();
        void source.return?.();
      } else {
        controller.enqueue(encoder.encode(formatEvent(result.value)));
        next = source.next();
      }
    },
    cancel() {
      gone.abort();
      void source.return?.();
    },
  });
}

function formatEvent({ id, event, data }: ServerSentEvent): string {
  const lines = [id !== undefined && `id: ${id}`, event !== undefined && `event: ${event}`, `data: ${JSON.stringify(data)}`];
  return `${lines.filter((line) => line !== false).join('\n')}\n\n`;
}

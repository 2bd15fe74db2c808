/** A real receiver of webhooks, which answers as it is told and remembers what came. */
import type { IncomingHttpHeaders } from 'node:http';
import { listen, type TestServer } from './index.ts';

export interface Received {
  readonly url: string;
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Receiver extends TestServer {
  readonly received: readonly Received[];
}

/** What to answer: a status, with headers if need be, or nothing at all. */
export type ReceiverAnswer = number | { readonly status: number; readonly headers: Readonly<Record<string, string>> } | 'nothing';

/** Answers 200 unless told otherwise. `answer` gets the number of the call, from 1, and what came. */
export async function aReceiver(answer: (call: number, message: Received) => ReceiverAnswer = () => 200): Promise<Receiver> {
  const received: Received[] = [];
  const server = await listen((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { url = '', method = '', headers } = request;
      const message = { url, method, headers, body: Buffer.concat(chunks) };
      received.push(message);
      const told = answer(received.length, message);
      if (told === 'nothing') return;
      if (typeof told === 'object') response.writeHead(told.status, told.headers).end('thanks');
      else response.writeHead(told, told >= 300 && told < 400 ? { location: '/elsewhere' } : {}).end('thanks');
    });
  });
  return { ...server, received };
}

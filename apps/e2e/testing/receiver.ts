/** A webhook receiver: keeps what was posted to it. */
import { listen } from '@claimcheck/engine/testing';

export interface Received {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Record<string, unknown>;
  /** As it came: what is signed. */
  readonly text: string;
}

export interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly received: readonly Received[];
}

export async function startReceiver(): Promise<Receiver> {
  const received: Received[] = [];
  const server = await listen((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      received.push({ headers: request.headers, body: JSON.parse(text), text });
      // Without a body, as the README's own receiver answers.
      response.end();
    });
  });
  return { url: server.url, received, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

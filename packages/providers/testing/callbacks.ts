/** A real receiver of callbacks for tests of adapters: it keeps what came, byte for byte, as the engine would hand it over. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { Callback, JsonValue } from '@claimcheck/core';

export interface CallbackReceiver extends AsyncDisposable {
  /** As a run's `callbackUrl`. */
  readonly url: string;
  /** Every callback that came, oldest first. */
  readonly received: readonly ReceivedCallback[];
  /** The callback of this number, from 1; waits until it has come. */
  arrival(number: number): Promise<ReceivedCallback>;
}

export interface ReceivedCallback {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export async function receiveCallbacks(): Promise<CallbackReceiver> {
  const received: ReceivedCallback[] = [];
  const waiting = new Set<() => void>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    received.push({ headers: request.headers, body: Buffer.concat(chunks) });
    response.end();
    for (const wake of waiting) wake();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('a server that listens on a port has an address');
  return {
    url: `http://127.0.0.1:${address.port}/callback?token=a&job=b`,
    received,
    async arrival(number) {
      for (;;) {
        const callback = received[number - 1];
        if (callback) return callback;
        await new Promise<void>((resolve) => waiting.add(resolve));
        waiting.clear();
      }
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** A received callback as an adapter gets it; `changed` headers take the place of those that came. */
export function asCallback(
  { headers, body }: ReceivedCallback,
  handle: JsonValue | undefined,
  changed: IncomingHttpHeaders = {},
): Callback {
  const all = { ...headers, ...changed };
  return {
    header(name) {
      const value = all[name];
      return Array.isArray(value) ? value.join(', ') : value;
    },
    body,
    handle,
  };
}

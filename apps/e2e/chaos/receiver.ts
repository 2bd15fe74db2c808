/** The webhook receiver: remembers which jobs it was told of and as what, and can hold an answer while its sender is killed. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { z } from 'zod';
import { closeServer, listenOnLoopback, readBody } from './http.ts';

export interface Receiver extends AsyncDisposable {
  readonly port: number;
  /** By job, the `status` number of each message that arrived. */
  readonly received: ReadonlyMap<string, readonly number[]>;
  /** Resolves when a message about the job has arrived, at once when one has. */
  hasHeardOf(jobId: string): Promise<void>;
  /** Resolves when the next message about the job arrives. */
  hearsAgainOf(jobId: string): Promise<void>;
  /** Holds the answer to the next message about the job; the caller releases it. */
  catchNext(jobId: string): Promise<{ release(): void }>;
}

const message = z.object({ id: z.string(), status: z.number() });

export async function startReceiver(): Promise<Receiver> {
  const received = new Map<string, number[]>();
  const traps = new Map<string, (caught: { release(): void }) => void>();
  const listeners = new Map<string, (() => void)[]>();

  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const { id, status } = message.parse(JSON.parse(await readBody(request)));
    const trap = traps.get(id);
    traps.delete(id);
    received.set(id, [...(received.get(id) ?? []), status]);
    const told = listeners.get(id) ?? [];
    listeners.delete(id);
    for (const tell of told) tell();
    if (trap) {
      const held = Promise.withResolvers<void>();
      trap({ release: held.resolve });
      await held.promise;
    }
    response.end();
  };
  const server = createServer((request, response) => {
    // A sender that is killed half-way leaves a body without an end.
    handle(request, response).catch(() => response.destroy());
  });
  const url = await listenOnLoopback(server);
  const hearsAgainOf = (jobId: string) => new Promise<void>((resolve) => listeners.set(jobId, [...(listeners.get(jobId) ?? []), resolve]));
  return {
    port: Number(new URL(url).port),
    received,
    hearsAgainOf,
    hasHeardOf: (jobId) => (received.has(jobId) ? Promise.resolve() : hearsAgainOf(jobId)),
    catchNext: (jobId) => new Promise((resolve) => traps.set(jobId, resolve)),
    [Symbol.asyncDispose]: () => closeServer(server),
  };
}

/** A receiver on a free port of the loopback address that answers in bytes, so that it can break every rule of HTTP. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { createServer as createEncryptedServer } from 'node:tls';
import type { TestCertificate } from './certificate.ts';

export interface Receiver extends AsyncDisposable {
  readonly port: number;
  /** Accepted so far. */
  readonly connections: number;
  /** Requests as they came. */
  readonly requests: readonly string[];
}

/** `answer` is called with each request's connection; requests must be small enough to come at once. */
export async function startReceiver(answer: (socket: Socket) => void, certificate?: TestCertificate): Promise<Receiver> {
  const sockets = new Set<Socket>();
  const requests: string[] = [];
  let connections = 0;
  const accept = (socket: Socket) => {
    // Callers that had enough break connections.
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      requests.push(chunk.toString('latin1'));
      answer(socket);
    });
  };
  const server = certificate ? createEncryptedServer({ ...certificate }, accept) : createServer(accept);
  server.on('connection', (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('a server that listens on a port has an address');
  return {
    port: address.port,
    requests,
    get connections() {
      return connections;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}

/** A port of the loopback address on which nothing listens. */
export async function freePort(): Promise<number> {
  await using receiver = await startReceiver(() => {});
  return receiver.port;
}

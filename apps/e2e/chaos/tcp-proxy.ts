/** A TCP proxy on the loopback address that fails as networks do, at the controller's word. */
import { connect, createServer, type Server, type Socket } from 'node:net';

/**
 * `forward`: as a proxy should. `refuse`: nobody listens. `half-open`: connections stay up, old and new, and nothing passes in either
 * direction. `close`: connections are accepted and closed at once. `hold-answers`: what clients send passes, what servers answer does not.
 */
export type ProxyMode = 'forward' | 'refuse' | 'half-open' | 'close' | 'hold-answers';

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Connections that met `half-open` or `hold-answers` stay dead when the mode changes: their peers must notice by themselves. */
  set(mode: ProxyMode): Promise<void>;
  /** Resolves when bytes are swallowed, from now on. */
  swallowed(): Promise<void>;
  /** The URL with the proxy's address in it. */
  through(url: string): string;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** What happens to bytes on their way; a pair never becomes better again. */
  mode: 'forward' | 'half-open' | 'hold-answers';
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let mode: ProxyMode = 'forward';
  let swallowing = Promise.withResolvers<void>();
  let port = 0;
  let listening: Server | undefined;

  const pass = (pair: Pair, from: Socket, to: Socket, isBlocked: () => boolean) => {
    from.on('data', (chunk) => {
      if (isBlocked()) {
        swallowing.resolve();
        swallowing = Promise.withResolvers<void>();
      } else to.write(chunk);
    });
    from.on('error', () => {});
    from.on('close', () => {
      // A half-open connection does not tell the other side either, until the network is back.
      if (mode === 'half-open' && pair.mode === 'half-open') return;
      to.destroy();
      pairs.delete(pair);
    });
  };
  const accept = (client: Socket) => {
    if (mode === 'close') {
      client.on('error', () => {});
      client.destroy();
      return;
    }
    const server = connect(targetPort, '127.0.0.1');
    const pair: Pair = { client, server, mode: mode === 'half-open' || mode === 'hold-answers' ? mode : 'forward' };
    pairs.add(pair);
    pass(pair, client, server, () => pair.mode === 'half-open');
    pass(pair, server, client, () => pair.mode !== 'forward');
  };
  const listen = async () => {
    const server = createServer(accept);
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
    const address = server.address();
    if (typeof address === 'object' && address) port = address.port;
    listening = server;
  };
  const cutAll = () => {
    for (const { client, server } of pairs) {
      client.destroy();
      server.destroy();
    }
    pairs.clear();
  };
  const stopListening = async () => {
    const server = listening;
    listening = undefined;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    cutAll();
    await closed;
  };
  await listen();

  return {
    port,
    async set(next) {
      mode = next;
      if (next === 'refuse') return stopListening();
      if (!listening) await listen();
      if (next === 'close') cutAll();
      for (const pair of pairs) {
        if (next === 'half-open' || (next === 'hold-answers' && pair.mode === 'forward')) pair.mode = next;
        // The network is back: the side that was not told of the end now is.
        else if (pair.client.destroyed || pair.server.destroyed) {
          pair.client.destroy();
          pair.server.destroy();
          pairs.delete(pair);
        }
      }
    },
    swallowed: () => swallowing.promise,
    through(url) {
      return Object.assign(new URL(url), { hostname: '127.0.0.1', port: String(port) }).href;
    },
    [Symbol.asyncDispose]: async () => {
      cutAll();
      await stopListening();
    },
  };
}

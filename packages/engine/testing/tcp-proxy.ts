/** A TCP proxy on the loopback address that misbehaves as networks do: it falls silent, cuts, refuses, and comes back. */
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** The given URL with the proxy's host and port in it. */
  through(url: string): string;
  /** Forwards nothing more on any connection, old or new, but keeps them open: what a half-open socket looks like. */
  silence(): void;
  /** Forwards on new connections again. The silent ones stay silent, as their peers are gone. */
  revive(): void;
  /** Cuts all connections and refuses new ones. */
  refuse(): Promise<void>;
  /** Takes connections again on the same port. */
  accept(): Promise<void>;
  /** Connections made so far. */
  readonly connections: number;
}

/**
 * Forwards to the server that `url` names. `cutAfter` is asked for each connection, the first of which is 1, how many times the server may speak:
 * the last of them is still forwarded, and then both sides are cut. Nothing is cut unless given.
 */
export async function startTcpProxy(
  url: string,
  defaultPort: number,
  cutAfter: (connection: number) => number = () => Number.POSITIVE_INFINITY,
): Promise<TcpProxy> {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let forwarding = new Set<Socket>();
  let silent = false;
  let connections = 0;
  let server: Server;
  let port = 0;

  const forward = (from: Socket, to: Socket, chunksMax = Number.POSITIVE_INFINITY) => {
    let chunks = 0;
    sockets.add(from);
    if (!silent) forwarding.add(from);
    from.on('data', (chunk) => {
      chunks += 1;
      if (!forwarding.has(from) || chunks > chunksMax) return;
      if (chunks < chunksMax) to.write(chunk);
      else to.end(chunk, () => from.destroy());
    });
    from.on('error', () => {});
    from.on('close', () => {
      sockets.delete(from);
      if (forwarding.delete(from)) to.destroy();
    });
  };
  const accept = async () => {
    server = createServer((client) => {
      connections += 1;
      const upstream = connect(Number(target.port || defaultPort), target.hostname);
      forward(client, upstream);
      forward(upstream, client, cutAfter(connections));
    });
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
    const address = server.address();
    if (typeof address === 'object' && address) port = address.port;
  };
  const refuse = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await accept();
  return {
    port,
    get connections() {
      return connections;
    },
    through(other) {
      const changed = new URL(other);
      changed.hostname = '127.0.0.1';
      changed.port = String(port);
      return changed.href;
    },
    silence() {
      silent = true;
      forwarding = new Set();
    },
    revive() {
      silent = false;
    },
    refuse,
    accept,
    [Symbol.asyncDispose]: async () => {
      if (server.listening) await refuse();
    },
  };
}

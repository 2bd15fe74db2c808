/** Listens for HTTP, with limits that keep slow and idle clients from holding the process. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { StartError, systemClock } from '@claimcheck/core';
import { getRequestListener, RequestError } from '@hono/node-server';
import type { Hono } from 'hono';
import { BODY_BYTES_MAX } from './bodies.ts';

export interface Listening {
  /** The origin to call, such as http://127.0.0.1:8080. */
  readonly url: string;
  /** Takes no new connections and resolves when the open requests are answered, or after three seconds. */
  close(): Promise<void>;
}

const SERVER_LIMITS = {
  // A client has this long for its headers. How long its body may take depends on its size, see `bodies.ts`.
  headersTimeout: 10_000,
  requestTimeout: 0,
  connectionsCheckingInterval: 5_000,
  keepAliveTimeout: 65_000,
};
/** A client that reads its answer more slowly than this loses it at shutdown. */
const DRAIN_MS = 3_000;
const CONNECTIONS_MAX = 20_000;

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** A client that asks before it sends more is refused; 32 MiB unless given. */
  readonly bodyBytesMax?: number;
}

/** @throws StartError when the port cannot be had. */
export async function listen(app: Hono, options: ListenOptions): Promise<Listening> {
  const { bodyBytesMax = BODY_BYTES_MAX } = options;
  const server = createServer(SERVER_LIMITS);
  server.maxConnections = CONNECTIONS_MAX;
  let isClosing = false;
  // An answer that comes before the end of a body, such as 413, is followed by half a second of reading and dropping, then the
  // connection is closed. Saying `connection: close` instead would reset it at once, and a client still sending would lose the answer.
  const answer = getRequestListener(app.fetch, { errorHandler: answerUnreadable });
  server.on('request', (incoming, outgoing) => {
    settleOrigin(incoming);
    // A connection that was busy when closing began is idle now, and would be waited for.
    outgoing.once('close', () => isClosing && server.closeIdleConnections());
    void answer(incoming, outgoing);
  });
  server.on('checkContinue', (incoming, outgoing) => {
    // A client that asks before it sends is spared a body that would be refused.
    if (!(Number(incoming.headers['content-length']) > bodyBytesMax)) outgoing.writeContinue();
    server.emit('request', incoming, outgoing);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(describeListenError(error, options)));
    server.listen(options.port, options.host, resolve);
  });
  // A listening TCP server has an address with a port.
  const { port } = server.address() as AddressInfo;
  return {
    url: originOf(options.host, port),
    async close() {
      isClosing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const late = new AbortController();
      const deadline = systemClock.sleep(DRAIN_MS, late.signal).then(() => server.closeAllConnections());
      await closed;
      late.abort();
      await deadline.catch(() => {});
    },
  };
}

/** A name, an IPv4 address or an IPv6 address in brackets, with or without a port. */
const HOST = /^(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?$/i;

/**
 * Makes the request's origin one that URLs can be built from: the host it names, in its normal form, or the address it came in at
 * when it names none that could exist. Headers of proxies are not looked at, because anyone can send them: PUBLIC_URL is for that.
 */
function settleOrigin(incoming: IncomingMessage): void {
  const { url = '', headers, socket } = incoming;
  let host = headers.host ?? '';
  // RFC 9112 section 3.2.2: a whole URL in the request line replaces the Host header.
  if (/^https?:\/\//i.test(url) && URL.canParse(url)) {
    const target = new URL(url);
    incoming.url = `${target.pathname}${target.search}`;
    host = target.host;
  }
  const isSane = HOST.test(host) && URL.canParse(`http://${host}`);
  const origin = new URL(isSane ? `http://${host}` : originOf(socket.localAddress ?? '127.0.0.1', socket.localPort ?? 80));
  headers.host = origin.host;
}

/** Where "all addresses" can be called from this machine. */
const CALLABLE: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

function originOf(listening: string, port: number): string {
  const address = CALLABLE[listening] ?? listening;
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** For what the adapter could not make a request of, such as `OPTIONS *`; the application answers everything else itself. */
function answerUnreadable(error: unknown): Response {
  const isRefused = error instanceof RequestError;
  const body = isRefused
    ? { error: 'The request line names nothing that could exist here.', code: 'invalid_request' }
    : { error: 'Something went wrong on our side.', code: 'internal' };
  return new Response(JSON.stringify(body), { status: isRefused ? 400 : 500, headers: { 'content-type': 'application/json' } });
}

function describeListenError(error: NodeJS.ErrnoException, { host, port }: { readonly host: string; readonly port: number }): StartError {
  const reasons: Record<string, string> = {
    EADDRINUSE: `Port ${port} on ${host} is in use by another program: stop it, or set PORT.`,
    EACCES: `Port ${port} may not be used by this account: set PORT to 1024 or more.`,
    EADDRNOTAVAIL: `This machine has no address ${host}: set HOST to one of its own.`,
    ENOTFOUND: `The name ${host} is not known: set HOST to an address of this machine.`,
  };
  return new StartError(reasons[error.code ?? ''] ?? `Cannot listen on ${host}:${port}: ${error.message}`, { cause: error });
}

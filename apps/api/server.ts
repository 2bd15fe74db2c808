/** Listens for HTTP, with limits that keep slow and idle clients from holding the process. */
import type { AddressInfo } from 'node:net';
import { StartError, systemClock } from '@claimcheck/core';
import { createAdaptorServer } from '@hono/node-server';
import type { Hono } from 'hono';

export interface Listening {
  /** The origin to call, such as http://127.0.0.1:8080. */
  readonly url: string;
  /** Takes no new connections and resolves when the open requests are answered, or after three seconds. */
  close(): Promise<void>;
}

const SERVER_LIMITS = {
  // A client has this long for its headers, and for its whole request. Answers may take longer: long polls and event streams.
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  connectionsCheckingInterval: 5_000,
  keepAliveTimeout: 65_000,
};
/** A client that reads its answer more slowly than this loses it at shutdown. */
const DRAIN_MS = 3_000;
const CONNECTIONS_MAX = 20_000;

/** @throws StartError when the port cannot be had. */
export async function listen(app: Hono, options: { readonly host: string; readonly port: number }): Promise<Listening> {
  const server = createAdaptorServer({ fetch: app.fetch, serverOptions: SERVER_LIMITS });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(describeListenError(error, options)));
    server.listen(options.port, options.host, resolve);
  });
  // A listening TCP server has an address with a port.
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      if ('closeIdleConnections' in server) server.closeIdleConnections();
      const late = new AbortController();
      const deadline = systemClock.sleep(DRAIN_MS, late.signal).then(() => {
        if ('closeAllConnections' in server) server.closeAllConnections();
      });
      await closed;
      late.abort();
      await deadline.catch(() => {});
    },
  };
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

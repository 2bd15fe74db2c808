/** Opens one connection that the guard allows: looks up the name, connects to exactly what was found, and judges where that led. */
import { isIP, type LookupFunction, connect as openPlain, type Socket } from 'node:net';
import { connect as openEncrypted } from 'node:tls';
import type { Clock } from '@claimcheck/core';
import type { buildConnector } from 'undici';
import { canonicalAddress } from './addresses.ts';
import { normalizeName } from './allow-list.ts';
import type { Guard } from './guard.ts';
import { type CallTimings, type OutboundCode, OutboundError } from './outbound-error.ts';

/** What is known of an open connection. */
export interface Connection {
  /** The far end, in canonical spelling. */
  readonly address: string;
  readonly timings: Pick<CallTimings, 'dnsMs' | 'connectMs' | 'tlsMs'>;
}

export interface ConnectorOptions {
  readonly guard: Guard;
  readonly clock: Clock;
  /** Limit of looking up a name, in milliseconds. */
  readonly dnsMsMax: number;
  /** Limit of connecting and agreeing on encryption together, in milliseconds. */
  readonly connectMsMax: number;
  /** Certificate authorities in PEM that are trusted instead of the known ones. */
  readonly ca?: string;
  /** Breaks connections that are not open yet. */
  readonly signal: AbortSignal;
}

/** Errors of connecting by the codes of Node. What is not listed, such as no free descriptor, is a trouble of this machine: `internal`. */
const CONNECT_ERRORS: Readonly<Record<string, OutboundCode>> = {
  ECONNREFUSED: 'connect_refused',
  EHOSTUNREACH: 'connect_refused',
  ENETUNREACH: 'connect_refused',
  EHOSTDOWN: 'connect_refused',
  EACCES: 'connect_refused',
  EPERM: 'connect_refused',
  ETIMEDOUT: 'connect_timeout',
  ECONNRESET: 'connection_reset',
  EPIPE: 'connection_reset',
};

/** A connector for undici. `onOpen` is called before the first byte of a request is sent. Fails with {@link OutboundError} only. */
export function openConnector(options: ConnectorOptions, onOpen: (connection: Connection) => void): buildConnector.connector {
  return (target, callback) => {
    openConnection(target, options).then(
      ({ socket, connection }) => {
        onOpen(connection);
        callback(null, socket);
      },
      (error: unknown) => callback(error instanceof Error ? error : new OutboundError('internal', { cause: error }), null),
    );
  };
}

async function openConnection(
  target: buildConnector.Options,
  options: ConnectorOptions,
): Promise<{ readonly socket: Socket; readonly connection: Connection }> {
  const { guard, dnsMsMax, connectMsMax } = options;
  const timings: { dnsMs?: number; connectMs?: number; tlsMs?: number } = {};
  let stepMs = performance.now();
  const step = () => {
    const startedMs = stepMs;
    stepMs = performance.now();
    return stepMs - startedMs;
  };

  let socket: Socket | undefined;
  try {
    const late = () => new OutboundError('dns_error', { message: 'The name of the receiver was not looked up in time.' });
    const addresses = await within(options, dnsMsMax, late, guard.addressesOf(target.hostname));
    if (isIP(target.hostname) === 0) timings.dnsMs = step();
    socket = startSocket(target, addresses, options.ca);
    const opened = whenOpen(socket, target, guard, {
      connected: () => {
        timings.connectMs = step();
      },
      encrypted: () => {
        timings.tlsMs = step();
      },
    });
    const address = await within(options, connectMsMax, () => new OutboundError('connect_timeout'), opened);
    return { socket, connection: { address, timings } };
  } catch (error) {
    socket?.destroy();
    const isConnected = timings.connectMs !== undefined;
    throw withTimings(error, timings, isConnected);
  }
}

/** Starts to connect to one of these addresses and to nothing else: they are all that its lookup answers. Tries the next when one hangs. */
function startSocket(target: buildConnector.Options, addresses: readonly string[], ca: string | undefined): Socket {
  const { hostname, protocol } = target;
  const isEncrypted = protocol === 'https:';
  const found = addresses.map((address) => ({ address, family: isIP(address) }));
  const lookup: LookupFunction = (_hostname, _options, callback) => callback(null, found);
  const connecting = {
    host: hostname,
    port: Number(target.port || (isEncrypted ? 443 : 80)),
    lookup,
    autoSelectFamily: true,
    noDelay: true,
    keepAlive: true,
  };
  if (!isEncrypted) return openPlain(connecting);
  // An address has no server name. Certificates are checked whatever the environment says about them.
  const servername = isIP(hostname) === 0 ? { servername: normalizeName(hostname) } : {};
  return openEncrypted({ ...connecting, ...servername, ca, rejectUnauthorized: true, ALPNProtocols: ['http/1.1'] });
}

/** Resolves with the far end when the socket can be used; rejects when it cannot, or when the far end may not be called. */
function whenOpen(
  socket: Socket,
  { hostname, protocol }: buildConnector.Options,
  guard: Guard,
  progress: { readonly connected: () => void; readonly encrypted: () => void },
): Promise<string> {
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.once('close', () => reject(new OutboundError('connection_reset')));
    // Before the listener that starts the encryption: an address that may not be called hears nothing at all.
    socket.prependOnceListener('connect', () => {
      const address = canonicalAddress(socket.remoteAddress ?? '');
      if (address === undefined || !guard.permits(hostname, address)) {
        socket.destroy(new OutboundError('blocked_address'));
        return;
      }
      progress.connected();
      if (protocol !== 'https:') resolve(address);
      socket.once('secureConnect', () => {
        progress.encrypted();
        resolve(address);
      });
    });
  });
}

/** What `work` answers, unless that takes longer than `msMax`; then the error is thrown, and whatever becomes of the work is ignored. */
async function within<T>({ clock, signal }: ConnectorOptions, msMax: number, late: () => Error, work: Promise<T>): Promise<T> {
  const done = new AbortController();
  const waiting = clock.sleep(msMax, AbortSignal.any([done.signal, signal]));
  try {
    return await Promise.race([
      work,
      waiting.then(() => {
        throw late();
      }),
    ]);
  } finally {
    done.abort();
  }
}

function withTimings(error: unknown, timings: Connection['timings'], isConnected: boolean): OutboundError {
  if (error instanceof OutboundError) {
    const { code, message, isLiteral, cause } = error;
    return new OutboundError(code, { message, isLiteral, timings, cause });
  }
  const code = (error instanceof Error && 'code' in error && CONNECT_ERRORS[String(error.code)]) || undefined;
  // Once connected, only the encryption is left to fail, in more ways than can be listed.
  return new OutboundError(code ?? (isConnected ? 'tls_error' : 'internal'), { timings, cause: error });
}

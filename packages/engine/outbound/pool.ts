/** Connections to receivers, kept and reused per origin; tells a request which connection it runs on. */
import { Agent, Client, type Dispatcher, Pool } from 'undici';
import { type Connection, type ConnectorOptions, openConnector } from './connector.ts';

export interface ConnectionPool {
  /** Starts a request. Its origin must be an http or https URL. */
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): void;
  /** The connection of a request, from the moment its handler's `onRequestStart` is called. */
  connectionOf(handler: Dispatcher.DispatchHandler): Connection | undefined;
  /** Breaks all connections, also those under way. */
  close(): Promise<void>;
}

export interface PoolOptions extends Omit<ConnectorOptions, 'signal'> {
  readonly connectionsPerOrigin: number;
  readonly headerBytesMax: number;
}

/** An idle connection is kept this long, or as long as the receiver says, up to the limit: strangers may not hold our sockets for ever. */
const IDLE_MS = 4_000;
const IDLE_MS_MAX = 15_000;

export function openPool(options: PoolOptions): ConnectionPool {
  const closing = new AbortController();
  const connectorOptions: ConnectorOptions = { ...options, signal: closing.signal };
  /** The library does not say which socket a request is written to, so each request is told which client took it: a client has one socket. */
  const connections = new WeakMap<Dispatcher.DispatchHandler, () => Connection | undefined>();

  function openClient(origin: URL): Client {
    let current: Connection | undefined;
    const client = new Client(origin, {
      // One deadline limits the whole call; these would only fire late.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS_MAX,
      maxHeaderSize: options.headerBytesMax,
      pipelining: 1,
      allowH2: false,
      connect: openConnector(connectorOptions, (connection) => {
        current = connection;
      }),
    });
    const dispatch = client.dispatch.bind(client);
    client.dispatch = (request, handler) => {
      connections.set(handler, () => current);
      return dispatch(request, handler);
    };
    return client;
  }

  const agent = new Agent({
    factory: (origin) => new Pool(origin, { connections: options.connectionsPerOrigin, allowH2: false, factory: openClient }),
  });
  return {
    dispatch: (request, handler) => void agent.dispatch(request, handler),
    connectionOf: (handler) => connections.get(handler)?.(),
    async close() {
      closing.abort(new Error('the caller is closed'));
      await agent.destroy();
    },
  };
}

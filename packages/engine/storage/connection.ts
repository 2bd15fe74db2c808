/**
 * The connection pool. Every query has two deadlines: the server ends a statement that runs too long, and a socket on
 * which nothing comes back is destroyed, because postgres.js 3.4.9 would wait on a half-open connection for ever.
 */
import { connect, type Socket } from 'node:net';
import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';

export type Sql = postgres.Sql;
/** A connection inside `sql.begin`, or the pool itself. */
export type SqlLike = postgres.ISql;

export interface Database {
  /** Tagged-template queries, for statements whose locking or CTEs must be seen. */
  readonly sql: Sql;
  /** The same pool through Drizzle, for ordinary statements. */
  readonly orm: PostgresJsDatabase;
  /** Ends all connections; open queries get five seconds. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  /** Connections at most. */
  readonly poolSize?: number;
  /** Milliseconds after which a statement fails; 0 for none (migrations). */
  readonly statementTimeoutMs?: number;
}

const STATEMENT_TIMEOUT_MS = 10_000;
/** On top of the statement's own deadline: the server's answer that it gave up must be able to arrive. */
const SOCKET_GRACE_MS = 2_000;
const SOCKET_CHECK_MS = 1_000;

/** Opens a pool; no connection is made before the first query. */
export function openDatabase(options: DatabaseOptions): Database {
  const statementTimeoutMs = options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS;
  const watch = statementTimeoutMs > 0 ? watchSockets(statementTimeoutMs + SOCKET_GRACE_MS) : undefined;
  const exactText = (value: string) => value;
  const sql = postgres(options.url, {
    max: options.poolSize ?? 10,
    connect_timeout: 10,
    idle_timeout: 60,
    keep_alive: 15,
    onnotice: () => {},
    connection: {
      application_name: options.applicationName,
      statement_timeout: statementTimeoutMs,
      // A transaction whose client stopped talking must not keep its locks.
      idle_in_transaction_session_timeout: 30_000,
      TimeZone: 'UTC',
    },
    // JSON columns hold clients' exact text, which parsing would lose.
    types: { json: { to: 114, from: [114], serialize: exactText, parse: exactText } },
    ...(watch && { socket: watch.open }),
  });
  const orm = drizzle(sql);
  // Drizzle turns date parsing off on the client it is given; raw statements of this package want dates.
  sql.options.parsers[1184] = (text: string) => new Date(text);
  return {
    sql,
    orm,
    async close() {
      await sql.end({ timeout: 5 });
      watch?.close();
    },
  };
}

interface WatchedSocket {
  bytesRead: number;
  bytesWrittenAtRead: number;
  silentSince: number | undefined;
}

/** Makes sockets for postgres.js and destroys each on which data was sent but none came back within `deadlineMs`. */
function watchSockets(deadlineMs: number) {
  const sockets = new Map<Socket, WatchedSocket>();
  const timer = setInterval(() => {
    const now = performance.now();
    for (const [socket, seen] of sockets) {
      if (socket.bytesRead !== seen.bytesRead) {
        seen.bytesRead = socket.bytesRead;
        seen.bytesWrittenAtRead = socket.bytesWritten;
        seen.silentSince = undefined;
      } else if (socket.bytesWritten > seen.bytesWrittenAtRead) {
        seen.silentSince ??= now;
        if (now - seen.silentSince > deadlineMs) socket.destroy(new Error('the database did not answer in time'));
      }
    }
  }, SOCKET_CHECK_MS).unref();
  return {
    /**
     * Returns the socket while it still connects: writes wait in it, and a failure arrives as `close`, which postgres.js
     * handles. A rejected promise instead would leave its pool slot stuck in "connecting" (3.4.9).
     */
    open: ({ host, port, path }: { host: string[]; port: number[]; path?: string | undefined }): Promise<Socket> => {
      const socket = path ? connect(path) : connect(port[0] ?? 5432, host[0] ?? 'localhost');
      sockets.set(socket, { bytesRead: 0, bytesWrittenAtRead: 0, silentSince: undefined });
      socket.once('close', () => sockets.delete(socket));
      return Promise.resolve(socket);
    },
    close: () => clearInterval(timer),
  };
}

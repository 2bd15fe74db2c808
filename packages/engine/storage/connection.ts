/**
 * The connection pool over postgres.js. Every statement has two deadlines: the server ends one that runs too long, and a connection on
 * which nothing comes back is given up, because a half-open one would otherwise be waited on for ever.
 *
 * Each connection is a postgres.js client of its own with one connection, which is thrown away after any error but a plain refusal by the
 * server. Its own pool cannot be used through a restart of the server (3.4.9): a rollback or a reserved connection on a lost socket ends
 * the process, and statements that are put on a reconnecting client may never settle; `connection.test.ts` has the cases.
 */
import { connect, type Socket } from 'node:net';
import { type Clock, systemClock } from '@claimcheck/core';
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import pg from 'pg';
import postgres from 'postgres';
import { drizzle } from './drizzle.ts';

/** A statement as a template: each value becomes a parameter, never text. Arrays are Postgres arrays. Resolves to the rows. */
export type SqlLike = <Rows extends readonly object[] = readonly Record<string, unknown>[]>(
  text: TemplateStringsArray,
  ...values: readonly SqlValue[]
) => Promise<Rows>;
export type SqlValue = string | number | boolean | null | Date | Buffer | readonly (string | number | boolean | null)[];

/** Statements on any connection of the pool. */
export interface Sql extends SqlLike {
  /** Runs `work` in one transaction. @throws what `work` threw, after a rollback. */
  begin<Result>(work: (sql: Transaction) => Promise<Result>): Promise<Result>;
}

/** Statements on the one connection of a transaction. */
export interface Transaction extends SqlLike {
  /** Runs a script of several statements. */
  script(text: string): Promise<void>;
}

export interface Database {
  /** Tagged-template queries, for statements whose locking or CTEs must be seen. */
  readonly sql: Sql;
  /** Runs ordinary statements through Drizzle, on one connection. */
  orm<Result>(work: (orm: PostgresJsDatabase) => Promise<Result>): Promise<Result>;
  /** Waits for statements under way, which their deadlines end, then closes all connections. */
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
  /** Milliseconds that a new connection may take until it can be used. */
  readonly connectTimeoutMs?: number;
  readonly clock?: Clock;
}

/** No answer came: the connection was lost, refused, or silent for too long. Whether the statement was carried out is unknown. */
export class ConnectionLostError extends Error {
  override readonly name = 'ConnectionLostError';
  readonly code = 'CONNECTION_LOST';
}

/** Of booleans, numbers, texts and ids; the columns and results of this package have no others. */
const ARRAY_TYPES = [1000, 1005, 1007, 1009, 1016, 1021, 1022, 2951];

const STATEMENT_TIMEOUT_MS = 10_000;
/** On top of the statement's own deadline: the server's answer that it gave up must be able to arrive. */
const ANSWER_GRACE_MS = 2_000;
const CONNECT_TIMEOUT_MS = 10_000;

/** Opens a pool; no connection is made before the first statement. */
export function openDatabase(options: DatabaseOptions): Database {
  const poolSize = options.poolSize ?? 10;
  const idle: Connection[] = [];
  const waiting: ((connection: Connection) => void)[] = [];
  const borrowed = new Set<Promise<unknown>>();
  let open = 0;

  const acquire = (): Promise<Connection> => {
    const rested = idle.pop();
    if (rested) return Promise.resolve(rested);
    if (open < poolSize) {
      open += 1;
      return Promise.resolve(openConnection(options));
    }
    return new Promise((resolve) => waiting.push(resolve));
  };
  const giveBack = (connection: Connection) => {
    const next = waiting.shift();
    if (connection.isLost()) {
      connection.discard();
      // What happened to one most likely happened to those that rest; waiting for each to show it would take the deadline every time.
      for (const rested of idle.splice(0)) {
        rested.discard();
        open -= 1;
      }
      if (next) next(openConnection(options));
      else open -= 1;
    } else if (next) next(connection);
    else idle.push(connection);
  };
  const borrow = async <Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> => {
    const connection = await acquire();
    const working = work(connection);
    borrowed.add(working);
    try {
      return await working;
    } finally {
      borrowed.delete(working);
      giveBack(connection);
    }
  };

  return {
    sql: Object.assign(statementsOn(borrow), {
      begin: <Result>(work: (sql: Transaction) => Promise<Result>) => borrow((connection) => transact(connection, work)),
    }),
    orm: (work) => borrow((connection) => connection.run(() => work(connection.orm))),
    async close() {
      while (borrowed.size > 0 || waiting.length > 0) await Promise.allSettled(borrowed);
      await Promise.all(idle.splice(0).map((connection) => connection.end()));
    },
  };
}

interface Connection {
  readonly client: postgres.Sql;
  readonly orm: PostgresJsDatabase;
  /** Runs a statement within the deadline. @throws ConnectionLostError, or what the server said. */
  run<Result>(statement: () => PromiseLike<Result>): Promise<Result>;
  isLost(): boolean;
  /** Closes it without a word to the server. */
  discard(): void;
  end(): Promise<void>;
}

function openConnection(options: DatabaseOptions): Connection {
  const { statementTimeoutMs = STATEMENT_TIMEOUT_MS, connectTimeoutMs = CONNECT_TIMEOUT_MS, clock = systemClock } = options;
  const exactText = (value: string) => value;
  let socket: Socket | undefined;
  let isConnected = false;
  let lost = false;
  // Not among the client's declared options, but documented.
  const ownSocket = {
    /** Ours, so that it can be destroyed. Handed over while it still connects: what is written waits in it. */
    socket: ({ host, port, path }: { host: string[]; port: number[]; path?: string }) => {
      socket = path ? connect(path) : connect(port[0] ?? 5432, host[0] ?? 'localhost');
      socket.setKeepAlive(true, 15_000);
      socket.once('close', () => {
        lost = true;
      });
      return Promise.resolve(socket);
    },
  };
  const client = postgres(options.url, {
    max: 1,
    // Ours is the deadline; the client's own timer trips over a socket that is gone.
    connect_timeout: 0,
    onnotice: () => {},
    // It asks for the array types of the server on each new connection, and a connection that is lost meanwhile ends the process
    // (3.4.9: nobody waits for that question). Arrays are written and read here instead.
    fetch_types: false,
    connection: {
      application_name: options.applicationName,
      statement_timeout: statementTimeoutMs,
      // A transaction whose client stopped talking must not keep its locks.
      idle_in_transaction_session_timeout: 30_000,
      TimeZone: 'UTC',
    },
    // JSON columns hold clients' exact text, which parsing would lose.
    types: { json: { to: 114, from: [114], serialize: exactText, parse: exactText } },
    ...ownSocket,
  });
  const orm = drizzle(client);
  // Drizzle turns date parsing off on the client it is given; raw statements of this package want dates.
  client.options.parsers[1184] = (text: string) => new Date(text);
  for (const oid of ARRAY_TYPES) client.options.parsers[oid] = pg.types.getTypeParser(oid, 'text');

  /** The statement's result, unless nothing comes for `limitMs`; 0 is no limit. */
  const within = async <Result>(limitMs: number, statement: () => PromiseLike<Result>): Promise<Result> => {
    // Rested, and closed by the server meanwhile.
    if (lost) throw new ConnectionLostError('the connection was closed');
    const answered = new AbortController();
    const silence = clock
      .sleep(limitMs, answered.signal)
      .then(() => Promise.reject(new ConnectionLostError('the database did not answer in time')));
    silence.catch(() => {});
    try {
      return await (limitMs === 0 ? statement() : Promise.race([statement(), silence]));
    } catch (error) {
      if (isRefusal(error)) throw error;
      lost = true;
      throw error instanceof ConnectionLostError ? error : new ConnectionLostError('the connection was lost', { cause: error });
    } finally {
      answered.abort();
    }
  };
  return {
    client,
    orm,
    async run(statement) {
      if (!isConnected) {
        await within(connectTimeoutMs, () => client`select 1`);
        isConnected = true;
      }
      return within(statementTimeoutMs === 0 ? 0 : statementTimeoutMs + ANSWER_GRACE_MS, statement);
    },
    isLost: () => lost,
    discard() {
      socket?.destroy();
      client.end({ timeout: 0 }).catch(() => {});
    },
    end: () => client.end({ timeout: 5 }),
  };
}

/** True when the server refused the statement and goes on: with anything else there may be an answer on its way or a transaction open. */
function isRefusal(error: unknown): boolean {
  const cause = error instanceof Error && error.cause instanceof postgres.PostgresError ? error.cause : error;
  return cause instanceof postgres.PostgresError && cause.severity_local === 'ERROR';
}

async function transact<Result>(connection: Connection, work: (sql: Transaction) => Promise<Result>): Promise<Result> {
  const sql = Object.assign(
    statementsOn((run) => run(connection)),
    {
      async script(text: string) {
        await connection.run(() => connection.client.unsafe(text).simple());
      },
    },
  );
  await connection.run(() => connection.client`begin`);
  try {
    const result = await work(sql);
    await connection.run(() => connection.client`commit`);
    return result;
  } catch (error) {
    // A lost connection is thrown away, and the server rolls back when it sees that.
    if (!connection.isLost()) await connection.run(() => connection.client`rollback`);
    throw error;
  }
}

function statementsOn(borrow: <Result>(work: (connection: Connection) => Promise<Result>) => Promise<Result>): SqlLike {
  return <Rows extends readonly object[]>(text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<Rows> =>
    borrow((connection) =>
      connection.run(async () => {
        const rows = await connection.client(text, ...values.map(toParameter));
        // The caller says what it selects; the tests run every statement.
        return rows as unknown as Rows;
      }),
    );
}

/** Arrays as Postgres writes them. */
function toParameter(value: SqlValue): postgres.SerializableParameter {
  return isArray(value) ? `{${value.map(toElement).join(',')}}` : value;
}

function toElement(value: string | number | boolean | null): string {
  if (value === null) return 'NULL';
  return typeof value === 'string' ? `"${value.replace(/["\\]/g, '\\$&')}"` : String(value);
}

/** Array.isArray does not tell read-only arrays from the rest. */
function isArray(value: SqlValue): value is Extract<SqlValue, readonly unknown[]> {
  return Array.isArray(value);
}

/** How far this machine's clock is ahead of the database's, in milliseconds; the time the question takes counts half each way. */
export async function clockSkewMs(sql: Sql, clock: Clock): Promise<number> {
  const askedAt = clock.now();
  const [row] = await sql<{ now: number }[]>`select (extract(epoch from clock_timestamp()) * 1000)::double precision as now`;
  const answeredAt = clock.now();
  return Math.round((askedAt + answeredAt) / 2 - (row?.now ?? answeredAt));
}

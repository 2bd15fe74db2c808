/**
 * The connection pool. Every statement has two deadlines: the server ends one that runs too long, and a connection on which nothing
 * comes back is given up, because a half-open one would otherwise be waited on for ever.
 *
 * node-postgres instead of postgres.js: when a server restarts, 3.4.9 of that ends the process (a rollback or the start of a connection
 * on a socket that is gone), and queries it put on a dying connection never settle; `connection.test.ts` has the cases.
 */
import { createHash } from 'node:crypto';
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import pg from 'pg';

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
  /** The same pool through Drizzle, for ordinary statements. */
  readonly orm: NodePgDatabase;
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
  /** Milliseconds to wait for a new connection, or for a free one when all are busy. */
  readonly connectTimeoutMs?: number;
}

const STATEMENT_TIMEOUT_MS = 10_000;
/** On top of the statement's own deadline: the server's answer that it gave up must be able to arrive. */
const ANSWER_GRACE_MS = 2_000;
const CONNECT_TIMEOUT_MS = 10_000;
const JSON_TYPE = 114;

/** Opens a pool; no connection is made before the first query. */
export function openDatabase(options: DatabaseOptions): Database {
  const statementTimeoutMs = options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS;
  const pool = new pg.Pool({
    connectionString: options.url,
    application_name: options.applicationName,
    max: options.poolSize ?? 10,
    connectionTimeoutMillis: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 15_000,
    statement_timeout: statementTimeoutMs,
    ...(statementTimeoutMs > 0 && { query_timeout: statementTimeoutMs + ANSWER_GRACE_MS }),
    // A transaction whose client stopped talking must not keep its locks.
    idle_in_transaction_session_timeout: 30_000,
    options: '-c TimeZone=UTC',
    // JSON columns hold clients' exact text, which parsing would lose.
    types: { getTypeParser: (type, format) => (type === JSON_TYPE ? String : pg.types.getTypeParser(type, format)) },
  });
  // A lost connection fails the statement that runs on it; one that rests is replaced by the pool. Nobody else need know.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  return {
    sql: Object.assign(
      statementsOn((statement) => borrow(pool, (client) => client.query(statement))),
      {
        begin: <Result>(work: (sql: Transaction) => Promise<Result>) => borrow(pool, (client) => transact(client, work)),
      },
    ),
    // Drizzle asks its client for nothing but this, outside transactions, which are not used.
    orm: drizzle({ query: (...query: Parameters<Query>) => borrow(pool, (client) => client.query(...query)) } as unknown as pg.Pool),
    close: () => pool.end(),
  };
}

type Query = (statement: pg.QueryConfig, values?: unknown[]) => Promise<pg.QueryResult>;

/** The database did not answer, or not in time. The code is for edges that tell clients to try again. */
export class LostConnectionError extends Error {
  override readonly name = 'LostConnectionError';
  readonly code = 'CONNECTION_LOST';
}

/** node-postgres tells losses of its own in words alone; errors of the server and of the system have codes. */
function lossOf(error: unknown): unknown {
  return error instanceof Error && !('code' in error) ? new LostConnectionError(error.message, { cause: error }) : error;
}

interface Connection {
  readonly query: Query;
}

/** Gives a connection to `work` and takes it back, or throws it away when it may be broken. */
async function borrow<Result>(pool: pg.Pool, work: (connection: Connection) => Promise<Result>): Promise<Result> {
  const client = await pool.connect().catch((error: unknown) => Promise.reject(lossOf(error)));
  const query: Query = (statement, values) => client.query(statement, values).catch((error: unknown) => Promise.reject(lossOf(error)));
  try {
    const result = await work({ query });
    client.release();
    return result;
  } catch (error) {
    client.release(!isUsableAfter(error));
    throw error;
  }
}

async function transact<Result>(client: Connection, work: (sql: Transaction) => Promise<Result>): Promise<Result> {
  const sql = Object.assign(
    statementsOn((statement) => client.query(statement)),
    {
      async script(text: string) {
        await client.query({ text });
      },
    },
  );
  await client.query({ text: 'begin' });
  try {
    const result = await work(sql);
    await client.query({ text: 'commit' });
    return result;
  } catch (error) {
    // Otherwise the connection is thrown away, and the server rolls back when it sees that.
    if (isUsableAfter(error)) await client.query({ text: 'rollback' });
    throw error;
  }
}

/** True when the server only refused a statement. Anything else may have left an answer on its way, or a transaction open. */
function isUsableAfter(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity === 'ERROR';
}

function statementsOn(run: Query): SqlLike {
  return async <Rows extends readonly object[]>(text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<Rows> => {
    const { rows } = await run({ ...prepared(text), values: [...values] });
    // The caller says what it selects; the tests run every statement.
    return rows as unknown as Rows;
  };
}

/** Statements by their place in the source, which is what a template's strings are the same object for. */
const statements = new WeakMap<TemplateStringsArray, { readonly name: string; readonly text: string }>();

/** The statement with its parameters numbered, and a name under which each connection prepares it once. */
function prepared(strings: TemplateStringsArray): { readonly name: string; readonly text: string } {
  const known = statements.get(strings);
  if (known) return known;
  const text = strings.reduce((before, after, index) => `${before}$${index}${after}`);
  const statement = { name: createHash('sha256').update(text).digest('base64url'), text };
  statements.set(strings, statement);
  return statement;
}

/** The controller's own look into the database, past every proxy: what became of jobs, who waits for a lock, and faults made in SQL. */
import pg from 'pg';

export interface Observer extends AsyncDisposable {
  readonly url: string;
  rows<Row extends object>(statement: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** Keeps rows locked, as an operator's forgotten session would, until it is let go. */
  lock(statement: string, values?: readonly unknown[]): Promise<RowLock>;
}

export interface RowLock {
  /** Application names of those who wait for it. */
  waiting(): Promise<readonly string[]>;
  letGo(): Promise<void>;
}

/** `url` goes straight to the server. */
export function observe(url: string): Observer {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'chaos',
    max: 4,
    connectionTimeoutMillis: 5_000,
    query_timeout: 20_000,
  });
  pool.on('error', () => {});
  const rows = async <Row extends object>(statement: string, values: readonly unknown[] = []): Promise<readonly Row[]> => {
    const { rows: found } = await pool.query(statement, [...values]);
    // The caller says what it selects.
    return found as Row[];
  };
  return {
    url,
    rows,
    async lock(statement, values = []) {
      const client = new pg.Client({ connectionString: url, application_name: 'chaos-lock' });
      client.on('error', () => {});
      await client.connect();
      await client.query('begin');
      const { rowCount } = await client.query(statement, [...values]);
      if (rowCount === 0) throw new Error('there was nothing to lock');
      const [own] = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows;
      return {
        async waiting() {
          // Those behind somebody who waits for us wait for us as well.
          const waiters = await rows<{ name: string }>(
            `with recursive behind (pid) as (
               select $1::integer union
               select activity.pid from pg_stat_activity as activity join behind on behind.pid = any(pg_blocking_pids(activity.pid))
             )
             select application_name as name from pg_stat_activity join behind using (pid) where pid <> $1`,
            [own?.pid],
          );
          return waiters.map(({ name }) => name);
        },
        async letGo() {
          await client.end().catch(() => {});
        },
      };
    },
    [Symbol.asyncDispose]: () => pool.end(),
  };
}

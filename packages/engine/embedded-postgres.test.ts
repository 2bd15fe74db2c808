import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import postgres from 'postgres';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { EmbeddedPostgresError, type EmbeddedPostgresOptions, readEmbeddedUrl, startEmbeddedPostgres } from './embedded-postgres.ts';
import { findPlace, packagedPrograms, SERVER_ENVIRONMENT, savedDataPath } from './embedded-postgres-place.ts';
import { identify } from './embedded-postgres-process.ts';

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const cleanUps: (() => Promise<unknown>)[] = [];
const isRoot = process.getuid?.() === 0;

/** Most tests go on with the same cluster, because making one takes longer than the rest of the test. */
let sharedDir = '';
beforeAll(async () => {
  sharedDir = await mkdtemp(join(tmpdir(), 'claimcheck-postgres-'));
  await chmod(sharedDir, 0o755);
});
afterAll(() => rm(sharedDir, { recursive: true, force: true }));

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** A folder that everybody may pass, unlike the private one that mkdtemp makes; root's server needs that. */
async function folder(mode = 0o755): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'claimcheck-postgres-'));
  await chmod(dir, mode);
  cleanUps.push(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

async function start(dataDir: string, options: Partial<EmbeddedPostgresOptions> = {}) {
  const server = await startEmbeddedPostgres({ dataDir, log, isDurable: false, ...options });
  cleanUps.push(() => server.stop());
  return server;
}

async function query<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Commits something new and returns it. */
async function writeNote(url: string): Promise<string> {
  const note = randomUUID();
  await query(url, async (sql) => {
    await sql`create table if not exists notes (note text)`;
    await sql`insert into notes values (${note})`;
  });
  return note;
}

const readNotes = (url: string) =>
  query(url, (sql) => sql<{ note: string }[]>`select note from notes`.then((rows) => rows.map((row) => row.note)));

/** Another process of ours that runs a server on `dataDir`; `then` runs with `server` and `postgres` in scope. */
async function otherProcess(
  dataDir: string,
  then: string,
): Promise<{ process: ChildProcess; serverPid: number; url: string; line(): Promise<string> }> {
  const source = `
    import { startEmbeddedPostgres } from ${JSON.stringify(new URL('./embedded-postgres.ts', import.meta.url).href)};
    import postgres from ${JSON.stringify(import.meta.resolve('postgres'))};
    const log = { debug() {}, info() {}, warn() {}, error() {} };
    const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, log, isDurable: true });
    ${then}
    console.log(JSON.stringify({ serverPid: server.pid, url: server.url }));
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
  cleanUps.push(async () => {
    if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL')) await once(child, 'exit');
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async () => String((await lines.next()).value);
  return { process: child, line, ...(JSON.parse(await line()) as { serverPid: number; url: string }) };
}

/** Resolves when no process has this pid any more. */
async function gone(pid: number): Promise<void> {
  await expect.poll(() => identify(pid), { timeout: 5000, interval: 20 }).toBeUndefined();
}

test('what was committed is there after a stop and a start, under the same URL', async () => {
  const dataDir = sharedDir;
  const first = await start(dataDir);
  const note = await writeNote(first.url);
  expect(await readEmbeddedUrl(dataDir)).toBe(first.url);
  await Promise.all([first.stop(), first.stop()]);
  expect(await first.exited).toEqual({ code: 0, signal: null });
  expect(await readEmbeddedUrl(dataDir)).toBeUndefined();

  const second = await start(dataDir);
  expect(second.url).toBe(first.url);
  expect(await readNotes(second.url)).toContain(note);
});

test('the server asks for the password, listens on the loopback address only, and keeps the password private', async () => {
  const dataDir = sharedDir;
  const server = await start(dataDir);
  const strange = new URL(server.url);
  strange.password = 'guess';
  await expect(query(strange.href, (sql) => sql`select 1`)).rejects.toMatchObject({ code: '28P01' });
  const [settings] = await query(
    server.url,
    (sql) => sql`select current_setting('listen_addresses') as host, current_setting('unix_socket_directories') as sockets,
      current_setting('server_encoding') as encoding`,
  );
  expect(settings).toEqual({ host: '127.0.0.1', sockets: '', encoding: 'UTF8' });
  expect((await stat(join(dataDir, 'postgres.json'))).mode & 0o777).toBe(0o600);
  expect((await stat(await savedDataPath(dataDir))).mode & 0o777).toBe(0o700);
});

test('a durable server syncs to disk', async () => {
  const server = await start(sharedDir, { isDurable: true });
  expect(await query(server.url, (sql) => sql`select current_setting('fsync'), current_setting('synchronous_commit')`.values())).toEqual([
    ['on', 'on'],
  ]);
});

test('the server ends with a process that is killed, and the next start finds what was committed', async () => {
  const dataDir = sharedDir;
  const other = await otherProcess(dataDir, '');
  const note = await writeNote(other.url);
  other.process.kill('SIGKILL');
  await gone(other.serverPid);
  expect(await readNotes((await start(dataDir)).url)).toContain(note);
});

test('a start right after a kill waits for the old server instead of meeting it', async () => {
  const dataDir = sharedDir;
  const other = await otherProcess(dataDir, '');
  const note = await writeNote(other.url);
  other.process.kill('SIGKILL');
  await once(other.process, 'exit');
  const next = await start(dataDir);
  expect(await identify(other.serverPid)).toBeUndefined();
  expect(await readNotes(next.url)).toContain(note);
});

test('a server that nobody watches any more is stopped by the next start', async () => {
  const dataDir = sharedDir;
  const first = await start(dataDir);
  const note = await writeNote(first.url);
  await first.stop();
  const place = await findPlace(dataDir, log);
  const orphan = spawn(
    join(place.programs, 'bin', 'postgres'),
    ['-D', place.dataPath, '-c', `port=${new URL(first.url).port}`, '-c', 'unix_socket_directories='],
    {
      ...place.account,
      cwd: '/',
      env: SERVER_ENVIRONMENT,
      stdio: 'ignore',
    },
  );
  const ended = once(orphan, 'exit');
  await expect.poll(() => readEmbeddedUrl(dataDir), { timeout: 5000, interval: 20 }).toBeDefined();
  const next = await start(dataDir);
  expect(await ended).toEqual([0, null]);
  expect(await readNotes(next.url)).toContain(note);
});

test('a pid file that names another program is ignored, and that program is left alone', async () => {
  const dataDir = sharedDir;
  await (await start(dataDir)).stop();
  const { account } = await findPlace(dataDir, log);
  const bystander = spawn('/bin/sh', ['-c', 'read -r line'], { ...account, cwd: '/', stdio: ['pipe', 'ignore', 'ignore'] });
  cleanUps.push(async () => {
    bystander.stdin.end();
    await once(bystander, 'exit');
  });
  const pidFile = join(await savedDataPath(dataDir), 'postmaster.pid');
  await writeFile(pidFile, `${bystander.pid}\n${dirname(pidFile)}\n1700000000\n5432\n\n127.0.0.1\n\nready\n`);
  expect(await readEmbeddedUrl(dataDir)).toBeUndefined();
  await start(dataDir);
  expect(await identify(bystander.pid ?? 0)).toBeDefined();
});

test('a pid file that a crash left empty does not keep the server from starting', async () => {
  await (await start(sharedDir)).stop();
  await writeFile(join(await savedDataPath(sharedDir), 'postmaster.pid'), '');
  expect(await readEmbeddedUrl(sharedDir)).toBeUndefined();
  const server = await start(sharedDir);
  expect(await readEmbeddedUrl(sharedDir)).toBe(server.url);
});

test('Ctrl-C in the terminal does not reach the server', async () => {
  const other = await otherProcess(
    sharedDir,
    `process.on('SIGINT', async () => {
      // A server that shuts down would break the connection while it waits.
      const sql = postgres(server.url, { max: 1 });
      const [row] = await sql\`select 'alive' as state from pg_sleep(0.3)\`.catch((error) => [{ state: error.code }]);
      console.log(row.state);
      process.exit(0);
    });`,
  );
  process.kill(-(other.process.pid ?? 0), 'SIGINT');
  expect(await other.line()).toBe('alive');
  await gone(other.serverPid);
});

test('the owner learns that the server died on its own, and can start it again', async () => {
  const dataDir = sharedDir;
  // Durable, because the other mode may lose the newest commits.
  const server = await start(dataDir, { isDurable: true });
  const note = await writeNote(server.url);
  process.kill(server.pid, 'SIGKILL');
  expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' });
  await server.stop();
  expect(await readNotes((await start(dataDir)).url)).toContain(note);
});

test('the rest of an interrupted initialisation is removed', async () => {
  const dataDir = await folder();
  await mkdir(join(dataDir, 'postgres.init-abc', 'data'), { recursive: true });
  await writeFile(join(dataDir, 'postgres.init-abc', 'data', 'PG_VERSION'), '18\n');
  const server = await start(dataDir);
  expect(await query(server.url, (sql) => sql`select current_database()`.values())).toEqual([['claimcheck']]);
  await expect(stat(join(dataDir, 'postgres.init-abc'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a lost password is reported, not replaced by an empty database', async () => {
  await (await start(sharedDir)).stop();
  const [file, elsewhere] = [join(sharedDir, 'postgres.json'), join(sharedDir, 'elsewhere.json')];
  await rename(file, elsewhere);
  cleanUps.push(() => rename(elsewhere, file));
  await expect(start(sharedDir)).rejects.toThrow(EmbeddedPostgresError);
});

test('a data folder that cannot be made is reported in one sentence', async () => {
  const file = join(await folder(), 'file');
  await writeFile(file, '');
  await expect(start(join(file, 'data'))).rejects.toThrow(
    `The data folder ${join(file, 'data')} cannot be used: a part of the path is a file`,
  );
});

test('a port that was asked for and is taken is reported in one sentence', async () => {
  const first = await start(sharedDir);
  const { port } = new URL(first.url);
  await expect(start(await folder(), { port: Number(port) })).rejects.toThrow(
    `Port ${port} of 127.0.0.1, meant for the embedded Postgres, is taken`,
  );
});

test('two data folders of one machine each get a port of their own, even when they remember the same one', async () => {
  const two = await folder();
  const first = await start(sharedDir);
  await (await start(two)).stop();
  const remembered = JSON.parse(await readFile(join(two, 'postgres.json'), 'utf8'));
  await writeFile(join(two, 'postgres.json'), JSON.stringify({ ...remembered, port: Number(new URL(first.url).port) }));
  const second = await start(two);
  expect(new URL(second.url).port).not.toBe(new URL(first.url).port);
});

test('a folder that only its owner may enter works, for root too', async () => {
  const dataDir = join(await folder(0o700), 'data');
  const server = await start(dataDir);
  const dataPath = await savedDataPath(dataDir);
  if (isRoot) cleanUps.unshift(() => rm(dirname(dataPath), { recursive: true, force: true }));
  const note = await writeNote(server.url);
  await server.stop();
  expect(await readNotes((await start(dataDir)).url)).toContain(note);
  // Root's server runs as somebody else, who cannot pass here; everybody else's data stays where it was asked for.
  expect(dataPath === join(dataDir, 'postgres')).toBe(!isRoot);
  expect((await stat(dataPath)).uid === 0).toBe(false);
});

test('programs that the account of the server cannot reach are copied for it, once; ours are used as they are', async () => {
  const [dataDir, hidden] = [await folder(), await folder(0o700)];
  const packaged = await packagedPrograms();
  await cp(packaged.dir, join(hidden, 'native'), { recursive: true, verbatimSymlinks: true });
  const programs = { dir: join(hidden, 'native'), version: `test-${process.pid}` };
  const copies: object[] = [];
  const copyLog = { info: (fields: object) => copies.push(fields) };
  const first = await findPlace(dataDir, copyLog, programs);
  if (isRoot) cleanUps.push(() => rm(first.programs, { recursive: true, force: true }));
  expect(await findPlace(dataDir, copyLog, programs)).toEqual(first);
  expect(first.programs === programs.dir).toBe(!isRoot);
  expect(copies).toHaveLength(isRoot ? 1 : 0);
});

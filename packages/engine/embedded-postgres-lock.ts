/**
 * The lock on a data folder: one claimcheck per folder.
 * `lock/` holds numbered files and the highest number is the lock. A number is taken by creating its file exclusively, which only one
 * process can do; a stale lock is followed by the next number and never overwritten, because between looking at a file and replacing it
 * someone else may have done the same. The last file stays behind at release, emptied of its holder, so that no number is used twice.
 * Containers that share a folder but not their pids cannot see each other; there the newer one wins.
 */
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { StartError, systemClock } from '@claimcheck/core';
import { errorCode, writingTo } from './embedded-postgres-errors.ts';
import { identify, type ProcessIdentity } from './embedded-postgres-process.ts';

/** Another running claimcheck uses the data folder. The message is ready to print. */
export class DataDirLockedError extends StartError {
  override readonly name = 'DataDirLockedError';
  readonly dataDir: string;
  readonly pid: number;
  constructor(dataDir: string, pid: number) {
    super(`The data folder ${dataDir} is in use by another claimcheck (process ${pid}); stop that one or set DATA_DIR to another folder.`);
    this.dataDir = dataDir;
    this.pid = pid;
  }
}

export interface DataDirLock {
  /** Gives the folder free. Harmless when called again or when the folder is gone. */
  release(): Promise<void>;
}

/** How often a lock file without content is looked at again, 10 ms apart: its writer is between creating and filling it, or died there. */
const UNFILLED_LOOKS = 50;

/**
 * Locks the folder, which is created when missing. A lock whose process has ended is taken over.
 * @throws DataDirLockedError when a process that still runs holds it, this one included.
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  const dir = join(resolve(dataDir), 'lock');
  return await writingTo(resolve(dataDir), async () => {
    await mkdir(dir, { recursive: true });
    for (;;) {
      const taken = await newest(dir);
      const holder = await readHolder(dir, taken);
      if (holder) throw new DataDirLockedError(resolve(dataDir), holder.pid);
      const mine = taken + 1;
      if (!(await createExclusively(dir, mine, await identify(process.pid)))) continue;
      if ((await newest(dir)) !== mine) {
        // This process slept between looking and creating, and the number it took was long past.
        await rm(join(dir, String(mine)), { force: true });
        continue;
      }
      await removeBefore(dir, mine);
      return { release: () => release(dir, mine) };
    }
  });
}

async function newest(dir: string): Promise<number> {
  const numbers = (await readdir(dir)).filter((name) => /^\d+$/.test(name)).map(Number);
  return Math.max(0, ...numbers);
}

/** The running process that holds lock `number`, if any. */
async function readHolder(dir: string, number: number): Promise<ProcessIdentity | undefined> {
  if (number === 0) return undefined;
  for (let look = 0; look < UNFILLED_LOOKS; look++) {
    const text = await readFile(join(dir, String(number)), 'utf8').catch((error: unknown) => {
      // Removed by a newer holder, whom the next round will meet.
      if (errorCode(error) === 'ENOENT') return RELEASED;
      throw error;
    });
    const [pid, startedAt] = text.split('\n');
    if (text === RELEASED) return undefined;
    if (pid && startedAt && text.endsWith('\n')) {
      const running = await identify(Number(pid));
      return running?.startedAt === startedAt ? running : undefined;
    }
    await systemClock.sleep(10);
  }
  return undefined;
}

/** What a lock file says when nobody holds it. */
const RELEASED = 'released\n';

async function createExclusively(dir: string, number: number, holder: ProcessIdentity | undefined): Promise<boolean> {
  try {
    await using file = await open(join(dir, String(number)), 'wx');
    await file.writeFile(holder ? `${holder.pid}\n${holder.startedAt}\n` : RELEASED);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function removeBefore(dir: string, number: number): Promise<void> {
  for (const name of await readdir(dir)) if (Number.parseInt(name, 10) < number) await rm(join(dir, name), { force: true });
}

async function release(dir: string, number: number): Promise<void> {
  const [file, released] = [join(dir, String(number)), join(dir, `${number}.released`)];
  try {
    await writeFile(released, RELEASED);
    await rename(released, file);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** The key that encrypts webhook secrets where the operator has named none: made once, and kept in the data folder. */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StartError } from '@claimcheck/core';
import { newSecretKey, parseSecretKeys } from '@claimcheck/engine';

type SecretKeys = NonNullable<ReturnType<typeof parseSecretKeys>>;

/**
 * The keys in `DATA_DIR/secret-key`, which is made when it is missing. Processes that start at once get the same.
 * @throws StartError for a file that holds something else: another key in its stead would lock every stored secret away.
 */
export async function ownSecretKeys(dataDir: string): Promise<SecretKeys> {
  const file = join(dataDir, 'secret-key');
  const text = (await readIfThere(file)) ?? (await make(dataDir, file));
  const keys = parseSecretKeys(text.trim());
  if (!keys) throw new StartError(`${file} must hold a key as in SECRET_KEY, and does not: restore it, or set SECRET_KEY.`);
  return keys;
}

/** Written whole and to the disk before it gets its name; whoever names it first wins. Returns what the winner wrote. */
async function make(dataDir: string, file: string): Promise<string> {
  await mkdir(dataDir, { recursive: true });
  const draft = `${file}.${randomBytes(8).toString('hex')}`;
  try {
    await using handle = await open(draft, 'wx', 0o600);
    await handle.writeFile(`${newSecretKey()}\n`);
    await handle.sync();
    await link(draft, file).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  } finally {
    await rm(draft, { force: true });
  }
  return readFile(file, 'utf8');
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

/** The error of the embedded Postgres, and the wording of the file system's own errors. */
import { StartError } from '@claimcheck/core';

/** The embedded Postgres cannot be used. The message is one sentence that says what to do and is ready to print. */
export class EmbeddedPostgresError extends StartError {
  override readonly name = 'EmbeddedPostgresError';
}

/** What the file system's codes mean to the person who chose the folder. */
const FILE_SYSTEM_FAULTS: Readonly<Record<string, string>> = {
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  ENOTDIR: 'a part of the path is a file',
  EEXIST: 'a file is in its place',
};

/** Runs `work`, and turns a fault of the file system below `dir` into a sentence. Other errors pass. */
export async function writingTo<T>(dir: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const fault = FILE_SYSTEM_FAULTS[errorCode(error) ?? ''];
    if (!fault) throw error;
    throw new EmbeddedPostgresError(`The data folder ${dir} cannot be used: ${fault}; choose another with DATA_DIR or set DATABASE_URL.`, {
      cause: error,
    });
  }
}

/** The code of a system error such as ENOENT. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DataDirLockedError, lockDataDir } from './embedded-postgres-lock.ts';
import { identify } from './embedded-postgres-process.ts';

let dataDir = '';
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'claimcheck-lock-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

/** Leaves lock number `number` as an earlier process would have. */
async function leaveLock(number: number, text: string): Promise<void> {
  await mkdir(join(dataDir, 'lock'), { recursive: true });
  await writeFile(join(dataDir, 'lock', String(number)), text);
}

async function startTogether(count: number) {
  const outcomes = await Promise.allSettled(Array.from({ length: count }, () => lockDataDir(dataDir)));
  return {
    winners: outcomes.filter((outcome) => outcome.status === 'fulfilled'),
    refusals: outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : [])),
  };
}

test('a second lock is refused with the folder and the pid of the holder', async () => {
  const lock = await lockDataDir(dataDir);
  const refusal = await lockDataDir(dataDir).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(DataDirLockedError);
  expect((refusal as DataDirLockedError).message).toContain(dataDir);
  expect((refusal as DataDirLockedError).message).toContain(`process ${process.pid}`);
  await lock.release();
});

test('a released lock can be taken again, and releasing twice frees nobody else', async () => {
  const first = await lockDataDir(dataDir);
  await first.release();
  const second = await lockDataDir(dataDir);
  await first.release();
  await expect(lockDataDir(dataDir)).rejects.toThrow(DataDirLockedError);
  await second.release();
});

test('of many that start together exactly one gets the lock', async () => {
  const { winners, refusals } = await startTogether(20);
  expect(winners).toHaveLength(1);
  expect(refusals.every((refusal) => refusal instanceof DataDirLockedError)).toBe(true);
});

test('the lock of a process whose pid now belongs to another is taken over, by exactly one', async () => {
  const self = await identify(process.pid);
  await leaveLock(7, `${process.pid}\n${self?.startedAt}0\n`);
  const { winners } = await startTogether(20);
  expect(winners).toHaveLength(1);
  expect(await readdir(join(dataDir, 'lock'))).toEqual(['8']);
});

test('a lock with the pid and the start of a running process holds', async () => {
  const self = await identify(process.pid);
  await leaveLock(7, `${process.pid}\n${self?.startedAt}\n`);
  await expect(lockDataDir(dataDir)).rejects.toThrow(DataDirLockedError);
});

test('a lock file that its writer never filled is taken over', async () => {
  await leaveLock(3, '');
  await using released = new AsyncDisposableStack();
  const lock = await lockDataDir(dataDir);
  released.defer(() => lock.release());
  expect(await readdir(join(dataDir, 'lock'))).toEqual(['4']);
});

import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@claimcheck/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSpool, writeChunks } from './spool.ts';
import { createTestClock } from './testing/test-clock.ts';

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'claimcheck-spool-'));
  folder = join(parent, 'incoming');
});
afterEach(() => rm(parent, { recursive: true, force: true }));

async function* chunks() {
  yield Buffer.from('one ');
  yield Buffer.from('two');
}

test('a file is there while it is worked on, and gone when the work is over or has failed', async () => {
  const spool = openSpool({ folder, clock: systemClock });
  const text = await spool.withFile(async (path) => {
    await writeChunks(path, chunks());
    return readFile(path, 'utf8');
  });
  expect(text).toBe('one two');
  const failure = new Error('no picture');
  const failing = spool.withFile(async (path) => {
    await writeChunks(path, chunks());
    throw failure;
  });
  await expect(failing).rejects.toBe(failure);
  // Nothing was written.
  await spool.withFile(async () => {});
  expect(await readdir(folder)).toEqual([]);
});

test('what a process that died has left is removed after an hour, and nothing that is younger', async () => {
  const clock = createTestClock();
  await mkdir(folder);
  const leave = async (name: string, ageSeconds: number) => {
    const touchedAt = clock.now() / 1_000 - ageSeconds;
    await writeFile(join(folder, name), 'x');
    await utimes(join(folder, name), touchedAt, touchedAt);
  };
  await leave('old', 3_601);
  await leave('young', 3_500);
  const spool = openSpool({ folder, clock });
  await spool.withFile(async () => {});
  expect(await readdir(folder)).toEqual(['young']);
  // Not at every file: folders on a network are slow to list.
  await leave('older', 7_200);
  await spool.withFile(async () => {});
  expect(await readdir(folder)).toEqual(['older', 'young']);
  clock.advance(3_600_001);
  await spool.withFile(async () => {});
  expect(await readdir(folder)).toEqual([]);
});

import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StartError } from '@claimcheck/core';
import { newSecretKey } from '@claimcheck/engine';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ownSecretKeys } from './secret-key.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'claimcheck-key-'));
});
afterEach(() => rm(folder, { recursive: true }));

const textsOf = async (dataDir: string) => (await ownSecretKeys(dataDir)).map((key) => key.export().toString('base64'));

test('the key is made once, in a folder that is made too, for its owner alone to read', async () => {
  const dataDir = join(folder, 'below', 'data');
  const made = await textsOf(dataDir);
  expect(made).toEqual([(await readFile(join(dataDir, 'secret-key'), 'utf8')).trim()]);
  expect((await stat(join(dataDir, 'secret-key'))).mode & 0o777).toBe(0o600);
  expect(await textsOf(dataDir)).toEqual(made);
});

test('twenty that start at once get the same key, and nothing else is left behind', async () => {
  const keys = await Promise.all(Array.from({ length: 20 }, () => textsOf(folder)));
  expect(new Set(keys.flat()).size).toBe(1);
  expect(await readdir(folder)).toEqual(['secret-key']);
});

test('a file with several keys is one of an operator who changes them', async () => {
  const keys = [newSecretKey(), newSecretKey()];
  await writeFile(join(folder, 'secret-key'), `${keys.join(',')}\n`);
  expect(await textsOf(folder)).toEqual(keys);
});

test.each(['', 'not a key'])('a file that holds %j is reported, and left as it is', async (text) => {
  const file = join(folder, 'secret-key');
  await writeFile(file, text);
  await expect(ownSecretKeys(folder)).rejects.toThrow(StartError);
  await expect(ownSecretKeys(folder)).rejects.toThrow(`${file} must hold a key`);
  expect(await readFile(file, 'utf8')).toBe(text);
});

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Program, providePrograms } from './programs.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'claimcheck-programs-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  await rm(folder, { recursive: true, force: true });
});

const PROGRAM: Program = { names: ['best-of-all', 'second-best'], debianPackage: 'all', advice: 'The tests need the best: install it.' };

async function putProgram(name: string, mode = 0o755): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, '#!/bin/sh\n');
  await chmod(path, mode);
  return path;
}

/** An account that may not install anything, whoever runs the test. */
function asOrdinaryUser(): void {
  vi.spyOn(process, 'getuid').mockReturnValue(1000);
}

test('a program on the PATH is used as it is', async () => {
  vi.stubEnv('PATH', ['/nowhere', folder].join(delimiter));
  const path = await putProgram('best-of-all');
  expect(await providePrograms([PROGRAM])).toEqual([path]);
});

test('another name will do, unless there is the first', async () => {
  vi.stubEnv('PATH', folder);
  const second = await putProgram('second-best');
  expect(await providePrograms([PROGRAM])).toEqual([second]);
  const best = await putProgram('best-of-all');
  expect(await providePrograms([PROGRAM])).toEqual([best]);
});

test('who may not install is told what to install, for everything that is missing', async () => {
  asOrdinaryUser();
  vi.stubEnv('PATH', folder);
  const other: Program = { names: ['other'], debianPackage: 'other', advice: 'And the other: install it too.' };
  await expect(providePrograms([PROGRAM, other])).rejects.toThrow('The tests need the best: install it. And the other: install it too.');
});

test('a file that cannot be executed is no program', async () => {
  asOrdinaryUser();
  vi.stubEnv('PATH', folder);
  await putProgram('best-of-all', 0o644);
  await expect(providePrograms([PROGRAM])).rejects.toThrow('The tests need the best: install it.');
});

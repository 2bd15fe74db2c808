import { access, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, systemClock } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aJob, sha256 } from './testing/fixtures.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

let owned: TestEngine;
let jobId: string;
beforeEach(async () => {
  owned = await createTestEngine();
  jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
});
afterEach(() => owned[Symbol.asyncDispose]());

const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));

async function store(content = bytes): Promise<string> {
  const { location } = await owned.engine.assets.store(jobId, { bytes: content, contentType: 'image/webp', fileName: 'ein Bild.webp' });
  return 'asset' in location ? location.asset : '';
}
const pathOf = (token: string) => join(owned.assetsFolder, token.slice(0, 2), token);
const textOf = async (stream: ReadableStream<Uint8Array>) => Buffer.from(await new Response(stream).arrayBuffer());

describe('a stored file', () => {
  test('is described as it was handed in, under an address of 256 random bits', async () => {
    const token = await store();
    expect(token).toMatch(/^[A-Za-z0-9_-]{43}$/);
    const asset = { token, contentType: 'image/webp', fileName: 'ein Bild.webp', bytes: bytes.length, sha256: sha256(bytes) };
    expect(await owned.engine.assets.find(token)).toEqual(asset);
    expect(await store()).not.toBe(token);
  });

  test('reads back byte for byte, whole and in ranges', async () => {
    const token = await store();
    const { assets } = owned.engine;
    expect(await textOf(assets.read(token))).toEqual(bytes);
    expect(await textOf(assets.read(token, { start: 0, end: 0 }))).toEqual(bytes.subarray(0, 1));
    expect(await textOf(assets.read(token, { start: 100_000, end: 199_999 }))).toEqual(bytes.subarray(100_000));
  });

  test('can be empty', async () => {
    const token = await store(Buffer.alloc(0));
    expect(await owned.engine.assets.find(token)).toMatchObject({ bytes: 0 });
    expect(await textOf(owned.engine.assets.read(token))).toHaveLength(0);
  });

  test('is for the eyes of this process alone', async () => {
    expect((await stat(pathOf(await store()))).mode & 0o777).toBe(0o600);
  });

  test('can be left in the middle by a client that goes away', async () => {
    const reader = owned.engine.assets.read(await store()).getReader();
    expect((await reader.read()).value?.length).toBeGreaterThan(0);
    await reader.cancel();
  });

  test('lives as long as its job is readable', async () => {
    const token = await store();
    await owned.engine.cancel({ id: jobId, callerId: owned.callerId });
    await owned.setClockAhead(3_590);
    expect(await owned.engine.assets.find(token)).toBeDefined();
    await owned.setClockAhead(3_601);
    expect(await owned.engine.assets.find(token)).toBeUndefined();
  });
});

describe('an address', () => {
  test.each(['', '../../../etc/passwd', 'A'.repeat(43), 'A'.repeat(44), `${'A'.repeat(42)}/`, 'ö'])(
    'that nobody was given (%j) is undefined',
    async (token) => {
      expect(await owned.engine.assets.find(token)).toBeUndefined();
    },
  );

  test('whose file is gone from the disk fails when it is read', async () => {
    const token = await store();
    await owned.engine.assets.remove([token]);
    await expect(textOf(owned.engine.assets.read(token))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('removing', () => {
  test('takes away these files and no others, and does not mind those that are gone', async () => {
    const [first, second] = [await store(), await store()];
    await owned.engine.assets.remove([first]);
    await owned.engine.assets.remove([first, 'B'.repeat(43)]);
    await expect(access(pathOf(first))).rejects.toMatchObject({ code: 'ENOENT' });
    await access(pathOf(second));
  });
});

test('a file for a job that is gone is refused and leaves nothing on the disk', async () => {
  const file = { bytes, contentType: 'image/webp', fileName: 'x' };
  await expect(owned.engine.assets.store(newId(systemClock), file)).rejects.toThrow();
  expect(await readdir(owned.assetsFolder)).toEqual([]);
});

test('files that are stored while their jobs are purged are not left on the disk', async () => {
  const jobs = await Promise.all(Array.from({ length: 20 }, () => aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' })));
  const storing = jobs.flatMap((id) =>
    Array.from({ length: 5 }, () => owned.engine.assets.store(id, { bytes, contentType: 'image/webp', fileName: 'x' })),
  );
  const stored = Promise.allSettled(storing);
  await expect.poll(() => owned.sql`select from assets`, { interval: 1 }).not.toHaveLength(0);
  await Promise.all(jobs.map((id) => owned.engine.purge({ id, callerId: owned.callerId })));
  await stored;
  const left = await readdir(owned.assetsFolder, { recursive: true, withFileTypes: true });
  expect(left.filter((entry) => entry.isFile())).toEqual([]);
});

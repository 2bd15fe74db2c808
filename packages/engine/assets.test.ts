import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, systemClock } from '@claimcheck/core';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openS3Place } from './assets-s3.ts';
import { aJob, sha256 } from './testing/fixtures.ts';
import { type S3Server, startS3Server } from './testing/s3-server.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
const MEBIBYTE = 1024 * 1024;

const textOf = async (stream: ReadableStream<Uint8Array>) => Buffer.from(await new Response(stream).arrayBuffer());

describe.each(['a folder', 'a bucket'])('in %s', (kind) => {
  const started = new AsyncDisposableStack();
  let opened: TestEngine | undefined;
  let owned: TestEngine;
  let s3: S3Server | undefined;
  let jobId: string;
  // One for all tests, which each have a job of their own. An engine is ready inside of a test only.
  beforeEach(async () => {
    if (kind === 'a bucket') s3 ??= started.use(await startS3Server());
    opened ??= started.use(await createTestEngine({ ...(s3 && { s3: s3.options }) }));
    owned = opened;
    jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
  });
  afterEach(async () => {
    await owned.engine.purge({ id: jobId, callerId: owned.callerId });
  });
  afterAll(() => started.disposeAsync());

  /** Files as they are in the place, whole and begun. */
  async function filesBehind(): Promise<readonly string[]> {
    if (s3) return [...s3.objects, ...s3.uploads];
    const entries = await readdir(owned.assetsFolder, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  }

  async function store(content = bytes): Promise<string> {
    const { location } = await owned.engine.assets.store(jobId, { bytes: content, contentType: 'image/webp', fileName: 'ein Bild.webp' });
    return 'asset' in location ? location.asset : '';
  }

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
      await owned.engine.sweep.once();
      expect(await filesBehind()).toEqual([]);
      expect(await owned.sql`select from assets`).toHaveLength(0);
      await owned.setClockAhead(0);
    });
  });

  describe('a streamed file', () => {
    const file = { contentType: 'video/mp4', fileName: 'film.mp4' };

    test.each([0, 1, 8, 17.5])('of %d MiB reads back as it came', async (size) => {
      const whole = Buffer.alloc(size * MEBIBYTE, bytes);
      const media = await owned.engine.assets.storeStream(jobId, { ...file, width: 3, height: 2, chunks: inChunks(whole, 300_001) });
      expect(media).toEqual({ ...file, location: { asset: expect.any(String) }, bytes: whole.length, width: 3, height: 2 });
      const token = 'asset' in media.location ? media.location.asset : '';
      expect(await owned.engine.assets.find(token)).toMatchObject({ bytes: whole.length, sha256: sha256(whole) });
      expect((await textOf(owned.engine.assets.read(token))).equals(whole)).toBe(true);
      expect(await filesBehind()).toHaveLength(1);
    });

    test.each([0, 1, 20])('that breaks off after %d MiB leaves nothing behind, and tells why', async (size) => {
      const broken = new Error('the source broke');
      const chunks = failing(Buffer.alloc(size * MEBIBYTE, bytes), broken);
      await expect(owned.engine.assets.storeStream(jobId, { ...file, chunks })).rejects.toBe(broken);
      expect(await filesBehind()).toEqual([]);
      expect(await owned.sql`select from assets`).toHaveLength(0);
    });

    test('that is ended by its signal leaves nothing behind, and its source is told', async () => {
      const stop = new AbortController();
      const reason = new Error('no longer ours');
      let told = false;
      async function* endless() {
        try {
          for (let chunk = 0; ; chunk++) {
            if (chunk === 20) stop.abort(reason);
            yield Buffer.alloc(MEBIBYTE);
          }
        } finally {
          told = true;
        }
      }
      await expect(owned.engine.assets.storeStream(jobId, { ...file, chunks: endless() }, stop.signal)).rejects.toBe(reason);
      await expect(owned.engine.assets.storeStream(jobId, { ...file, chunks: endless() }, stop.signal)).rejects.toBe(reason);
      expect(told).toBe(true);
      expect(await filesBehind()).toEqual([]);
      expect(await owned.sql`select from assets`).toHaveLength(0);
    });

    test('is unknown until it is whole', async () => {
      const arrived = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      async function* halting() {
        yield bytes;
        arrived.resolve();
        await goOn.promise;
      }
      const storing = owned.engine.assets.storeStream(jobId, { ...file, chunks: halting() });
      await arrived.promise;
      const [{ token } = { token: '' }] = await owned.sql<{ token: string }[]>`select token from assets`;
      expect(await owned.engine.assets.find(token)).toBeUndefined();
      goOn.resolve();
      await storing;
      expect(await owned.engine.assets.find(token)).toMatchObject({ bytes: bytes.length });
    });
  });

  describe('an address', () => {
    test.each(['', '../../../etc/passwd', 'A'.repeat(43), 'A'.repeat(44), `${'A'.repeat(42)}/`, 'ö'])(
      'that nobody was given (%j) is undefined',
      async (token) => {
        expect(await owned.engine.assets.find(token)).toBeUndefined();
      },
    );

    test('whose file is gone fails when it is read', async () => {
      const token = await store();
      await owned.engine.assets.remove([token]);
      await expect(textOf(owned.engine.assets.read(token))).rejects.toThrow(/ENOENT|NoSuchKey/);
    });
  });

  describe('removing', () => {
    test('takes away these files and no others, and does not mind those that are gone', async () => {
      const [first, second] = [await store(), await store()];
      await owned.engine.assets.remove([first]);
      await owned.engine.assets.remove([first, 'B'.repeat(43)]);
      await owned.engine.assets.remove([]);
      expect(await filesBehind()).toEqual([expect.stringContaining(second)]);
    });

    test('takes many at once', async () => {
      const tokens = await Promise.all(Array.from({ length: 40 }, () => store(Buffer.from('x'))));
      expect(await filesBehind()).toHaveLength(40);
      await owned.engine.assets.remove(tokens);
      expect(await filesBehind()).toEqual([]);
    });
  });

  test('a file for a job that is gone is refused and leaves nothing', async () => {
    const file = { bytes, contentType: 'image/webp', fileName: 'x' };
    await expect(owned.engine.assets.store(newId(systemClock), file)).rejects.toThrow();
    expect(await filesBehind()).toEqual([]);
  });

  test('files that are stored while their jobs are purged are not left', async () => {
    const jobs = await Promise.all(Array.from({ length: 20 }, () => aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' })));
    const storing = jobs.flatMap((id) =>
      Array.from({ length: 5 }, () => owned.engine.assets.store(id, { bytes, contentType: 'image/webp', fileName: 'x' })),
    );
    const stored = Promise.allSettled(storing);
    await expect.poll(() => owned.sql`select from assets`, { interval: 1 }).not.toHaveLength(0);
    await Promise.all(jobs.map((id) => owned.engine.purge({ id, callerId: owned.callerId })));
    await stored;
    expect(await filesBehind()).toEqual([]);
  });
});

test('files in a folder are for the eyes of this process alone', async () => {
  await using owned = await createTestEngine();
  const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
  const { location } = await owned.engine.assets.store(jobId, { bytes, contentType: 'image/webp', fileName: 'x' });
  const token = 'asset' in location ? location.asset : '';
  expect((await stat(join(owned.assetsFolder, token.slice(0, 2), token))).mode & 0o777).toBe(0o600);
});

describe('a bucket', () => {
  test('that is busy for a moment is asked again, part by part', async () => {
    await using server = await startS3Server();
    await using owned = await createTestEngine({ s3: server.options });
    const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const whole = Buffer.alloc(17 * MEBIBYTE, bytes);
    server.failNext((request) => request.includes('partNumber=2'));
    const file = { contentType: 'video/mp4', fileName: 'film.mp4', chunks: inChunks(whole, 1_000_000) };
    const { location } = await owned.engine.assets.storeStream(jobId, file);
    const token = 'asset' in location ? location.asset : '';
    expect(await owned.engine.assets.find(token)).toMatchObject({ sha256: sha256(whole) });
    expect(server.requests.filter((request) => request.startsWith('PUT'))).toHaveLength(4);
  });

  test('keeps no parts of a file whose writer died, once its job is purged', async () => {
    await using server = await startS3Server();
    await using owned = await createTestEngine({ s3: server.options });
    const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    const uploaded = Promise.withResolvers<void>();
    async function* dying() {
      yield Buffer.alloc(20 * MEBIBYTE);
      uploaded.resolve();
      await new Promise(() => {});
    }
    // Its writer will never go on, as if it had been killed.
    void owned.engine.assets.storeStream(jobId, { contentType: 'video/mp4', fileName: 'x', chunks: dying() });
    await uploaded.promise;
    expect(server.uploads).toHaveLength(1);
    await owned.engine.purge({ id: jobId, callerId: owned.callerId });
    expect(server.uploads).toEqual([]);
    expect(server.objects).toEqual([]);
  });

  test('that is as it should be passes its check', async () => {
    await using server = await startS3Server();
    const place = openS3Place(server.options);
    await place.check();
    place.close?.();
  });

  test.each([
    [{ bucket: 'other' }, 'S3_BUCKET: there is no bucket "other" at http://127.0.0.1:'],
    [{ accessKeyId: 'AKIAOTHER' }, 'S3_ACCESS_KEY_ID is not known at http://127.0.0.1:'],
    [{ secretAccessKey: 'wrong' }, 'S3_SECRET_ACCESS_KEY does not belong to S3_ACCESS_KEY_ID at http://127.0.0.1:'],
    [{ region: 'us-east-1' }, 'look at S3_ENDPOINT, S3_REGION and S3_FORCE_PATH_STYLE: AuthorizationHeaderMalformed'],
    [{ endpoint: 'http://127.0.0.1:1' }, 'The bucket "files" cannot be used at http://127.0.0.1:1; look at S3_ENDPOINT'],
  ])('with %j fails its check with a sentence for the operator', async (wrong, sentence) => {
    await using server = await startS3Server();
    const place = openS3Place({ ...server.options, ...wrong });
    await expect(place.check()).rejects.toThrow(sentence);
    place.close?.();
  });
});

async function* inChunks(whole: Buffer, size: number): AsyncIterable<Uint8Array> {
  for (let from = 0; from < whole.length; from += size) yield whole.subarray(from, from + size);
}

async function* failing(start: Buffer, error: Error): AsyncIterable<Uint8Array> {
  yield* inChunks(start, 1_000_000);
  throw error;
}

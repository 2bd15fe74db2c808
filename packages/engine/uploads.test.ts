import { readdir } from 'node:fs/promises';
import { type AppError, newId, systemClock, type Upload } from '@claimcheck/core';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { aCaller, aJob, sha256 } from './testing/fixtures.ts';
import { type S3Server, startS3Server } from './testing/s3-server.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const MEBIBYTE = 1024 * 1024;
const BYTES_MAX = 20 * MEBIBYTE;
const PNG = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
const PAGE = Buffer.from('<!doctype html><html><script>alert(1)</script></html>');
const NOISE = Buffer.from([0x9f, 0xd3, 0x00, 0x81, 0xfe]);

describe.each(['a folder', 'a bucket'])('with files in %s', (kind) => {
  const started = new AsyncDisposableStack();
  let opened: TestEngine | undefined;
  let owned: TestEngine;
  let s3: S3Server | undefined;
  // One for all tests, which each have a caller of their own. An engine is ready inside of a test only.
  let callerId: string;
  beforeEach(async () => {
    if (kind === 'a bucket') s3 ??= started.use(await startS3Server());
    opened ??= started.use(await createTestEngine({ uploads: { bytesMax: BYTES_MAX, ttlSeconds: 7_200 }, ...(s3 && { s3: s3.options }) }));
    owned = opened;
    await owned.setClockAhead(0);
    callerId = await aCaller(owned.sql);
    await owned.sql`delete from uploads where not exists (select from assets where upload_id = uploads.id)`;
    await owned.sql`update uploads set expires_at = db_now()`;
    await owned.engine.sweep.once();
    expect(await filesBehind()).toEqual([]);
  });
  afterAll(() => started.disposeAsync());

  /** Files as they are in the place, whole and begun. */
  async function filesBehind(): Promise<readonly string[]> {
    if (s3) return [...s3.objects, ...s3.uploads];
    const entries = await readdir(owned.assetsFolder, { recursive: true, withFileTypes: true }).catch(() => []);
    return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  }

  async function announced(file: { readonly fileName?: string; readonly contentType?: string } = {}): Promise<Upload> {
    const [upload] = await owned.engine.uploads.announce(callerId, [{ fileName: 'a picture.png', ...file }]);
    if (!upload) throw new Error('nothing was announced');
    return upload;
  }

  async function received(bytes = PNG): Promise<Upload> {
    const { token } = await announced();
    const arrival = await owned.engine.uploads.receive(token, once(bytes));
    if (arrival.kind !== 'stored') throw new Error(`it is ${arrival.kind}`);
    return arrival.upload;
  }

  async function readBack(token: string): Promise<Buffer | undefined> {
    const asset = await owned.engine.assets.find(token);
    return asset && Buffer.from(await new Response(owned.engine.assets.read(asset.token)).arrayBuffer());
  }

  test('a file is announced, then its bytes come, and can be read at the same token', async () => {
    const upload = await announced({ contentType: 'image/webp; q=1' });
    expect(upload).toEqual({
      id: expect.any(String),
      token: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      fileName: 'a picture.png',
      contentType: 'image/webp',
      createdAt: expect.any(Date),
      expiresAt: new Date(upload.createdAt.getTime() + 3_600_000),
    });
    expect(await readBack(upload.token)).toBeUndefined();

    const arrival = await owned.engine.uploads.receive(upload.token, once(PNG));
    const whole = { ...upload, contentType: 'image/png', bytes: PNG.length, sha256: sha256(PNG), expiresAt: expect.any(Date) };
    expect(arrival).toEqual({ kind: 'stored', upload: whole });
    expect(await owned.engine.uploads.read({ id: upload.id, callerId })).toEqual(whole);
    expect(await readBack(upload.token)).toEqual(PNG);
    const asset = await owned.engine.assets.find(upload.token);
    expect(asset).toMatchObject({ contentType: 'image/png', fileName: 'a picture.png', bytes: PNG.length, sha256: sha256(PNG) });
    // The address of the bytes themselves is nobody's.
    expect(await owned.engine.assets.find(asset?.token ?? '')).toBeUndefined();
  });

  test('a large file comes in parts and reads back as it was', async () => {
    const whole = Buffer.alloc(17.5 * MEBIBYTE, 'all work and no play');
    const upload = await owned.engine.uploads.store(callerId, { fileName: 'x.bin', chunks: inChunks(whole, 100_003) });
    expect(upload).toMatchObject({ bytes: whole.length, sha256: sha256(whole) });
    expect((await readBack(upload.token))?.equals(whole)).toBe(true);
  });

  describe('its type is', () => {
    test.each([
      ['what its bytes say', PNG, 'image/webp', undefined, 'image/png'],
      ['what was announced, where the bytes say nothing', NOISE, 'model/gltf-binary', 'audio/basic', 'model/gltf-binary'],
      ['what comes with the bytes, where nothing was announced', NOISE, undefined, 'audio/basic', 'audio/basic'],
      ['unknown for a page that was announced as a picture', PAGE, 'image/png', undefined, 'application/octet-stream'],
      [
        'unknown, where a program says that it does not know',
        NOISE,
        undefined,
        'application/x-www-form-urlencoded',
        'application/octet-stream',
      ],
      ['unknown, where what is said is no type', NOISE, 'a "type"', '', 'application/octet-stream'],
    ])('%s', async (_what, bytes, said, sent, type) => {
      const { token } = await announced(said === undefined ? {} : { contentType: said });
      expect(await owned.engine.uploads.receive(token, once(bytes), sent)).toMatchObject({ upload: { contentType: type } });
    });
  });

  test.each([
    ['../../etc/passwd', 'passwd'],
    ['C:\\fakepath\\p.png', 'p.png'],
    ['..', 'file'],
    ['', 'file'],
    ['a\r\nb\0.png', 'ab.png'],
    ['half \ud800 a character', 'half \ufffd a character'],
    ['🐼'.repeat(300), '🐼'.repeat(200)],
  ])('the name %j becomes %j', async (fileName, expected) => {
    expect(await announced({ fileName })).toMatchObject({ fileName: expected });
  });

  describe('bytes that come again', () => {
    test('change nothing when they are the same', async () => {
      const upload = await received();
      expect(await owned.engine.uploads.receive(upload.token, once(PNG))).toEqual({ kind: 'known', upload });
      expect(await filesBehind()).toHaveLength(1);
    });

    test('are refused when they are others', async () => {
      const upload = await received();
      expect(await owned.engine.uploads.receive(upload.token, once(NOISE))).toEqual({ kind: 'different' });
      expect(await readBack(upload.token)).toEqual(PNG);
    });

    test('at the same time make one file, and whoever comes second is told', async () => {
      const { token } = await announced();
      const contents = [PNG, PNG, NOISE, NOISE, PNG];
      const arrivals = await Promise.all(contents.map((bytes) => owned.engine.uploads.receive(token, once(bytes))));
      const kinds = arrivals.map(({ kind }) => kind);
      expect(kinds.filter((each) => each === 'stored')).toHaveLength(1);
      const winner = contents[kinds.indexOf('stored')] ?? PNG;
      expect(await readBack(token)).toEqual(winner);
      expect(kinds.map((each) => each === 'different')).toEqual(contents.map((bytes) => bytes !== winner));
      expect(await filesBehind()).toHaveLength(1);
      expect(await owned.sql`select from assets`).toHaveLength(1);
    });
  });

  describe('nothing is left of bytes', () => {
    test.each([0, 1, 12])('that break off after %d MiB, and they can come again', async (size) => {
      const upload = await announced();
      const broken = new Error('the client has gone');
      const chunks = failing(Buffer.alloc(size * MEBIBYTE, 'x'), broken);
      await expect(owned.engine.uploads.receive(upload.token, chunks)).rejects.toBe(broken);
      expect(await filesBehind()).toEqual([]);
      expect(await owned.sql`select from assets`).toHaveLength(0);
      expect(await owned.engine.uploads.receive(upload.token, once(PNG))).toMatchObject({ kind: 'stored' });
    });

    test('that are too many, however they come', async () => {
      const { token } = await announced();
      let taken = 0;
      async function* endless() {
        for (;;) {
          taken += MEBIBYTE;
          yield Buffer.alloc(MEBIBYTE);
        }
      }
      await expect(owned.engine.uploads.receive(token, endless())).rejects.toMatchObject({ code: 'payload_too_large' });
      expect(taken).toBe(BYTES_MAX + MEBIBYTE);
      expect(await filesBehind()).toEqual([]);
      const exact = await owned.engine.uploads.receive(token, inChunks(Buffer.alloc(BYTES_MAX), MEBIBYTE));
      expect(exact).toMatchObject({ kind: 'stored', upload: { bytes: BYTES_MAX } });
    });

    test('that there are none of', async () => {
      const { token } = await announced();
      const refusal = { code: 'invalid_request', message: expect.stringContaining('empty') };
      await expect(owned.engine.uploads.receive(token, once(Buffer.alloc(0)))).rejects.toMatchObject(refusal);
      await expect(owned.engine.uploads.receive(token, inChunks(PNG.subarray(0, 0), 1))).rejects.toMatchObject(refusal);
      expect(await owned.engine.uploads.receive(token, once(PNG))).toMatchObject({ kind: 'stored' });
    });

    test.each([1, 5_000])('whose upload expired after %d of them had come', async (bytes) => {
      const { token } = await announced();
      async function* slow() {
        yield Buffer.alloc(bytes);
        await owned.setClockAhead(3_601);
        await owned.engine.sweep.once();
        yield PNG;
      }
      expect(await owned.engine.uploads.receive(token, slow())).toEqual({ kind: 'unknown' });
      expect(await filesBehind()).toEqual([]);
      expect(await owned.sql`select from assets`).toHaveLength(0);
    });

    test('that were to be announced and stored at once, nor of the announcement', async () => {
      const broken = new Error('the client has gone');
      const chunks = failing(Buffer.alloc(MEBIBYTE, 'x'), broken);
      await expect(owned.engine.uploads.store(callerId, { fileName: 'x', chunks })).rejects.toBe(broken);
      expect(await filesBehind()).toEqual([]);
      expect(await owned.sql`select from uploads`).toHaveLength(0);
    });
  });

  test.each(['', 'x', 'A'.repeat(43), '../../../etc/passwd'])('the token %j is unknown, and nothing is read for it', async (token) => {
    let isRead = false;
    async function* watched() {
      isRead = true;
      yield PNG;
    }
    expect(await owned.engine.uploads.receive(token, watched())).toEqual({ kind: 'unknown' });
    expect(isRead).toBe(false);
  });

  describe('parts of a file', () => {
    /** Each `bytes` long, so that all but the last have the size that buckets insist on. */
    const partsOf = (whole: Buffer, bytes: number) =>
      Array.from({ length: Math.ceil(whole.length / bytes) }, (_, index) => whole.subarray(index * bytes, (index + 1) * bytes));

    async function sendPart(token: string, part: number, bytes: Buffer) {
      const arrival = await owned.engine.uploads.receivePart(token, part, inChunks(bytes, 1_000_003));
      if (arrival.kind !== 'stored') throw new Error(`it is ${arrival.kind}`);
      return arrival.part;
    }

    test('make one, in the order of their numbers, whenever they come; then they are gone', async () => {
      const whole = Buffer.concat([PNG, Buffer.alloc(16.5 * MEBIBYTE, 'all work and no play')]);
      const { token } = await announced({ contentType: 'image/webp' });
      const sent = await Promise.all(
        partsOf(whole, 5 * MEBIBYTE)
          .map((bytes, index) => sendPart(token, index + 1, bytes))
          .reverse(),
      );
      expect(await readBack(token)).toBeUndefined();
      expect(await filesBehind()).toHaveLength(4);
      const arrival = await owned.engine.uploads.assemble(token, sent);
      expect(arrival).toMatchObject({
        kind: 'stored',
        upload: { contentType: 'image/png', bytes: whole.length, sha256: sha256(whole) },
      });
      expect((await readBack(token))?.equals(whole)).toBe(true);
      expect(await filesBehind()).toHaveLength(1);
      expect(await owned.engine.uploads.assemble(token, sent)).toEqual({ ...arrival, kind: 'known' });
      expect(await owned.engine.uploads.receivePart(token, 1, once(PNG))).toEqual({ kind: 'complete' });
      expect(await owned.engine.uploads.receive(token, inChunks(whole, MEBIBYTE))).toMatchObject({ kind: 'known' });
    });

    test('that come again take the place of what came before, and those that are not named are thrown away', async () => {
      const { token } = await announced();
      const old = await sendPart(token, 1, Buffer.from('old '));
      await sendPart(token, 7, Buffer.from('unwanted'));
      const parts = [await sendPart(token, 1, Buffer.from('new ')), await sendPart(token, 10_000, NOISE)];
      await expect(owned.engine.uploads.assemble(token, [old, ...parts.slice(1)])).rejects.toMatchObject({
        code: 'invalid_parameters',
        problems: [{ pointer: '/parts/0', message: expect.stringContaining('part 1') }],
      });
      expect(await filesBehind()).toHaveLength(3);
      await owned.engine.uploads.assemble(token, parts);
      expect(await readBack(token)).toEqual(Buffer.concat([Buffer.from('new '), NOISE]));
      expect(await filesBehind()).toHaveLength(1);
    });

    test('that are not there, or are named twice, are all told, and the file may be completed after that', async () => {
      const { token } = await announced();
      const first = await sendPart(token, 1, PNG);
      const lacking = [2, 3, 4, 5].map((part) => ({ part, sha256: first.sha256 }));
      const refusal = await owned.engine.uploads.assemble(token, [first, first, ...lacking]).catch((error: AppError) => error);
      expect(refusal).toMatchObject({
        code: 'invalid_parameters',
        problems: ['/parts/1', '/parts/2', '/parts/3', '/parts/4', '/parts/5'].map((pointer) => ({ pointer })),
      });
      expect(await owned.engine.uploads.assemble(token, [first])).toMatchObject({ kind: 'stored' });
    });

    test('are refused when all together are too many bytes, and nothing is left of the last', async () => {
      const { token } = await announced();
      const first = await sendPart(token, 1, Buffer.alloc(BYTES_MAX - 10, 1));
      await expect(owned.engine.uploads.receivePart(token, 2, once(Buffer.alloc(11)))).rejects.toMatchObject({ code: 'payload_too_large' });
      expect(await filesBehind()).toHaveLength(1);
      // In its own place it may be as large as all of them.
      await sendPart(token, 1, Buffer.alloc(BYTES_MAX - 10, 2));
      const last = await sendPart(token, 2, Buffer.alloc(10));
      await expect(owned.engine.uploads.assemble(token, [first, last])).rejects.toMatchObject({ code: 'invalid_parameters' });
    });

    test.each([0, 10_001, Number.NaN])('have no number %s', async (part) => {
      const { token } = await announced();
      await expect(owned.engine.uploads.receivePart(token, part, once(PNG))).rejects.toMatchObject({ code: 'invalid_request' });
    });

    test('of which there are no bytes, or which break off, leave nothing', async () => {
      const { token } = await announced();
      await expect(owned.engine.uploads.receivePart(token, 1, once(Buffer.alloc(0)))).rejects.toMatchObject({ code: 'invalid_request' });
      const broken = new Error('the line was cut');
      await expect(owned.engine.uploads.receivePart(token, 1, failing(PNG, broken))).rejects.toBe(broken);
      expect(await filesBehind()).toEqual([]);
    });

    test('go with their file when it is never completed, or is removed, and are awaited by nobody then', async () => {
      const expired = await announced();
      const part = await sendPart(expired.token, 1, PNG);
      const removed = await announced();
      await sendPart(removed.token, 1, PNG);
      await owned.engine.uploads.remove(callerId, [removed.id]);
      expect(await filesBehind()).toHaveLength(1);
      await owned.setClockAhead(3_601);
      await owned.engine.sweep.once();
      expect(await filesBehind()).toEqual([]);
      expect(await owned.engine.uploads.receivePart(expired.token, 1, once(PNG))).toEqual({ kind: 'unknown' });
      expect(await owned.engine.uploads.assemble(expired.token, [part])).toEqual({ kind: 'unknown' });
      expect(await owned.engine.uploads.receivePart('../etc/passwd', 1, once(PNG))).toEqual({ kind: 'unknown' });
    });
  });

  test('an announcement of more than may come is refused', async () => {
    const files = [{ fileName: 'a' }, { fileName: 'b', bytes: BYTES_MAX + 1 }];
    await expect(owned.engine.uploads.announce(callerId, files)).rejects.toMatchObject({ code: 'payload_too_large' });
    expect(await owned.engine.uploads.list(callerId, { limit: 10 })).toEqual({ uploads: [] });
  });

  test('a caller has a thousand announcements at a time, and others have theirs', async () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => ({ fileName: `${index}` }));
    const uploads = await owned.engine.uploads.announce(callerId, many(999));
    expect(uploads.map(({ fileName }) => fileName)).toEqual(many(999).map(({ fileName }) => fileName));
    const refused = owned.engine.uploads.announce(callerId, many(2));
    await expect(refused).rejects.toMatchObject({ code: 'rate_limited', retryAfterSeconds: 60 } satisfies Partial<AppError>);
    await owned.engine.uploads.announce(callerId, many(1));
    await expect(owned.engine.uploads.announce(callerId, many(1))).rejects.toMatchObject({ code: 'rate_limited' });
    expect(await owned.engine.uploads.announce(await aCaller(owned.sql), many(3))).toHaveLength(3);
    await owned.engine.uploads.receive(uploads[0]?.token ?? '', once(PNG));
    expect(await owned.engine.uploads.announce(callerId, many(1))).toHaveLength(1);
  });

  test('a list goes from the newest to the oldest, page by page', async () => {
    const uploads: Upload[] = [];
    for (const fileName of ['a', 'b', 'c']) {
      uploads.unshift(await announced({ fileName }));
      // Ids of one millisecond are in no promised order.
      await systemClock.sleep(2);
    }
    const [c, b, a] = uploads;
    const { list } = owned.engine.uploads;
    expect(await list(callerId, { limit: 2 })).toEqual({ uploads: [c, b], nextCursor: b?.id });
    expect(await list(callerId, { limit: 2, cursor: b?.id ?? '' })).toEqual({ uploads: [a] });
    expect(await list(callerId, { limit: 3 })).toEqual({ uploads: [c, b, a] });
  });

  test('an upload is unknown to every other caller', async () => {
    const { id } = await received();
    const other = await aCaller(owned.sql);
    const { uploads } = owned.engine;
    expect(await uploads.read({ id, callerId: other })).toBeUndefined();
    expect(await uploads.list(other, { limit: 10 })).toEqual({ uploads: [] });
    await uploads.remove(other, [id]);
    expect(await uploads.read({ id, callerId })).toMatchObject({ id });
  });

  test('removing takes away what is there and what is on its way', async () => {
    const [whole, awaited, kept] = [await received(), await announced(), await received(NOISE)];
    await owned.engine.uploads.remove(callerId, [whole.id, awaited.id, newId(systemClock)]);
    await owned.engine.uploads.remove(callerId, [whole.id]);
    expect(await owned.engine.uploads.list(callerId, { limit: 10 })).toEqual({ uploads: [kept] });
    expect(await readBack(whole.token)).toBeUndefined();
    expect(await owned.engine.uploads.receive(awaited.token, once(PNG))).toEqual({ kind: 'unknown' });
    expect(await filesBehind()).toHaveLength(1);
    expect(await owned.sql`select from uploads`).toHaveLength(1);
  });

  test('an upload expires some time after its bytes came, sooner when they never do, and is purged', async () => {
    const [whole, awaited] = [await received(), await announced()];
    const { read } = owned.engine.uploads;
    await owned.setClockAhead(3_590);
    expect(await read({ id: awaited.id, callerId })).toBeDefined();
    await owned.setClockAhead(3_601);
    expect(await read({ id: awaited.id, callerId })).toBeUndefined();
    await owned.engine.sweep.once();
    expect(await owned.sql`select from uploads`).toHaveLength(1);
    await owned.setClockAhead(7_190);
    expect(await readBack(whole.token)).toEqual(PNG);
    await owned.setClockAhead(7_210);
    expect(await readBack(whole.token)).toBeUndefined();
    expect(await read({ id: whole.id, callerId })).toBeUndefined();
    await owned.engine.sweep.once();
    expect(await owned.sql`select from uploads`).toHaveLength(0);
    expect(await owned.sql`select from assets`).toHaveLength(0);
    expect(await filesBehind()).toEqual([]);
  });

  describe('a job that needs uploads', () => {
    test('keeps them until its deadline, and those of other callers are not its business', async () => {
      const [mine, other] = [await received(), await aCaller(owned.sql)];
      const theirs = await owned.engine.uploads.store(other, { fileName: 'x', chunks: once(PNG) });
      const jobId = await aJob(owned.sql, { callerId });
      await owned.sql`update jobs set deadline_at = db_now() + interval '30 days' where id = ${jobId}`;
      await owned.engine.uploads.bind({ jobId, tokens: [mine.token, theirs.token], brought: [] });
      await owned.setClockAhead(29 * 86_400);
      await owned.engine.sweep.once();
      expect(await readBack(mine.token)).toEqual(PNG);
      expect(await readBack(theirs.token)).toBeUndefined();
      await owned.setClockAhead(31 * 86_400);
      expect(await readBack(mine.token)).toBeUndefined();
    });

    test('does not shorten their lives, and leaves them when it goes', async () => {
      const { token } = await received();
      const jobId = await aJob(owned.sql, { callerId, state: 'COMPLETED' });
      await owned.engine.uploads.bind({ jobId, tokens: [token], brought: [] });
      await owned.engine.purge({ id: jobId, callerId });
      await owned.setClockAhead(7_100);
      expect(await readBack(token)).toEqual(PNG);
    });

    test('takes those with it that its request brought', async () => {
      const [brought, needed] = [await received(), await received(NOISE)];
      const jobId = await aJob(owned.sql, { callerId, state: 'COMPLETED' });
      await owned.engine.uploads.bind({ jobId, tokens: [brought.token, needed.token], brought: [brought.token] });
      expect(await readBack(brought.token)).toEqual(PNG);
      await owned.engine.purge({ id: jobId, callerId });
      expect(await readBack(brought.token)).toBeUndefined();
      expect(await filesBehind()).toHaveLength(1);
      expect(await owned.engine.uploads.list(callerId, { limit: 10 })).toMatchObject({ uploads: [{ id: needed.id }] });
    });
  });

  test.each([
    ['a picture', PNG, 'image/png', 'file.png'],
    ['a picture of another format than is said', PNG, 'image/jpeg', 'file.png'],
    ['a picture of which nothing is said', PNG, undefined, 'file.png'],
    ['what only its sender knows', NOISE, 'model/gltf-binary', 'file'],
    ['what nobody knows', NOISE, 'application/octet-stream', 'file'],
    ['a page that is no picture', PAGE, 'image/png', undefined],
    ['noise that is no picture', NOISE, 'image/png', undefined],
    ['a page of which nothing is said', PAGE, undefined, 'file'],
  ])('a name is found for %s, where there is one', async (_what, head, contentType, name) => {
    expect(await owned.engine.uploads.nameFor(head, contentType)).toBe(name);
  });
});

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

async function* inChunks(whole: Buffer, size: number): AsyncIterable<Uint8Array> {
  for (let from = 0; from < whole.length; from += size) yield whole.subarray(from, from + size);
}

async function* failing(start: Buffer, error: Error): AsyncIterable<Uint8Array> {
  yield* inChunks(start, 1_000_000);
  throw error;
}

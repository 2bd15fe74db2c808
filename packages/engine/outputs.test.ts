import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { crc32, deflateSync, gzipSync } from 'node:zlib';
import { type Media, type Output, RetryableError, TerminalError } from '@claimcheck/core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openGuard, parseAllowList, type Resolve } from './outbound/index.ts';
import { startDnsServer } from './outbound/testing/dns-server.ts';
import { freePort } from './outbound/testing/receiver.ts';
import { type KeepRequest, makeOutputs, type OutputSettings, type Outputs } from './outputs.ts';
import { aJob } from './testing/fixtures.ts';
import { createHastyClock } from './testing/hasty-clock.ts';
import { listen, type TestServer } from './testing/index.ts';
import { type S3Server, startS3Server } from './testing/s3-server.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

type Answer = (response: ServerResponse, request: IncomingMessage, call: number) => unknown;

/** A picture with something in it, so that its quality shows in its size. */
const noise = await sharp(randomBytes(64 * 48 * 3), { raw: { width: 64, height: 48, channels: 3 } })
  .resize(320, 240)
  .png()
  .toBuffer();
const png = await sharp({ create: { width: 40, height: 30, channels: 3, background: '#3366cc' } })
  .png()
  .toBuffer();
const webp = await sharp(png).webp().toBuffer();
const mp4 = Buffer.concat([Buffer.from('\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41', 'latin1'), randomBytes(3_000_000)]);
const html = Buffer.from('<!doctype html><title>Sign in</title>');

const started = new AsyncDisposableStack();
afterAll(() => started.disposeAsync());
const engines = new Map<string, { readonly owned: TestEngine; readonly s3: S3Server | undefined }>();

/** One engine per place for all tests, which each have a job of their own. It is ready inside of a test only. */
async function engineOn(kind: string) {
  const known = engines.get(kind);
  if (known) return known;
  const s3 = kind === 'a bucket' ? started.use(await startS3Server()) : undefined;
  const opened = { owned: started.use(await createTestEngine({ ...(s3 && { s3: s3.options }) })), s3 };
  engines.set(kind, opened);
  return opened;
}

interface Logged {
  readonly level: string;
  readonly message: string;
  readonly fields: object;
}

describe.each(['a folder', 'a bucket'])('with files in %s', (kind) => {
  let owned: TestEngine;
  let s3: S3Server | undefined;
  let jobId: string;
  let upstream: TestServer;
  let answers: Record<string, Answer>;
  /** Paths that were asked for. */
  let asked: string[];
  let logged: Logged[];
  let opened: AsyncDisposableStack;

  beforeEach(async () => {
    ({ owned, s3 } = await engineOn(kind));
    opened = new AsyncDisposableStack();
    jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
    [answers, asked, logged] = [{}, [], []];
    upstream = opened.use(
      await listen((request, response) => {
        const path = request.url ?? '';
        asked.push(path);
        const answer = answers[path];
        if (answer) answer(response, request, asked.filter((each) => each === path).length);
        else response.writeHead(404).end();
      }),
    );
  });
  afterEach(async () => {
    await owned.engine.purge({ id: jobId, callerId: owned.callerId });
    await opened.disposeAsync();
    expect(await filesBehind(), 'files that nobody owns').toEqual([]);
  });

  async function filesBehind(): Promise<readonly string[]> {
    const entries = await readdir(owned.assetsFolder, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
    return s3 ? [...s3.objects, ...s3.uploads, ...files] : files;
  }

  interface Options extends Partial<OutputSettings> {
    /** How much faster than usual the waits and limits are. */
    readonly haste?: number;
    readonly resolve?: Resolve;
  }

  function outputs({ haste = 100, resolve, ...settings }: Options = {}): Outputs {
    const note = (level: string) => (fields: object, message: string) => void logged.push({ level, fields, message });
    const made = makeOutputs({
      assets: owned.engine.assets,
      guard: openGuard({ allow: parseAllowList('127.0.0.1').allow, ...(resolve && { resolve }) }),
      clock: createHastyClock(haste),
      random: () => 0.5,
      log: { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') },
      spoolFolder: `${owned.assetsFolder}/incoming`,
      settings: { store: 'copy', bytesMax: 50_000_000, ...settings },
    });
    opened.defer(made.close);
    return made;
  }

  function linked(path: string, told: Partial<Media> = {}): Media {
    return { location: { url: `${upstream.url}${path}` }, contentType: 'image/png', fileName: path.slice(1), ...told };
  }

  /** Keeps media and returns them. */
  async function keep(media: readonly Media[], request: Partial<KeepRequest> = {}, made = outputs()): Promise<readonly Media[]> {
    const { signal } = new AbortController();
    return (await made.keep({ jobId, output: { media }, signal, ...request })).media;
  }

  async function keepOne(medium: Media, request: Partial<KeepRequest> = {}, made = outputs()): Promise<Media> {
    const [kept] = await keep([medium], request, made);
    if (!kept) throw new Error('a medium is missing');
    return kept;
  }

  async function bytesOf({ location }: Media): Promise<Buffer> {
    if (!('asset' in location)) throw new Error('the medium is not ours');
    return Buffer.from(await new Response(owned.engine.assets.read(location.asset)).arrayBuffer());
  }

  async function stored(bytes: Uint8Array, contentType: string, fileName: string): Promise<Media> {
    return owned.engine.assets.store(jobId, { bytes, contentType, fileName });
  }

  const sending =
    (body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Answer =>
    (response) =>
      response.writeHead(200, headers).end(body);

  describe('a medium of an upstream', () => {
    test('becomes ours byte for byte, with its size in bytes and pixels', async () => {
      answers['/a.png'] = sending(png);
      const kept = await keepOne(linked('/a.png'));
      expect(kept).toEqual({
        location: { asset: expect.any(String) },
        contentType: 'image/png',
        fileName: 'a.png',
        bytes: png.length,
        width: 40,
        height: 30,
      });
      expect((await bytesOf(kept)).equals(png)).toBe(true);
      expect(logged).toEqual([]);
    });

    test('is what its bytes say, whatever it was called', async () => {
      answers['/a.png'] = sending(webp);
      answers['/film'] = sending(mp4, { 'content-type': 'binary/octet-stream' });
      const [picture, film] = await keep([
        linked('/a.png', { width: 1, height: 1 }),
        linked('/film', { contentType: 'application/octet-stream' }),
      ]);
      expect(picture).toMatchObject({ contentType: 'image/webp', fileName: 'a.webp', width: 40, height: 30 });
      expect(film).toMatchObject({ contentType: 'video/mp4', fileName: 'film.mp4', bytes: mp4.length });
      expect(film && (await bytesOf(film)).equals(mp4)).toBe(true);
    });

    test('keeps what only the upstream can know', async () => {
      answers['/film.mp4'] = sending(mp4);
      const told = { contentType: 'video/mp4', width: 1280, height: 720 };
      expect(await keepOne(linked('/film.mp4', told))).toMatchObject({ ...told, fileName: 'film.mp4', bytes: mp4.length });
    });

    test('comes in the order of the output, a few at once', async () => {
      let open = 0;
      let most = 0;
      const pictures = await Promise.all(
        Array.from({ length: 9 }, (_, index) =>
          sharp(png)
            .resize(index + 1, 5)
            .png()
            .toBuffer(),
        ),
      );
      for (const [index, picture] of pictures.entries()) {
        answers[`/${index}.png`] = async (response) => {
          open += 1;
          most = Math.max(most, open);
          await expect.poll(() => open >= Math.min(4, 9 - index)).toBe(true);
          response.end(picture, () => {
            open -= 1;
          });
        };
      }
      const kept = await keep(pictures.map((_, index) => linked(`/${index}.png`)));
      expect(kept.map(({ width }) => width)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      expect(most).toBe(4);
    });

    test('is all that changes in an output', async () => {
      answers['/a.png'] = sending(png);
      const output: Output = { media: [linked('/a.png')], seed: 7, nsfw: [false], timings: { inference: 1 }, usage: { usd: 0.1 } };
      const { signal } = new AbortController();
      const { media, ...rest } = await outputs().keep({ jobId, output, signal });
      expect(rest).toEqual({ seed: 7, nsfw: [false], timings: { inference: 1 }, usage: { usd: 0.1 } });
      expect(media).toHaveLength(1);
      const text: Output = { media: [], text: 'a poem' };
      expect(await outputs().keep({ jobId, output: text, format: 'webp', signal })).toBe(text);
    });

    test('stays a link where links are wanted, and nobody calls', async () => {
      const medium = linked('/a.png');
      expect(await keepOne(medium, {}, outputs({ store: 'link' }))).toBe(medium);
      expect(await keepOne(medium, { format: 'png' }, outputs({ store: 'link' }))).toBe(medium);
      expect(asked).toEqual([]);
    });

    test('is copied even then when the client chose another format', async () => {
      answers['/a.png'] = sending(png);
      const kept = await keepOne(linked('/a.png'), { format: 'webp' }, outputs({ store: 'link' }));
      expect(kept).toMatchObject({ contentType: 'image/webp', location: { asset: expect.any(String) } });
    });
  });

  describe('an upstream in trouble', () => {
    const truncated: Answer = (response) => {
      response.writeHead(200, { 'content-length': png.length });
      response.write(png.subarray(0, 60), () => response.destroy());
    };
    test.each<[string, Answer]>([
      ['answers 503', (response) => response.writeHead(503).end()],
      ['answers 429 and says when', (response) => response.writeHead(429, { 'retry-after': '2' }).end()],
      ['answers 404, as for a file that is not there yet', (response) => response.writeHead(404).end()],
      ['breaks the connection', (response) => response.destroy()],
      ['breaks off in the body', truncated],
      ['sends a page', (response) => response.writeHead(200, { 'content-type': 'text/html' }).end(html)],
      ['sends nothing', (response) => response.writeHead(200).end()],
    ])('that %s for a moment is asked again', async (_what, trouble) => {
      answers['/a.png'] = (response, request, call) => (call < 3 ? trouble : sending(png))(response, request, call);
      const kept = await keepOne(linked('/a.png'));
      expect((await bytesOf(kept)).equals(png)).toBe(true);
      expect(asked).toHaveLength(3);
    });

    test('in the middle of a large file is asked again, and no half of it stays', async () => {
      answers['/film.mp4'] = (response, request, call) => {
        if (call > 1) return sending(mp4)(response, request, call);
        response.writeHead(200, { 'content-length': mp4.length });
        response.write(mp4.subarray(0, 2_000_000), () => response.destroy());
      };
      const kept = await keepOne(linked('/film.mp4', { contentType: 'video/mp4' }));
      expect((await bytesOf(kept)).equals(mp4)).toBe(true);
      expect(await owned.sql`select from assets where job_id = ${jobId}`).toHaveLength(1);
      expect(await filesBehind()).toHaveLength(1);
    });

    test.each<[string, string, number, Answer, Options]>([
      ['goes on answering 503', 'unreachable', 4, (response) => response.writeHead(503).end(), { haste: 1_000 }],
      ['goes on breaking off', 'unreachable', 4, truncated, { haste: 1_000 }],
      ['announces 2 GB', 'too_large', 1, (response) => response.writeHead(200, { 'content-length': 2 ** 31 }).write('x'), {}],
      ['sends more than is kept', 'too_large', 1, sending(mp4), { bytesMax: mp4.length - 1 }],
      ['has packed the file', 'unreachable', 1, sending(gzipSync(png), { 'content-encoding': 'gzip' }), {}],
      ['redirects for ever', 'unreachable', 4, (response, { url }) => response.writeHead(302, { location: url }).end(), { haste: 1_000 }],
      ['falls silent', 'unreachable', 4, (response) => response.writeHead(200).write(png.subarray(0, 50)), { haste: 600 }],
      [
        'drips for ever',
        'unreachable',
        1,
        (response) => {
          response.writeHead(200).write(mp4.subarray(0, 100));
          const dripping = setInterval(() => response.write('x'), 5);
          response.on('close', () => clearInterval(dripping));
        },
        { haste: 1_000 },
      ],
    ])('that %s leaves the client its link', async (_what, failure, tries, answer, options) => {
      answers['/a.mp4'] = answer;
      const medium = linked('/a.mp4', { contentType: 'video/mp4' });
      expect(await keepOne(medium, { format: 'png' }, outputs(options))).toBe(medium);
      expect(logged).toEqual([
        {
          level: 'warn',
          message: expect.stringContaining('link of the upstream'),
          fields: expect.objectContaining({ reason: failure, tries }),
        },
      ]);
    });

    test('that is not there leaves the client its link', async () => {
      const medium = linked('/a.png', { location: { url: `http://127.0.0.1:${await freePort()}/a.png` } });
      expect(await keepOne(medium, {}, outputs({ haste: 1_000 }))).toBe(medium);
      expect(logged).toMatchObject([{ level: 'warn', fields: { reason: 'unreachable', tries: 4 } }]);
    });

    test.each([
      [401, 1],
      [403, 1],
      [410, 1],
      [400, 1],
      [404, 4],
    ])('that answers %i has lost the file: the attempt fails after %i tries, and may be made again', async (status, tries) => {
      answers['/a.png'] = (response) => response.writeHead(status).end();
      const failure = await keepOne(linked('/a.png'), {}, outputs({ haste: 1_000 })).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(RetryableError);
      expect(failure).toMatchObject({ message: "The provider's file is no longer there." });
      expect(asked).toHaveLength(tries);
    });

    test.each<[string, Uint8Array, string]>([
      ['a page instead of a picture', html, 'image/png'],
      ['a page instead of a film', html, 'video/mp4'],
      ['an error in JSON instead of a picture', Buffer.from('{"detail":"expired"}'), 'image/webp'],
      ['noise instead of a picture', Buffer.alloc(500, 0x81), 'image/jpeg'],
    ])('that sends %s fails the attempt, which may be made again', async (_what, body, contentType) => {
      answers['/a'] = sending(body, { 'content-type': contentType });
      const failure = await keepOne(linked('/a', { contentType }), {}, outputs({ haste: 1_000 })).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(RetryableError);
      expect(asked).toHaveLength(4);
    });

    test('over one file leaves nothing of the others', async () => {
      answers['/a.png'] = sending(png);
      answers['/film.mp4'] = sending(mp4);
      answers['/gone.png'] = async (response) => {
        await expect.poll(async () => (await owned.sql`select from assets where job_id = ${jobId} and bytes is not null`).length).toBe(2);
        response.writeHead(410).end();
      };
      const media = [linked('/a.png'), linked('/gone.png'), linked('/film.mp4', { contentType: 'video/mp4' })];
      await expect(keep(media)).rejects.toBeInstanceOf(RetryableError);
      expect(await filesBehind()).toEqual([]);
    });
  });

  describe('an address that may not be called', () => {
    const target = (location: string) => (response: ServerResponse) => response.writeHead(302, { location }).end();

    test.each(['http://169.254.169.254/latest/', 'http://[::1]/', 'http://10.0.0.1/', 'file:///etc/passwd', 'data:image/png;base64,AAAA'])(
      'such as %s fails the job, linked or redirected to, and only the log tells why',
      async (url) => {
        answers['/a.png'] = target(url);
        for (const medium of [linked('/a.png'), linked('/a.png', { location: { url } })]) {
          const failure = await keepOne(medium).catch((error: unknown) => error);
          expect(failure).toBeInstanceOf(TerminalError);
          expect(failure).toMatchObject({ message: "The provider's file is at an address that this service may not call." });
        }
        expect(logged).toContainEqual({
          level: 'error',
          message: expect.stringContaining('UPSTREAM_ALLOW_NETWORKS'),
          fields: expect.objectContaining({ reason: 'blocked', tries: 1 }),
        });
      },
    );

    test('is not reached by a name that changes its mind', async () => {
      answers['/a.png'] = (response) => response.writeHead(503, { connection: 'close' }).end();
      await using dns = await startDnsServer((_name, before) => [before === 0 ? '127.0.0.1' : '127.0.0.2']);
      const { port } = new URL(upstream.url);
      const medium = linked('/a.png', { location: { url: `http://rebind.example.com:${port}/a.png` } });
      await expect(keepOne(medium, {}, outputs({ resolve: dns.resolve }))).rejects.toBeInstanceOf(TerminalError);
      expect(asked).toEqual(['/a.png']);
    });

    test.each(['file:///etc/passwd', 'data:text/html,x', 'javascript:alert(1)'])('is not handed to clients either: %s', async (url) => {
      const made = outputs({ store: 'link' });
      await expect(keepOne(linked('/a.png', { location: { url } }), {}, made)).rejects.toBeInstanceOf(TerminalError);
    });
  });

  describe('a picture in another format than the client chose', () => {
    test.each([
      ['png', 'image/png', 'a.png'],
      ['jpg', 'image/jpeg', 'a.jpg'],
      ['jpeg', 'image/jpeg', 'a.jpg'],
      ['webp', 'image/webp', 'a.webp'],
      ['avif', 'image/avif', 'a.avif'],
    ])('becomes %s', async (format, contentType, fileName) => {
      const source = format === 'webp' ? png : webp;
      answers['/a.xyz'] = sending(source);
      const media = [linked('/a.xyz'), await stored(source, 'image/webp', 'a.webp')];
      for (const medium of media.slice(0, format === 'webp' ? 1 : 2)) {
        const kept = await keepOne({ ...medium, fileName: 'a.webp' }, { format });
        const bytes = await bytesOf(kept);
        expect(kept).toMatchObject({ contentType, fileName, bytes: bytes.length, width: 40, height: 30 });
        const { format: found, compression } = await sharp(bytes).metadata();
        expect(found === 'heif' ? compression : `image/${found}`).toBe(found === 'heif' ? 'av1' : contentType);
        const pixel = await sharp(bytes).removeAlpha().extract({ left: 20, top: 15, width: 1, height: 1 }).raw().toBuffer();
        for (const [channel, value] of [0x33, 0x66, 0xcc].entries()) expect(Math.abs((pixel[channel] ?? 0) - value)).toBeLessThan(12);
      }
      expect(logged).toEqual([]);
    });

    test.each(['jpg', 'webp', 'avif'])('is as good as the client chose in %s', async (format) => {
      const medium = await stored(noise, 'image/png', 'a.png');
      const sizes: number[] = [];
      for (const quality of [1, 50, 100]) sizes.push((await keepOne(medium, { format, quality })).bytes ?? 0);
      expect(sizes).toEqual(sizes.toSorted((one, other) => one - other));
      expect(sizes[0]).toBeLessThan((sizes[2] ?? 0) / 2);
    });

    test.each([
      ['the same', 'png'],
      ['none', undefined],
      ['one that is none of pictures', 'mp4'],
    ])('is not touched when that is %s', async (_what, format) => {
      answers['/a.png'] = sending(png);
      const kept = await keepOne(linked('/a.png'), { format, quality: 1 });
      expect((await bytesOf(kept)).equals(png)).toBe(true);
      const ours = { ...(await stored(png, 'image/png', 'a.png')), width: 40, height: 30 };
      expect(await keepOne(ours, { format, quality: 1 })).toBe(ours);
    });

    test('is upright, and white where it was transparent', async () => {
      const lying = await sharp(png).withMetadata({ orientation: 6 }).toFormat('png').toBuffer();
      const clear = await sharp({ create: { width: 8, height: 8, channels: 4, background: '#00000000' } })
        .png()
        .toBuffer();
      const [upright, white] = await keep([await stored(lying, 'image/png', 'a.png'), await stored(clear, 'image/png', 'b.png')], {
        format: 'jpg',
      });
      expect(upright).toMatchObject({ width: 30, height: 40 });
      expect(
        white &&
          Array.from(
            (
              await sharp(await bytesOf(white))
                .raw()
                .toBuffer()
            ).subarray(0, 3),
          ),
      ).toEqual([255, 255, 255]);
    });

    test('goes on moving as WebP', async () => {
      const frames = await Promise.all(
        ['#f00', '#0f0', '#00f'].map((background) =>
          sharp({ create: { width: 9, height: 7, channels: 3, background } })
            .png()
            .toBuffer(),
        ),
      );
      const gif = await sharp(frames, { join: { animated: true } })
        .gif()
        .toBuffer();
      const kept = await keepOne(await stored(gif, 'image/gif', 'a.gif'), { format: 'webp' });
      expect(kept).toMatchObject({ contentType: 'image/webp', width: 9, height: 7 });
      expect((await sharp(await bytesOf(kept)).metadata()).pages).toBe(3);
      expect(await keepOne(await stored(gif, 'image/gif', 'a.gif'), { format: 'png' })).toMatchObject({ width: 9, height: 7 });
    });

    test('stays as it came when it is broken or has more pixels than fit, and the log says so', async () => {
      const bomb = blackPng(20_000);
      expect(bomb.length).toBeLessThan(100_000);
      const broken = Buffer.concat([png.subarray(0, 60), Buffer.alloc(50, 1)]);
      for (const [path, body] of [
        ['/bomb.png', bomb],
        ['/broken.png', broken],
      ] as const) {
        answers[path] = sending(body);
        const before = process.memoryUsage.rss();
        const kept = await keepOne(linked(path), { format: 'webp' });
        expect(process.memoryUsage.rss() - before).toBeLessThan(100_000_000);
        expect(kept).toMatchObject({ contentType: 'image/png', bytes: body.length });
        expect((await bytesOf(kept)).equals(body)).toBe(true);
      }
      expect(logged.map(({ level, message }) => [level, message])).toEqual(Array(2).fill(['warn', 'picture not converted']));
    });
  });

  describe('a file that an adapter has stored', () => {
    test('gets the size that it lacks, and stays the file it is', async () => {
      const medium = await stored(png, 'image/png', 'a.png');
      expect(await keepOne(medium)).toEqual({ ...medium, width: 40, height: 30 });
      expect(asked).toEqual([]);
    });

    test('and that is no picture is left alone', async () => {
      const medium = await stored(mp4, 'video/mp4', 'a.mp4');
      expect(await keepOne(medium, { format: 'webp' })).toBe(medium);
    });

    test('is what its bytes say', async () => {
      const kept = await keepOne(await stored(webp, 'image/png', 'a.png'));
      expect(kept).toMatchObject({ contentType: 'image/webp', fileName: 'a.webp', width: 40 });
      const token = 'asset' in kept.location ? kept.location.asset : '';
      expect(await owned.engine.assets.find(token)).toMatchObject({ contentType: 'image/webp' });
      await expect(keepOne(await stored(html, 'image/png', 'a.png'))).rejects.toBeInstanceOf(RetryableError);
    });

    test('and that cannot be read stays in the result, and the log says so', async () => {
      const medium = await stored(png, 'image/png', 'a.png');
      await owned.engine.assets.remove(['asset' in medium.location ? medium.location.asset : '']);
      expect(await keepOne(medium)).toBe(medium);
      expect(logged).toMatchObject([{ level: 'warn', message: 'stored file not looked at' }]);
    });
  });

  test('keeping that is stopped leaves nothing and tells the reason', async () => {
    const stop = new AbortController();
    const reason = new Error('the attempt is over');
    answers['/a.png'] = sending(png);
    answers['/film.mp4'] = (response) => {
      response.writeHead(200, { 'content-length': mp4.length });
      response.write(mp4.subarray(0, 2_000_000));
    };
    const media = [linked('/a.png'), linked('/film.mp4', { contentType: 'video/mp4' })];
    const keeping = keep(media, { signal: stop.signal }, outputs({ haste: 1 }));
    await expect.poll(async () => (await owned.sql`select from assets where job_id = ${jobId} and bytes is not null`).length).toBe(1);
    stop.abort(reason);
    await expect(keeping).rejects.toBe(reason);
    expect(await filesBehind()).toEqual([]);
    await expect(keep(media, { signal: stop.signal })).rejects.toBe(reason);
  });

  test('300 MB pass without being in memory', async () => {
    const chunk = Buffer.concat([mp4.subarray(0, 32), Buffer.alloc(64 * 1024 - 32)]);
    const size = 300_000_000;
    answers['/long.mp4'] = async (response) => {
      response.writeHead(200, { 'content-length': size });
      for (let sent = 0; sent < size && !response.destroyed; sent += chunk.length) {
        if (!response.write(chunk.subarray(0, size - sent))) await new Promise((resolve) => response.once('drain', resolve));
      }
      response.end();
    };
    const before = process.memoryUsage.rss();
    let most = before;
    const watching = setInterval(() => {
      most = Math.max(most, process.memoryUsage.rss());
    }, 5);
    const kept = await keepOne(linked('/long.mp4', { contentType: 'video/mp4' }), {}, outputs({ bytesMax: 2 ** 30, haste: 1 }));
    clearInterval(watching);
    expect(kept.bytes).toBe(size);
    // The upstream is in this process too, and the server of the bucket.
    expect(most - before).toBeLessThan(150_000_000);
  });
});

test('a place that takes no files leaves the client its link', async () => {
  const s3 = await startS3Server();
  await using owned = await createTestEngine({ s3: s3.options });
  await s3[Symbol.asyncDispose]();
  await using upstream = await listen((_request, response) => void response.end(png));
  const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING' });
  const warned: object[] = [];
  const log = { debug: () => {}, info: () => {}, warn: (fields: object) => void warned.push(fields), error: () => {} };
  const made = makeOutputs({
    assets: owned.engine.assets,
    guard: openGuard({ allow: parseAllowList('127.0.0.1').allow }),
    clock: createHastyClock(1_000),
    random: () => 0.5,
    log,
    spoolFolder: `${owned.assetsFolder}/incoming`,
    settings: { store: 'copy', bytesMax: 1e6 },
  });
  const medium: Media = { location: { url: `${upstream.url}/a.png` }, contentType: 'image/png', fileName: 'a.png' };
  expect(await made.keep({ jobId, output: { media: [medium] }, signal: new AbortController().signal })).toEqual({ media: [medium] });
  expect(warned).toMatchObject([{ reason: 'unstored', tries: 4 }]);
  await made.close();
});

/** A picture of few bytes and many pixels: black, one bit each. */
function blackPng(side: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const frame = Buffer.alloc(8 + body.length);
    frame.writeUInt32BE(data.length, 0);
    body.copy(frame, 4);
    frame.writeUInt32BE(crc32(body), 4 + body.length);
    return frame;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head[8] = 1;
  const lines = deflateSync(Buffer.alloc(side * (1 + Math.ceil(side / 8))));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', head),
    chunk('IDAT', lines),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

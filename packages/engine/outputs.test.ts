import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { type Media, type Output, RetryableError, TerminalError } from '@claimcheck/core';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { openGuard, parseAllowList } from './outbound/index.ts';
import { startDnsServer } from './outbound/testing/dns-server.ts';
import { freePort } from './outbound/testing/receiver.ts';
import { makeOutputs } from './outputs.ts';
import { aJob } from './testing/fixtures.ts';
import { createHastyClock } from './testing/hasty-clock.ts';
import { listen } from './testing/index.ts';
import { type OutputOptions, PLACES, sending, setOutputScene, type UpstreamAnswer } from './testing/output-scene.ts';
import { startS3Server } from './testing/s3-server.ts';
import { createTestEngine } from './testing/test-engine.ts';

const png = await sharp({ create: { width: 40, height: 30, channels: 3, background: '#3366cc' } })
  .png()
  .toBuffer();
const webp = await sharp(png).webp().toBuffer();
const mp4 = Buffer.concat([Buffer.from('\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41', 'latin1'), randomBytes(3_000_000)]);
const html = Buffer.from('<!doctype html><title>Sign in</title>');

describe.each(PLACES)('with files in %s', (place) => {
  const scene = setOutputScene(place);
  const { answers, asked, logged, outputs, linked, keep, keepOne, bytesOf, countStored, filesBehind } = scene;

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
      const isFull = Promise.withResolvers<void>();
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
          if (open === 4) isFull.resolve();
          await isFull.promise;
          open -= 1;
          response.end(picture);
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
      const { media, ...rest } = await outputs().keep({ jobId: scene.jobId, output, signal });
      expect(rest).toEqual({ seed: 7, nsfw: [false], timings: { inference: 1 }, usage: { usd: 0.1 } });
      expect(media).toHaveLength(1);
      const text: Output = { media: [], text: 'a poem' };
      expect(await outputs().keep({ jobId: scene.jobId, output: text, format: 'webp', signal })).toBe(text);
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
    const truncated: UpstreamAnswer = (response) => {
      response.writeHead(200, { 'content-length': png.length });
      response.write(png.subarray(0, 60), () => response.destroy());
    };
    test.each<[string, UpstreamAnswer]>([
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
      expect(await scene.owned.sql`select from assets where job_id = ${scene.jobId}`).toHaveLength(1);
      expect(await filesBehind()).toHaveLength(1);
    });

    test.each<[string, string, number, UpstreamAnswer, OutputOptions]>([
      ['goes on answering 503', 'unreachable', 4, (response) => response.writeHead(503).end(), { haste: 50 }],
      ['goes on breaking off', 'unreachable', 4, truncated, { haste: 50 }],
      ['announces 2 GB', 'too_large', 1, (response) => response.writeHead(200, { 'content-length': 2 ** 31 }).write('x'), {}],
      ['sends more than is kept', 'too_large', 1, sending(mp4), { bytesMax: mp4.length - 1 }],
      ['has packed the file', 'unreachable', 1, sending(gzipSync(png), { 'content-encoding': 'gzip' }), {}],
      ['redirects for ever', 'unreachable', 4, (response, { url }) => response.writeHead(302, { location: url }).end(), { haste: 50 }],
      ['falls silent', 'unreachable', 4, (response) => response.writeHead(200).write(png.subarray(0, 50)), { haste: 100 }],
      [
        'drips for ever',
        'unreachable',
        1,
        (response) => {
          response.writeHead(200).write(mp4.subarray(0, 100));
          const dripping = setInterval(() => response.write('x'), 5);
          response.on('close', () => clearInterval(dripping));
        },
        { haste: 200 },
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
      expect(await keepOne(medium, {}, outputs({ haste: 50 }))).toBe(medium);
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
      const failure = await keepOne(linked('/a.png'), {}, outputs({ haste: 50 })).catch((error: unknown) => error);
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
      const failure = await keepOne(linked('/a', { contentType }), {}, outputs({ haste: 50 })).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(RetryableError);
      expect(asked).toHaveLength(4);
    });

    test('over one file leaves nothing of the others', async () => {
      answers['/a.png'] = sending(png);
      answers['/film.mp4'] = sending(mp4);
      answers['/gone.png'] = async (response) => {
        await expect.poll(countStored, { timeout: 60_000 }).toBe(2);
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
      const { port } = new URL(scene.upstream.url);
      const medium = linked('/a.png', { location: { url: `http://rebind.example.com:${port}/a.png` } });
      await expect(keepOne(medium, {}, outputs({ resolve: dns.resolve }))).rejects.toBeInstanceOf(TerminalError);
      expect(asked).toEqual(['/a.png']);
    });

    test.each(['file:///etc/passwd', 'data:text/html,x', 'javascript:alert(1)'])('is not handed to clients either: %s', async (url) => {
      const made = outputs({ store: 'link' });
      await expect(keepOne(linked('/a.png', { location: { url } }), {}, made)).rejects.toBeInstanceOf(TerminalError);
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
    await expect.poll(countStored, { timeout: 60_000 }).toBe(1);
    stop.abort(reason);
    await expect(keeping).rejects.toBe(reason);
    expect(await filesBehind()).toEqual([]);
    await expect(keep(media, { signal: stop.signal })).rejects.toBe(reason);
  });

  test('200 MB pass without being in memory', async () => {
    const chunk = Buffer.concat([mp4.subarray(0, 32), Buffer.alloc(64 * 1024 - 32)]);
    const size = 200_000_000;
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
    clock: createHastyClock(50),
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

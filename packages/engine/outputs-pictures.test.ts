import { randomBytes } from 'node:crypto';
import { crc32, deflateSync } from 'node:zlib';
import { RetryableError } from '@claimcheck/core';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { PLACES, sending, setOutputScene } from './testing/output-scene.ts';

/** A picture with something in it, so that its quality shows in its size. */
const noise = await sharp(randomBytes(64 * 48 * 3), { raw: { width: 64, height: 48, channels: 3 } })
  .resize(320, 240)
  .png()
  .toBuffer();
const png = await sharp({ create: { width: 40, height: 30, channels: 3, background: '#3366cc' } })
  .png()
  .toBuffer();
const webp = await sharp(png).webp().toBuffer();
const html = Buffer.from('<!doctype html><title>Sign in</title>');

describe.each(PLACES)('with files in %s', (place) => {
  const scene = setOutputScene(place);
  const { answers, asked, logged, linked, keep, keepOne, bytesOf, stored } = scene;

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
      const medium = await stored(html, 'video/mp4', 'a.mp4');
      expect(await keepOne(medium, { format: 'webp' })).toBe(medium);
    });

    test('is what its bytes say', async () => {
      const kept = await keepOne(await stored(webp, 'image/png', 'a.png'));
      expect(kept).toMatchObject({ contentType: 'image/webp', fileName: 'a.webp', width: 40 });
      const token = 'asset' in kept.location ? kept.location.asset : '';
      expect(await scene.owned.engine.assets.find(token)).toMatchObject({ contentType: 'image/webp' });
      await expect(keepOne(await stored(html, 'image/png', 'a.png'))).rejects.toBeInstanceOf(RetryableError);
    });

    test('and that cannot be read stays in the result, and the log says so', async () => {
      const medium = await stored(png, 'image/png', 'a.png');
      await scene.owned.engine.assets.remove(['asset' in medium.location ? medium.location.asset : '']);
      expect(await keepOne(medium)).toBe(medium);
      expect(logged).toMatchObject([{ level: 'warn', message: 'stored file not looked at' }]);
    });
  });
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

import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { drawPicture } from './_sandbox-picture.ts';
import { filmStill } from './_sandbox-video.ts';

const [WIDTH, HEIGHT] = [127, 96];

function drawWebp(quality = 80): Promise<Uint8Array> {
  return drawPicture({ text: 'a fox', width: WIDTH, height: HEIGHT, seed: 1, format: 'webp', quality });
}

interface Element {
  readonly id: string;
  readonly content: Buffer;
}

/** Reads one level of EBML; lengths in any of its widths. @throws when an element does not fill its place. */
function readElements(bytes: Buffer): readonly Element[] {
  const elements: Element[] = [];
  let offset = 0;
  const widthAt = (at: number) => Math.clz32(bytes[at] ?? 0) - 23;
  while (offset < bytes.length) {
    const idWidth = widthAt(offset);
    const id = bytes.toString('hex', offset, offset + idWidth);
    const lengthWidth = widthAt(offset + idWidth);
    const length = bytes.readUIntBE(offset + idWidth, lengthWidth) - 2 ** (7 * lengthWidth);
    const start = offset + idWidth + lengthWidth;
    offset = start + length;
    if (offset > bytes.length) throw new Error(`${id} reaches beyond its place.`);
    elements.push({ id, content: bytes.subarray(start, offset) });
  }
  return elements;
}

/** The contents of all that is found along the path of ids. */
function find(bytes: Buffer, ...[id, ...rest]: readonly string[]): readonly Buffer[] {
  const found = readElements(bytes).filter((element) => element.id === id);
  return found.flatMap(({ content }) => (rest.length > 0 ? find(content, ...rest) : [content]));
}

const SEGMENT = '18538067';
const CLUSTER = '1f43b675';

describe('a film', () => {
  test('is WebM with one VP8 track, of the size and length asked for', async () => {
    const film = Buffer.from(filmStill({ webp: await drawWebp(), width: WIDTH, height: HEIGHT, seconds: 2.5 }));
    expect(readElements(film).map(({ id }) => id)).toEqual(['1a45dfa3', SEGMENT]);
    expect(find(film, '1a45dfa3', '4282').map(String)).toEqual(['webm']);
    const [scale, duration] = [find(film, SEGMENT, '1549a966', '2ad7b1')[0], find(film, SEGMENT, '1549a966', '4489')[0]];
    expect(((duration?.readDoubleBE() ?? 0) * (scale?.readUInt32BE() ?? 0)) / 1e9).toBe(2.5);
    const track = (...path: string[]) => find(film, SEGMENT, '1654ae6b', 'ae', ...path);
    expect(track('86').map(String)).toEqual(['V_VP8']);
    expect([...track('e0', 'b0'), ...track('e0', 'ba')].map((bytes) => bytes.readUInt32BE())).toEqual([WIDTH, HEIGHT]);
  });

  test.each([
    [1, [0]],
    [2.5, [0, 1000, 2000]],
    [3, [0, 1000, 2000]],
    [60, Array.from({ length: 60 }, (_, second) => 1000 * second)],
  ])('of %d seconds has a key frame for each that begins', async (seconds, times) => {
    const film = Buffer.from(filmStill({ webp: await drawWebp(), width: WIDTH, height: HEIGHT, seconds }));
    expect(find(film, SEGMENT, CLUSTER, 'e7').map((time) => time.readUInt32BE())).toEqual(times);
    const blocks = find(film, SEGMENT, CLUSTER, 'a3');
    expect(blocks.map((block) => block.toString('hex', 0, 4))).toEqual(times.map(() => '81000080'));
  });

  test('shows the picture, pixel by pixel', async () => {
    const webp = await drawWebp();
    const film = Buffer.from(filmStill({ webp, width: WIDTH, height: HEIGHT, seconds: 2 }));
    for (const block of find(film, SEGMENT, CLUSTER, 'a3')) {
      const frame = block.subarray(4);
      // VP8: the lowest bit of a key frame is 0, then comes its start code.
      expect([(frame[0] ?? 1) & 1, frame.toString('hex', 3, 6)]).toEqual([0, '9d012a']);
      expect(await sharp(wrap(frame)).raw().toBuffer()).toEqual(await sharp(webp).raw().toBuffer());
    }
  });

  test('cannot be made of what holds no such frame', async () => {
    const others = [sharp(await drawWebp()).webp({ lossless: true }), sharp(await drawWebp()).png()];
    for (const other of others) {
      const webp = await other.toBuffer();
      expect(() => filmStill({ webp, width: WIDTH, height: HEIGHT, seconds: 1 })).toThrow('Only a lossy WebP');
    }
  });
});

/** A frame as the WebP that it came from. */
function wrap(frame: Buffer): Buffer {
  const padding = Buffer.alloc(frame.length % 2);
  const [riffLength, frameLength] = [Buffer.alloc(4), Buffer.alloc(4)];
  riffLength.writeUInt32LE(12 + frame.length + padding.length);
  frameLength.writeUInt32LE(frame.length);
  return Buffer.concat([Buffer.from('RIFF'), riffLength, Buffer.from('WEBPVP8 '), frameLength, frame, padding]);
}

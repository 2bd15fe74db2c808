import { describe, expect, test } from 'vitest';
import { judgeType, namedAs } from './media-type.ts';

const bytes = (text: string, length = 200) => Buffer.concat([Buffer.from(text, 'latin1'), Buffer.alloc(length)]);
const ftyp = (brand: string) => bytes(`\0\0\0\x20ftyp${brand}\0\0\0\0isomiso2mp41`);

const PNG = bytes('\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0');
const JPEG = bytes('\xff\xd8\xff\xe0\0\x10JFIF');
const WEBP = bytes('RIFF\x24\0\0\0WEBPVP8 ');
const MP4 = ftyp('isom');
const HTML = Buffer.from('<!DOCTYPE html>\n<html><body>Sign in</body></html>');
const JSON_TEXT = Buffer.from('{"error":"expired"}');
const XML = Buffer.from('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>');
const SVG = Buffer.from('<?xml version="1.0"?>\n<!-- made -->\n<!DOCTYPE svg PUBLIC "x">\n<svg xmlns="http://www.w3.org/2000/svg"/>');
const NOISE = Buffer.from(Array.from({ length: 300 }, (_, index) => (index * 97 + 128) % 256));
const UNKNOWN = 'application/octet-stream';

describe('a file is what its bytes say', () => {
  test.each([
    ['image/png', 'png', PNG],
    ['image/jpeg', 'jpg', JPEG],
    ['image/webp', 'webp', WEBP],
    ['image/gif', 'gif', bytes('GIF89a')],
    ['image/avif', 'avif', ftyp('avif')],
    ['image/tiff', 'tif', bytes('II*\0\x08\0\0\0')],
    ['image/bmp', 'bmp', bytes('BM')],
    ['video/mp4', 'mp4', MP4],
    ['video/quicktime', 'mov', ftyp('qt  ')],
    ['video/webm', 'webm', bytes('\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm')],
    ['audio/mpeg', 'mp3', bytes('ID3\x03\0\0\0\x06\x1a\x30')],
    ['audio/mpeg', 'mp3', bytes('\xff\xfb\x90\x64')],
    ['audio/wav', 'wav', bytes('RIFF\x24\0\0\0WAVEfmt ')],
    ['audio/ogg', 'opus', bytes('OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead')],
    ['audio/flac', 'flac', bytes('fLaC\0\0\0\x22')],
    ['audio/mp4', 'm4a', ftyp('M4A ')],
    ['model/gltf-binary', 'glb', bytes('glTF\x02\0\0\0')],
    ['application/pdf', 'pdf', bytes('%PDF-1.7')],
  ])('%s (%s), whatever was told', async (contentType, extension, head) => {
    const isMedium = /^(image|video|audio)/.test(contentType);
    for (const told of [undefined, UNKNOWN, ...(isMedium ? ['image/png', 'video/x-unknown'] : ['application/x-thing'])]) {
      expect(await judgeType(head, [told]), told).toEqual({ contentType, extension });
    }
  });

  test('but for sound in a container that it shares with video, and for types that are made of usual ones', async () => {
    expect(await judgeType(MP4, ['audio/mp4'])).toEqual({ contentType: 'audio/mp4' });
    expect(await judgeType(MP4, ['video/mp4; codecs=avc1'])).toEqual({ contentType: 'video/mp4', extension: 'mp4' });
    const zip = bytes('PK\x03\x04\x14\0\0\0\x08\0');
    expect(await judgeType(zip, ['model/vnd.usdz+zip'])).toEqual({ contentType: 'model/vnd.usdz+zip' });
    expect(await judgeType(zip, [UNKNOWN])).toEqual({ contentType: 'application/zip', extension: 'zip' });
  });

  test('and what is told second counts where the first says nothing', async () => {
    expect(await judgeType(NOISE, [UNKNOWN, undefined, 'audio/basic'])).toEqual({ contentType: 'audio/basic' });
    expect(await judgeType(NOISE, ['nonsense', 'audio/l16;rate=8000'])).toEqual({ contentType: 'audio/l16' });
    expect(await judgeType(NOISE, [])).toEqual({ contentType: UNKNOWN });
  });

  test('and a drawing in SVG is a picture', async () => {
    for (const told of ['image/svg+xml', 'image/png', undefined]) {
      expect(await judgeType(SVG, [told]), told).toEqual({ contentType: 'image/svg+xml', extension: 'svg' });
    }
  });
});

describe('a file is not what was told', () => {
  test.each([
    ['a page for a picture', HTML, 'image/png'],
    ['a page for a video', HTML, 'video/mp4'],
    ['a page for a file of some kind', HTML, 'model/gltf-binary'],
    ['a page for who knows what', HTML, undefined],
    ['a page behind a comment', Buffer.from('<!-- proxy -->\n<html>'), undefined],
    ['a page behind many comments', Buffer.from(`${'<!---->'.repeat(500)}<html>`), 'video/mp4'],
    ['an error in JSON for a picture', JSON_TEXT, 'image/webp'],
    ['an error in JSON for a sound', JSON_TEXT, 'audio/wav'],
    ['an error in XML for a picture', XML, 'image/jpeg'],
    ['an archive for a picture', bytes('PK\x03\x04\x14\0\0\0\x08\0'), 'image/png'],
    ['noise for a picture', NOISE, 'image/png'],
    ['nothing for a picture', Buffer.alloc(0), 'image/png'],
  ])('%s', async (_what, head, told) => {
    expect(await judgeType(head, [told])).toBeUndefined();
  });

  test.each([
    ['a page that was told', HTML, 'text/html'],
    ['JSON that was told', JSON_TEXT, 'application/json'],
    ['XML that was told', XML, 'application/xml'],
    ['text that was told', Buffer.from('a poem'), 'text/plain'],
    ['sound that nobody recognises', NOISE, 'audio/basic'],
  ])('which %s is', async (_what, head, told) => {
    expect(await judgeType(head, [told])).toEqual({ contentType: told });
  });
});

test.each([
  ['a.png', 'webp', 'a.webp'],
  ['a.b.JPEG', 'png', 'a.b.png'],
  ['image', 'png', 'image.png'],
  ['model-v1.5', 'png', 'model-v1.5.png'],
  ['.png', 'jpg', '.png.jpg'],
  ['film.html', 'mp4', 'film.mp4'],
])('%s as %s is called %s', (name, extension, expected) => {
  expect(namedAs(name, extension)).toBe(expected);
});

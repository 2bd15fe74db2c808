import { expect, test } from 'vitest';
import { readPicture, readPrompt } from './_sandbox-parameters.ts';

test.each([
  [{ resolution: '1024 × 1024 (Square)' }, [1024, 1024]],
  [{ resolution: '768 × 1360 (Portrait)' }, [768, 1360]],
  [{ size: '1024*768' }, [1024, 768]],
  [{ size: '640x480' }, [640, 480]],
  [{ size: 'auto' }, [1024, 1024]],
  [{ width: 512, height: 256 }, [512, 256]],
  [{ width: '512' }, [512, 1024]],
  [{ image_size: 'landscape_16_9' }, [1024, 576]],
  [{ image_size: 'square_hd' }, [1024, 1024]],
  [{ image_size: 'constructor' }, [1024, 1024]],
  [{ image_size: { width: 300, height: 200 } }, [300, 200]],
  [{ image_size: '320x240' }, [320, 240]],
  [{ aspect_ratio: '16:9' }, [1360, 768]],
  [{ aspect_ratio: '1:1' }, [1024, 1024]],
  [{ aspect_ratio: '0:0' }, [1024, 1024]],
  [{ size: '1x99999' }, [64, 2048]],
  [{ width: 511.6, height: 1e9 }, [512, 2048]],
  [{}, [1024, 1024]],
])('%j asks for %j pixels', (parameters, [width, height]) => {
  expect(readPicture(parameters)).toMatchObject({ width, height });
});

test.each([
  ['png', 'png'],
  ['jpg', 'jpeg'],
  ['JPEG', 'jpeg'],
  ['webp', 'webp'],
  ['constructor', 'webp'],
  [undefined, 'webp'],
] as const)('output_format %j gives %s', (asked, format) => {
  expect(readPicture(asked === undefined ? {} : { output_format: asked }).format).toBe(format);
});

test.each([
  [undefined, 100],
  [80, 80],
  ['75', 75],
  [0, 1],
  [1000, 100],
  ['best', 100],
])('output_quality %j gives %i', (asked, quality) => {
  expect(readPicture(asked === undefined ? {} : { output_quality: asked }).quality).toBe(quality);
});

test('a given seed is used as it is', () => {
  expect([42, 0, '7', 2 ** 40].map((seed) => readPicture({ seed }).seed)).toEqual([42, 0, 7, 2 ** 40]);
});

test('without a seed, equal parameters give an equal one and others another', () => {
  const { seed } = readPicture({ prompt: 'a fox', size: '64x64' });
  for (const same of [{ seed: -1 }, { seed: null }, { seed: 'any' }, { seed: 1.5 }]) {
    expect(readPicture({ ...same, size: '64x64', prompt: 'a fox' }).seed).toBe(seed);
  }
  expect(readPicture({ prompt: 'a dog', size: '64x64' }).seed).not.toBe(seed);
  expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31).toBe(true);
});

test('the prompt is a text or nothing', () => {
  expect(readPrompt({ prompt: 'a fox' })).toBe('a fox');
  expect(readPrompt({ prompt: 5 })).toBe('');
  expect(readPrompt({})).toBe('');
});

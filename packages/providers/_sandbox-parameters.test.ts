import type { JsonValue } from '@claimcheck/core';
import { expect, test } from 'vitest';
import { readCount, readPicture, readPrompt, readSeconds, readSeed } from './_sandbox-parameters.ts';

test.each([
  [{ resolution: '1024 × 1024 (Square)' }, [1024, 1024]],
  [{ resolution: '768 × 1360 (Portrait)' }, [768, 1360]],
  [{ size: '1024*768' }, [1024, 768]],
  [{ size: '640x480' }, [640, 480]],
  [{ size: '1365x768' }, [1365, 768]],
  [{ size: '16:9' }, [1360, 768]],
  [{ size: '9:16', aspect_ratio: '1:1' }, [768, 1360]],
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
  [{ aspect_ratio: '3:2', resolution: '1K' }, [1248, 832]],
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
  ['avif', 'avif'],
  ['GIF', 'gif'],
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

test("OpenAI's output_compression is the quality, too", () => {
  expect(readPicture({ output_compression: 40 }).quality).toBe(40);
  expect(readPicture({ output_compression: 40, output_quality: 60 }).quality).toBe(60);
});

test.each([
  [{}, 1],
  [{ num_images: 4 }, 4],
  [{ num_outputs: 2 }, 2],
  [{ n: 3 }, 3],
  [{ n: '3' }, 3],
  [{ n: null }, 1],
  [{ num_images: 0 }, 1],
  [{ n: 1e9 }, 10],
])('%j asks for %i of them', (parameters, count) => {
  expect(readCount(parameters)).toBe(count);
});

test.each([
  [{}, 5],
  [{ duration: 8 }, 8],
  [{ duration: 2.5 }, 2.5],
  [{ seconds: '12' }, 12],
  [{ duration: '5s' }, 5],
  [{ duration: 0 }, 1],
  [{ duration: -3 }, 1],
  [{ duration: 86_400 }, 60],
])('%j asks for %d seconds', (parameters, seconds) => {
  expect(readSeconds(parameters)).toBe(seconds);
});

test('a given seed is used as it is', () => {
  expect([42, 0, '7', 2 ** 40].map((seed) => readSeed({ seed }))).toEqual([42, 0, 7, 2 ** 40]);
});

test('without a seed, equal parameters give an equal one and others another', () => {
  const seed = readSeed({ prompt: 'a fox', size: '64x64' });
  for (const same of [{ seed: -1 }, { seed: null }, { seed: 'any' }, { seed: 1.5 }]) {
    expect(readSeed({ ...same, size: '64x64', prompt: 'a fox' })).toBe(seed);
  }
  expect(readSeed({ prompt: 'a dog', size: '64x64' })).not.toBe(seed);
  expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31).toBe(true);
});

test.each<[JsonValue, string]>([
  [[{ role: 'user', content: 'a fox' }], 'a fox'],
  [
    [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'a fox' },
    ],
    'a fox',
  ],
  [[{ role: 'user', content: [{ type: 'text', text: 'a fox' }, { type: 'image_url' }, { type: 'text', text: 'runs' }] }], 'a fox\nruns'],
  [[{ role: 'user', content: [null, 1] }], ''],
  [[{ role: 'user' }], ''],
  [['a fox'], ''],
  [[], ''],
  ['a fox', ''],
])('of the conversation %j it answers to %j', (messages, prompt) => {
  expect(readPrompt({ messages })).toBe(prompt);
});

test('the prompt is a text or nothing', () => {
  expect(readPrompt({ prompt: 'a fox' })).toBe('a fox');
  expect(readPrompt({ prompt: 5 })).toBe('');
  expect(readPrompt({})).toBe('');
});

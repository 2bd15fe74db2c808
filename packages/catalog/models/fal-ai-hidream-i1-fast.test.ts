import type { JsonValue } from '@claimcheck/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel, PRUNA_SIZES, UNSQUEEZED } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('fal-ai/hidream-i1-fast');
});

const DEFAULTS = {
  negative_prompt: '',
  num_inference_steps: 16,
  num_images: 1,
  enable_safety_checker: true,
  output_format: 'jpeg',
  sync_mode: false,
};
const EVERYTHING = {
  prompt: 'a fox',
  negative_prompt: 'dogs',
  image_size: { width: 1248, height: 832 },
  num_inference_steps: 20,
  seed: 7,
  num_images: 3,
  enable_safety_checker: false,
  output_format: 'png',
  sync_mode: true,
};
/** The vendor's names for sizes, in pixels. */
const NAMED = [
  ['square_hd', 1024, 1024],
  ['square', 512, 512],
  ['portrait_4_3', 768, 1024],
  ['portrait_16_9', 576, 1024],
  ['landscape_4_3', 1024, 768],
  ['landscape_16_9', 1024, 576],
] as const;

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual([
      'prompt',
      'negative_prompt',
      'image_size',
      'num_inference_steps',
      'seed',
      'num_images',
      'enable_safety_checker',
      'output_format',
      'sync_mode',
    ]);
    expect(built.model).toMatchObject({ produces: 'image', routing: 'order', outputFormat: { format: 'output_format' } });
  });

  it("fills in the vendor's defaults behind a prompt, but no size and no seed", () => {
    expect(built.fill({ prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  it.each<JsonValue>([...NAMED.map(([name]) => name), { width: 300, height: 200 }, { width: 300 }, {}])(
    'accepts the size %j',
    (image_size) => {
      expect(built.fill({ prompt: 'a fox', image_size })).toMatchObject({ image_size });
    },
  );

  it.each([
    [{}, '/prompt', 'is missing; it must be a string'],
    [{ prompt: 'a fox', image_size: { width: 0 } }, '/image_size/width', 'is 0; it must be an integer of at least 1'],
    [{ prompt: 'a fox', num_inference_steps: 0 }, '/num_inference_steps', 'is 0; it must be an integer of at least 1'],
    [{ prompt: 'a fox', num_images: 0 }, '/num_images', 'is 0; it must be an integer of at least 1'],
    [{ prompt: 'a fox', output_format: 'webp' }, '/output_format', 'is "webp"; it must be one of "jpeg", "png"'],
    [{ prompt: 'a fox', enable_safety_checker: 'no' }, '/enable_safety_checker', 'is "no"; it must be true or false'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toContainEqual({ pointer, message });
  });

  it('refuses a size that has no name', () => {
    expect(built.problemsWith({ prompt: 'a fox', image_size: '1024x1024' })[0]).toMatchObject({ pointer: '/image_size' });
  });
});

describe('what is sent', () => {
  it('goes to fal as it is, the unknown included', async () => {
    const given = { ...EVERYTHING, loras: [] };
    expect(await built.sent('fal', given)).toEqual(given);
    expect(await built.sent('fal', { prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  it.each([
    [
      'lumenfall',
      { prompt: 'a fox' },
      { prompt: 'a fox', n: 1, output_format: 'jpeg', num_inference_steps: 16, enable_safety_checker: true },
    ],
    [
      'lumenfall',
      EVERYTHING,
      {
        prompt: 'a fox',
        negative_prompt: 'dogs',
        size: '1248x832',
        n: 3,
        seed: 7,
        output_format: 'png',
        num_inference_steps: 20,
        enable_safety_checker: false,
      },
    ],
    ['replicate', { prompt: 'a fox' }, { prompt: 'a fox', output_format: 'jpg', speed_mode: UNSQUEEZED }],
    [
      'replicate',
      { ...EVERYTHING, num_inference_steps: 16, num_images: 1, enable_safety_checker: true },
      {
        prompt: 'a fox',
        negative_prompt: 'dogs',
        resolution: '1248 × 832 (Landscape)',
        seed: 7,
        output_format: 'png',
        speed_mode: UNSQUEEZED,
      },
    ],
    ['segmind', { prompt: 'a fox' }, { prompt: 'a fox', output_format: 'jpg', speed_mode: UNSQUEEZED }],
    [
      'segmind',
      { ...EVERYTHING, negative_prompt: '', num_inference_steps: 16, num_images: 1, enable_safety_checker: true },
      { prompt: 'a fox', resolution: '1248 × 832 (Landscape)', seed: 7, output_format: 'png', speed_mode: UNSQUEEZED },
    ],
    ['inference-sh', { prompt: 'a fox' }, { prompt: 'a fox', width: 1024, height: 1024, num_inference_steps: 16 }],
    [
      'inference-sh',
      { ...EVERYTHING, negative_prompt: '', num_images: 1, enable_safety_checker: true },
      { prompt: 'a fox', width: 1248, height: 832, seed: 7, num_inference_steps: 20 },
    ],
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each(NAMED)('has the pixels of %s', async (image_size, width, height) => {
    const given = { prompt: 'a fox', image_size };
    expect(await built.sent('lumenfall', given)).toMatchObject({ size: `${width}x${height}` });
    expect(await built.sent('inference-sh', given)).toMatchObject({ width, height });
    expect(await built.estimateUsd('fal', given)).toBe((width * height) / 100_000_000);
  });

  it('has the side that fal takes where the client gave one only', async () => {
    const given = { prompt: 'a fox', image_size: { width: 800 } };
    expect(await built.sent('lumenfall', given)).toMatchObject({ size: '800x512' });
    expect(await built.sent('inference-sh', given)).toMatchObject({ width: 800, height: 512 });
    expect(await built.sent('lumenfall', { prompt: 'a fox', image_size: {} })).toMatchObject({ size: '512x512' });
  });

  it.each(PRUNA_SIZES)('is %s where the pixels are those of one of its sizes', async (resolution, width, height) => {
    for (const provider of ['replicate', 'segmind']) {
      expect(await built.sent(provider, { prompt: 'a fox', image_size: { width, height } })).toMatchObject({ resolution });
    }
    expect(await built.sent('replicate', { prompt: 'a fox', image_size: 'square_hd' })).toMatchObject({ resolution: PRUNA_SIZES[0][0] });
  });

  it.each<JsonValue>([
    'square',
    'portrait_4_3',
    'portrait_16_9',
    'landscape_4_3',
    'landscape_16_9',
    { width: 1000, height: 1000 },
    { width: 800 },
  ])('has no size %j at Replicate and Segmind, which say what they have', async (image_size) => {
    for (const provider of ['replicate', 'segmind']) {
      const message = `must be square_hd, or 1024x1024, 1360x768, 768x1360, 1248x832, 832x1248, 1168x880 or 880x1168 at ${provider}`;
      expect(await built.problemsAt(provider, { prompt: 'a fox', image_size })).toEqual([{ pointer: '/image_size', message }]);
    }
  });

  it.each([
    { width: 1001, height: 1000 },
    { width: 1000, height: 1001 },
    { width: 2048, height: 2048 },
  ])('has no size %j at inference.sh, which would change it', async (image_size) => {
    const message = 'must have sides that are multiples of 8 and 2073600 pixels at most at inference-sh';
    expect(await built.problemsAt('inference-sh', { prompt: 'a fox', image_size })).toEqual([{ pointer: '/image_size', message }]);
  });

  it.each([
    ['replicate', { num_inference_steps: 17 }, '16'],
    ['replicate', { num_images: 2 }, '1'],
    ['replicate', { enable_safety_checker: false }, 'true'],
    ['segmind', { negative_prompt: 'dogs' }, '""'],
    ['segmind', { num_images: 2 }, '1'],
    ['segmind', { num_inference_steps: 17 }, '16'],
    ['segmind', { enable_safety_checker: false }, 'true'],
    ['inference-sh', { negative_prompt: 'dogs' }, '""'],
    ['inference-sh', { num_images: 2 }, '1'],
    ['inference-sh', { enable_safety_checker: false }, 'true'],
  ])('is refused for %s where it has no word for %j', async (provider, given, byDefault) => {
    const message = `cannot be expressed by ${provider}: leave it out, or send its default, ${byDefault}`;
    expect(await built.problemsAt(provider, { prompt: 'a fox', ...given })).toEqual([{ pointer: `/${Object.keys(given)[0]}`, message }]);
  });
});

it.each([
  ['fal', { prompt: 'a fox' }, 0.01048576],
  ['fal', EVERYTHING, 0.03115008],
  ['lumenfall', EVERYTHING, 0.015],
  ['replicate', { prompt: 'a fox' }, 0.005],
  ['segmind', { prompt: 'a fox' }, 0.015],
  ['inference-sh', { prompt: 'a fox' }, undefined],
])('costs at %s, for %j, %f dollars', async (provider, given, usd) => {
  expect(await built.estimateUsd(provider, given)).toBe(usd);
});

import type { JsonObject } from '@claimcheck/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel, PRUNA_SIZES, SPEED_MODES } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('hidream-i1-fast');
});

const DEFAULTS = { response_format: 'url', n: 1 };
const EVERYTHING = {
  prompt: 'a fox',
  negative_prompt: 'dogs',
  seed: 7,
  size: '1360x768',
  aspect_ratio: '1:1',
  resolution: '4K',
  response_format: 'b64_json',
  output_format: 'webp',
  output_compression: 80,
  n: 3,
  enable_safety_checker: true,
  model_type: 'fast',
  num_inference_steps: 20,
  output_quality: 70,
  speed_mode: 'Juiced 🔥 (more speed)',
  sync_mode: true,
};
/** The ratios that Pruna's sizes stand for. */
const RATIOS = [
  ['1:1', '1024 × 1024 (Square)', 1024, 1024],
  ['9:16', '768 × 1360 (Portrait)', 768, 1360],
  ['16:9', '1360 × 768 (Landscape)', 1360, 768],
  ['3:4', '880 × 1168 (Portrait)', 880, 1184],
  ['4:3', '1168 × 880 (Landscape)', 1184, 880],
  ['3:2', '1248 × 832 (Landscape)', 1248, 832],
  ['2:3', '832 × 1248 (Portrait)', 832, 1248],
] as const;
const OTHERS = ['replicate', 'fal', 'segmind', 'inference-sh'];

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual(Object.keys(EVERYTHING));
    expect(built.model).toMatchObject({
      produces: 'image',
      routing: 'price',
      outputFormat: { format: 'output_format', quality: 'output_compression' },
    });
  });

  it("fills in the vendor's defaults behind a prompt", () => {
    expect(built.fill({ prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  it.each([
    ...SPEED_MODES.map((speed_mode) => ({ speed_mode })),
    ...['png', 'jpeg', 'gif', 'webp', 'avif'].map((output_format) => ({ output_format })),
    ...['1024x1024', '16:9', '99999x1'].map((size) => ({ size })),
    { aspect_ratio: '21:9' },
  ])('accepts %j', (given) => {
    expect(built.fill({ prompt: 'a fox', ...given })).toMatchObject(given);
  });

  it.each([
    [{}, '/prompt', 'is missing; it must be a string'],
    [{ prompt: 'a fox', n: 0 }, '/n', 'is 0; it must be an integer from 1 to 10'],
    [{ prompt: 'a fox', n: 11 }, '/n', 'is 11; it must be an integer from 1 to 10'],
    [{ prompt: 'a fox', response_format: 'file' }, '/response_format', 'is "file"; it must be one of "url", "b64_json"'],
    [{ prompt: 'a fox', output_compression: 101 }, '/output_compression', 'is 101; it must be an integer from 1 to 100'],
    [{ prompt: 'a fox', output_quality: 0 }, '/output_quality', 'is 0; it must be an integer from 1 to 100'],
    [{ prompt: 'a fox', model_type: 'dev' }, '/model_type', 'is "dev"; it must be "fast"'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });

  it.each<JsonObject>([
    { size: '1024*1024' },
    { size: '0x1' },
    { size: '100:1' },
    { size: '1K' },
    { aspect_ratio: '1024x1024' },
    { aspect_ratio: '0:1' },
  ])('refuses %j', (given) => {
    expect(built.problemsWith({ prompt: 'a fox', ...given })).toMatchObject([{ pointer: `/${Object.keys(given)[0]}` }]);
  });
});

describe('what is sent', () => {
  it('goes to Lumenfall as it is, the unknown included', async () => {
    const given = { ...EVERYTHING, style: 'vivid' };
    expect(await built.sent('lumenfall', given)).toEqual(given);
    expect(await built.sent('lumenfall', { prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  const without = (...names: readonly string[]): JsonObject =>
    Object.fromEntries(Object.entries(EVERYTHING).filter(([name]) => !names.includes(name)));
  /** What Pruna's has words for. */
  const PRUNA = without('n', 'enable_safety_checker', 'num_inference_steps');
  it.each([
    ['replicate', { prompt: 'a fox' }, { prompt: 'a fox' }],
    [
      'replicate',
      PRUNA,
      {
        prompt: 'a fox',
        negative_prompt: 'dogs',
        resolution: '1360 × 768 (Landscape)',
        seed: 7,
        output_format: 'png',
        output_quality: 70,
        speed_mode: 'Juiced 🔥 (more speed)',
        model_type: 'fast',
      },
    ],
    ['segmind', { prompt: 'a fox' }, { prompt: 'a fox' }],
    [
      'segmind',
      { ...PRUNA, negative_prompt: '' },
      {
        prompt: 'a fox',
        resolution: '1360 × 768 (Landscape)',
        seed: 7,
        output_format: 'png',
        output_quality: 70,
        speed_mode: 'Juiced 🔥 (more speed)',
        model_type: 'fast',
      },
    ],
    ['fal', { prompt: 'a fox' }, { prompt: 'a fox', num_images: 1 }],
    [
      'fal',
      without('output_quality'),
      {
        prompt: 'a fox',
        negative_prompt: 'dogs',
        image_size: { width: 1360, height: 768 },
        num_inference_steps: 20,
        num_images: 3,
        enable_safety_checker: true,
        sync_mode: true,
        seed: 7,
        output_format: 'png',
      },
    ],
    ['inference-sh', { prompt: 'a fox' }, { prompt: 'a fox' }],
    [
      'inference-sh',
      { ...without('enable_safety_checker', 'output_quality'), negative_prompt: '', n: 1 },
      { prompt: 'a fox', width: 1360, height: 768, seed: 7, num_inference_steps: 20 },
    ],
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each(PRUNA_SIZES)('is %s for its pixels', async (resolution, width, height) => {
    const given = { prompt: 'a fox', size: `${width}x${height}` };
    for (const provider of ['replicate', 'segmind']) expect(await built.sent(provider, given)).toMatchObject({ resolution });
    expect(await built.sent('fal', given)).toMatchObject({ image_size: { width, height } });
    expect(await built.sent('inference-sh', given)).toMatchObject({ width, height });
  });

  it.each(RATIOS)('is about a megapixel for the ratio %s, or %s', async (ratio, resolution, width, height) => {
    const same: readonly JsonObject[] = [
      { prompt: 'a fox', size: ratio },
      { prompt: 'a fox', aspect_ratio: ratio, resolution: '1K' },
      // A ratio as the size settles the shape, too.
      { prompt: 'a fox', size: ratio, aspect_ratio: '21:9' },
    ];
    for (const given of same) {
      for (const provider of ['replicate', 'segmind']) expect(await built.sent(provider, given)).toMatchObject({ resolution });
      expect(await built.sent('fal', given)).toMatchObject({ image_size: { width, height } });
      expect(await built.sent('inference-sh', given)).toMatchObject({ width, height });
    }
  });

  it.each([
    ['21:9', 1568, 672],
    ['5:4', 1152, 912],
  ])('makes the ratio %s of %i by %i pixels where any size goes', async (aspect_ratio, width, height) => {
    expect(await built.sent('fal', { prompt: 'a fox', aspect_ratio })).toMatchObject({ image_size: { width, height } });
    expect(await built.sent('inference-sh', { prompt: 'a fox', aspect_ratio })).toMatchObject({ width, height });
  });

  const ratios = '1:1, 16:9, 9:16, 3:2, 2:3, 4:3 or 3:4';
  const pixels = '1024x1024, 1360x768, 768x1360, 1248x832, 832x1248, 1168x880 or 880x1168';
  it.each([
    ['size', '512x512', `${ratios}, or in pixels ${pixels}`],
    ['size', '21:9', `${ratios}, or in pixels ${pixels}`],
    ['aspect_ratio', '21:9', ratios],
  ])('has no %s %s at Replicate and Segmind, which say what they have', async (name, value, has) => {
    for (const provider of ['replicate', 'segmind']) {
      const problems = await built.problemsAt(provider, { prompt: 'a fox', [name]: value });
      expect(problems).toEqual([{ pointer: `/${name}`, message: `must be ${has} at ${provider}` }]);
    }
  });

  it.each(OTHERS)('is of the tier 1K at %s, unless a size of pixels says so', async (provider) => {
    const problem = { pointer: '/resolution', message: `must be 1K at ${provider}` };
    expect(await built.problemsAt(provider, { prompt: 'a fox', resolution: '4K' })).toEqual([problem]);
    expect(await built.problemsAt(provider, { prompt: 'a fox', resolution: '4K', size: '1:1' })).toEqual([problem]);
    const sent = await built.sent(provider, { prompt: 'a fox', resolution: '4K', size: '1024x1024' });
    expect(sent).not.toHaveProperty('tier');
  });

  it.each(['1001x1000', '1000x1001', '2048x2048'])('has no size %s at inference.sh, which would change it', async (size) => {
    const message = 'must have sides that are multiples of 8 and 2073600 pixels at most at inference-sh';
    expect(await built.problemsAt('inference-sh', { prompt: 'a fox', size })).toEqual([{ pointer: '/size', message }]);
  });

  it.each([
    ['png', 'png', 'png'],
    ['jpeg', 'jpg', 'jpeg'],
    ['webp', 'webp', 'png'],
    ['avif', 'png', 'png'],
  ])('asks for %s as %s or %s, and for PNG to compress it here', async (output_format, pruna, fal) => {
    const given = { prompt: 'a fox', output_format };
    for (const provider of ['replicate', 'segmind']) expect(await built.sent(provider, given)).toMatchObject({ output_format: pruna });
    expect(await built.sent('fal', given)).toMatchObject({ output_format: fal });
    expect(await built.sent('inference-sh', given)).toEqual({ prompt: 'a fox' });
    for (const provider of ['replicate', 'segmind', 'fal']) {
      expect(await built.sent(provider, { ...given, output_compression: 50 })).toMatchObject({ output_format: 'png' });
    }
  });

  it.each(OTHERS)('is no GIF at %s', async (provider) => {
    const message = `must be png, jpeg, webp or avif at ${provider}`;
    expect(await built.problemsAt(provider, { prompt: 'a fox', output_format: 'gif' })).toEqual([{ pointer: '/output_format', message }]);
  });

  it.each([
    ['replicate', { n: 2 }, 'send its default, 1'],
    ['replicate', { enable_safety_checker: true }, 'choose another provider'],
    ['replicate', { num_inference_steps: 16 }, 'choose another provider'],
    ['fal', { output_quality: 70 }, 'choose another provider'],
    ['segmind', { n: 2 }, 'send its default, 1'],
    ['segmind', { enable_safety_checker: true }, 'choose another provider'],
    ['segmind', { num_inference_steps: 16 }, 'choose another provider'],
    ['inference-sh', { n: 2 }, 'send its default, 1'],
    ['inference-sh', { enable_safety_checker: true }, 'choose another provider'],
    ['inference-sh', { output_quality: 70 }, 'choose another provider'],
  ])('is refused for %s where it has no word for %j', async (provider, given, way) => {
    const message = `cannot be expressed by ${provider}: leave it out, or ${way}`;
    expect(await built.problemsAt(provider, { prompt: 'a fox', ...given })).toEqual([{ pointer: `/${Object.keys(given)[0]}`, message }]);
  });

  it.each(['segmind', 'inference-sh'])('has no negative prompt at %s, which says so', async (provider) => {
    expect(await built.problemsAt(provider, { prompt: 'a fox', negative_prompt: 'dogs' })).toEqual([
      { pointer: '/negative_prompt', message: `is not taken by ${provider}: leave it out` },
    ]);
  });
});

it.each([
  ['lumenfall', { n: 3 }, 0.015],
  ['replicate', {}, 0.005],
  ['fal', {}, 0.01048576],
  ['fal', { n: 3, size: '1360x768' }, 0.0313344],
  ['fal', { aspect_ratio: '16:9' }, 0.0104448],
  ['segmind', {}, 0.015],
  ['inference-sh', {}, undefined],
])('costs at %s, for %j, %f dollars', async (provider, given, usd) => {
  expect(await built.estimateUsd(provider, { prompt: 'a fox', ...given })).toBe(usd);
});

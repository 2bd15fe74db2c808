import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel, PRUNA_SIZES, SPEED_MODES } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('prunaai/hidream-l1-fast');
});

const EVERYTHING = {
  prompt: 'a fox',
  model_type: 'fast',
  speed_mode: 'Juiced 🔥 (more speed)',
  resolution: '832 × 1248 (Portrait)',
  aspect_ratio: '2:3',
  seed: 7,
  output_format: 'jpg',
  output_quality: 80,
};
const DEFAULTS = {
  model_type: 'fast',
  speed_mode: 'Extra Juiced 🚀 (even more speed)',
  resolution: '1024 × 1024 (Square)',
  seed: -1,
  output_format: 'webp',
  output_quality: 100,
};

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual([
      'prompt',
      'model_type',
      'speed_mode',
      'resolution',
      'aspect_ratio',
      'seed',
      'output_format',
      'output_quality',
      'negative_prompt',
    ]);
    expect(built.model).toMatchObject({
      produces: 'image',
      routing: 'order',
      outputFormat: { format: 'output_format', quality: 'output_quality' },
    });
  });

  it("fills in the vendor's defaults behind a prompt", () => {
    expect(built.fill({ prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  it.each([...SPEED_MODES.map((speed_mode) => ({ speed_mode })), ...PRUNA_SIZES.map(([resolution]) => ({ resolution }))])(
    'accepts %j',
    (given) => {
      expect(built.fill({ prompt: 'a fox', ...given })).toMatchObject(given);
    },
  );

  it.each([
    [{}, '/prompt', 'is missing; it must be a string'],
    [{ prompt: 'a fox', model_type: 'dev' }, '/model_type', 'is "dev"; it must be "fast"'],
    [{ prompt: 'a fox', output_format: 'jpeg' }, '/output_format', 'is "jpeg"; it must be one of "png", "jpg", "webp"'],
    [{ prompt: 'a fox', output_quality: 0 }, '/output_quality', 'is 0; it must be an integer from 1 to 100'],
    [{ prompt: 'a fox', seed: 0.5 }, '/seed', 'is 0.5; it must be an integer'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });
});

describe('what is sent', () => {
  it('goes to Replicate as it is, the unknown included', async () => {
    const given = { ...EVERYTHING, negative_prompt: 'dogs', other: 1 };
    expect(await built.sent('replicate', given)).toEqual(given);
    expect(await built.sent('replicate', { prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  const { aspect_ratio: _ignored, ...SEGMIND } = EVERYTHING;
  it.each([
    ['segmind', { prompt: 'a fox' }, { prompt: 'a fox', ...DEFAULTS }],
    ['segmind', EVERYTHING, SEGMIND],
    ['segmind', { ...EVERYTHING, negative_prompt: '' }, SEGMIND],
    [
      'lumenfall',
      { prompt: 'a fox' },
      { prompt: 'a fox', size: '1024x1024', output_format: 'png', speed_mode: DEFAULTS.speed_mode, model_type: 'fast' },
    ],
    [
      'lumenfall',
      { ...EVERYTHING, negative_prompt: 'dogs' },
      {
        prompt: 'a fox',
        negative_prompt: 'dogs',
        size: '832x1248',
        seed: 7,
        output_format: 'png',
        speed_mode: EVERYTHING.speed_mode,
        model_type: 'fast',
      },
    ],
    ['fal', { prompt: 'a fox', negative_prompt: '' }, { prompt: 'a fox', image_size: { width: 1024, height: 1024 }, output_format: 'png' }],
    [
      'fal',
      { ...EVERYTHING, negative_prompt: 'dogs' },
      { prompt: 'a fox', negative_prompt: 'dogs', image_size: { width: 832, height: 1248 }, seed: 7, output_format: 'png' },
    ],
    ['inference-sh', { prompt: 'a fox', negative_prompt: '' }, { prompt: 'a fox', width: 1024, height: 1024, seed: -1 }],
    ['inference-sh', EVERYTHING, { prompt: 'a fox', width: 832, height: 1248, seed: 7 }],
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each(PRUNA_SIZES)('has the pixels of %s everywhere', async (resolution, width, height) => {
    const given = { prompt: 'a fox', resolution };
    expect(await built.sent('segmind', given)).toMatchObject({ resolution });
    expect(await built.sent('lumenfall', given)).toMatchObject({ size: `${width}x${height}` });
    expect(await built.sent('fal', given)).toMatchObject({ image_size: { width, height } });
    expect(await built.sent('inference-sh', given)).toMatchObject({ width, height });
  });

  it.each(['segmind', 'inference-sh'])('has no negative prompt at %s, which says so', async (provider) => {
    expect(await built.problemsAt(provider, { prompt: 'a fox', negative_prompt: 'dogs' })).toEqual([
      { pointer: '/negative_prompt', message: `is not taken by ${provider}: leave it out` },
    ]);
  });
});

it.each([
  ['replicate', 0.005],
  ['segmind', 0.015],
  ['lumenfall', 0.005],
  ['fal', 0.01038336],
  ['inference-sh', undefined],
])('a picture costs at %s %f dollars', async (provider, usd) => {
  expect(await built.estimateUsd(provider, EVERYTHING)).toBe(usd);
});

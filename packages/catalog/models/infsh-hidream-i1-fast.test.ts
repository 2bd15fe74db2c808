import type { JsonObject } from '@claimcheck/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel, PRUNA_SIZES, UNSQUEEZED } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('infsh/hidream-i1-fast');
});

const DEFAULTS = {
  width: 1024,
  height: 1024,
  seed: -1,
  num_inference_steps: 16,
  guidance_scale: 1,
  shift: 3,
  scheduler_type: 'flash_flow',
};
const EVERYTHING = {
  prompt: 'a fox',
  width: 1245,
  height: 829,
  seed: 7,
  num_inference_steps: 20,
  guidance_scale: 2.5,
  shift: 4,
  scheduler_type: 'flow_unipc',
};
/** What has no name at other vendors, as it is by default. */
const { guidance_scale: _guidance, shift: _shift, scheduler_type: _scheduler, ...ELSEWHERE } = EVERYTHING;
const PROVIDERS = ['fal', 'lumenfall', 'replicate', 'segmind'];

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual(['prompt', ...Object.keys(DEFAULTS)]);
    expect(built.model).toMatchObject({ produces: 'image', routing: 'order' });
    expect(built.model.outputFormat).toBeUndefined();
  });

  it('takes an empty input, as the vendor does', () => {
    expect(built.fill({})).toEqual(DEFAULTS);
  });

  it.each([
    [{ prompt: 1 }, '/prompt', 'is 1; it must be a string'],
    [{ width: 7 }, '/width', 'is 7; it must be an integer of at least 8'],
    [{ height: 7 }, '/height', 'is 7; it must be an integer of at least 8'],
    [{ seed: -2 }, '/seed', 'is -2; it must be an integer of at least -1'],
    [{ num_inference_steps: 0 }, '/num_inference_steps', 'is 0; it must be an integer from 1 to 100'],
    [{ num_inference_steps: 101 }, '/num_inference_steps', 'is 101; it must be an integer from 1 to 100'],
    [{ guidance_scale: 21 }, '/guidance_scale', 'is 21; it must be a number from 0 to 20'],
    [{ shift: 11 }, '/shift', 'is 11; it must be a number from 0 to 10'],
    [{ scheduler_type: 'ddim' }, '/scheduler_type', 'is "ddim"; it must be one of "flow_unipc", "flash_flow"'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });
});

describe('what is sent', () => {
  it('goes to inference.sh as it is, the unknown included', async () => {
    const given = { ...EVERYTHING, other: 1 };
    expect(await built.sent('inference-sh', given)).toEqual(given);
    expect(await built.sent('inference-sh', {})).toEqual(DEFAULTS);
  });

  it.each<[string, JsonObject, JsonObject]>([
    [
      'fal',
      { prompt: 'a fox' },
      { prompt: 'a fox', image_size: { width: 1024, height: 1024 }, num_inference_steps: 16, output_format: 'png' },
    ],
    [
      'fal',
      ELSEWHERE,
      { prompt: 'a fox', image_size: { width: 1248, height: 832 }, num_inference_steps: 20, seed: 7, output_format: 'png' },
    ],
    ['lumenfall', { prompt: 'a fox' }, { prompt: 'a fox', size: '1024x1024', num_inference_steps: 16, output_format: 'png' }],
    ['lumenfall', ELSEWHERE, { prompt: 'a fox', size: '1248x832', num_inference_steps: 20, seed: 7, output_format: 'png' }],
    ...['replicate', 'segmind'].flatMap((provider): [string, JsonObject, JsonObject][] => [
      [
        provider,
        { prompt: 'a fox' },
        { prompt: 'a fox', resolution: '1024 × 1024 (Square)', seed: -1, output_format: 'png', speed_mode: UNSQUEEZED },
      ],
      [
        provider,
        { ...ELSEWHERE, num_inference_steps: 16 },
        { prompt: 'a fox', resolution: '1248 × 832 (Landscape)', seed: 7, output_format: 'png', speed_mode: UNSQUEEZED },
      ],
    ]),
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each([
    [1000, 1000],
    [1003, 1000],
    [1004, 1008],
    [8, 8],
  ])('has the side %i adjusted to %i, as the vendor does', async (width, adjusted) => {
    const given = { prompt: 'a fox', width };
    expect(await built.sent('fal', given)).toMatchObject({ image_size: { width: adjusted, height: 1024 } });
    expect(await built.sent('lumenfall', given)).toMatchObject({ size: `${adjusted}x1024` });
  });

  it.each(PRUNA_SIZES)('is %s where the pixels are those of one of its sizes', async (resolution, width, height) => {
    for (const provider of ['replicate', 'segmind']) {
      expect(await built.sent(provider, { prompt: 'a fox', width: width + 3, height })).toMatchObject({ resolution });
    }
  });

  it.each(['replicate', 'segmind'])('has seven sizes at %s, which says them', async (provider) => {
    const message = `and height must be 1024x1024, 1360x768, 768x1360, 1248x832, 832x1248, 1168x880 or 880x1168 at ${provider}`;
    expect(await built.problemsAt(provider, { prompt: 'a fox', width: 512 })).toEqual([{ pointer: '/width', message }]);
  });

  it.each(['fal', 'lumenfall'])('is refused for %s where the vendor would scale it down', async (provider) => {
    const message = `times height must be 2073600 pixels at most at ${provider}`;
    expect(await built.problemsAt(provider, { prompt: 'a fox', width: 1928, height: 1080 })).toEqual([{ pointer: '/width', message }]);
    expect(await built.sent(provider, { prompt: 'a fox', width: 1920, height: 1080 })).toMatchObject({ prompt: 'a fox' });
  });

  it.each(PROVIDERS)('needs a prompt at %s', async (provider) => {
    expect(await built.problemsAt(provider, {})).toEqual([{ pointer: '/prompt', message: `is needed at ${provider}` }]);
  });

  it.each([
    ...PROVIDERS.flatMap((provider) =>
      [
        [{ guidance_scale: 2 }, '1'],
        [{ shift: 2 }, '3'],
        [{ scheduler_type: 'flow_unipc' }, '"flash_flow"'],
      ].map(([given, byDefault]) => [provider, given, byDefault] as [string, object, string]),
    ),
    ['replicate', { num_inference_steps: 17 }, '16'] as [string, object, string],
    ['segmind', { num_inference_steps: 17 }, '16'] as [string, object, string],
  ])('is refused for %s where it has no word for %j', async (provider, given, byDefault) => {
    const message = `cannot be expressed by ${provider}: leave it out, or send its default, ${byDefault}`;
    expect(await built.problemsAt(provider, { prompt: 'a fox', ...given })).toEqual([{ pointer: `/${Object.keys(given)[0]}`, message }]);
  });
});

it.each([
  ['inference-sh', undefined],
  ['fal', 0.0103335],
  ['lumenfall', 0.005],
])('costs at %s %f dollars', async (provider, usd) => {
  expect(await built.estimateUsd(provider, { ...ELSEWHERE, width: 1245, height: 830 })).toBe(usd);
});

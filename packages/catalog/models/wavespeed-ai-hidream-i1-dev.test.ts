import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel, PRUNA_SIZES, UNSQUEEZED } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('wavespeed-ai/hidream-i1-dev');
});

const DEFAULTS = { size: '1024*1024', seed: -1, enable_base64_output: true, enable_safety_checker: true };
const EVERYTHING = { prompt: 'a fox', size: '1248*832', seed: 7, enable_base64_output: false, enable_safety_checker: false };

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual(Object.keys(EVERYTHING));
    expect(built.model).toMatchObject({ produces: 'image', routing: 'order' });
    expect(built.model.outputFormat).toBeUndefined();
  });

  it("fills in the vendor's defaults behind a prompt", () => {
    expect(built.fill({ prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  it.each(['512*512', '600*1000', '1536*1536'])('accepts the size %s', (size) => {
    expect(built.fill({ prompt: 'a fox', size })).toMatchObject({ size });
  });

  it.each(['511*1024', '1024*511', '1537*1024', '1024*1537', '1024x1024', '256*256'])('refuses the size %s', (size) => {
    expect(built.problemsWith({ prompt: 'a fox', size })).toMatchObject([{ pointer: '/size' }]);
  });

  it.each([
    [{}, '/prompt', 'is missing; it must be a string'],
    [{ prompt: 'a fox', seed: -2 }, '/seed', 'is -2; it must be an integer from -1 to 9999999999'],
    [{ prompt: 'a fox', seed: 10_000_000_000 }, '/seed', 'is 10000000000; it must be an integer from -1 to 9999999999'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });
});

describe('what is sent', () => {
  it.each([
    ['wavespeed', { prompt: 'a fox' }, { prompt: 'a fox', ...DEFAULTS, enable_base64_output: false }],
    ['wavespeed', { ...EVERYTHING, enable_base64_output: true }, EVERYTHING],
    [
      'fal',
      { prompt: 'a fox' },
      { prompt: 'a fox', image_size: { width: 1024, height: 1024 }, output_format: 'jpeg', enable_safety_checker: true },
    ],
    [
      'fal',
      EVERYTHING,
      { prompt: 'a fox', image_size: { width: 1248, height: 832 }, seed: 7, output_format: 'jpeg', enable_safety_checker: false },
    ],
    [
      'replicate',
      { prompt: 'a fox' },
      { prompt: 'a fox', resolution: '1024 × 1024 (Square)', seed: -1, output_format: 'jpg', speed_mode: UNSQUEEZED },
    ],
    [
      'replicate',
      { ...EVERYTHING, enable_safety_checker: true },
      { prompt: 'a fox', resolution: '1248 × 832 (Landscape)', seed: 7, output_format: 'jpg', speed_mode: UNSQUEEZED },
    ],
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each(PRUNA_SIZES)('is %s at Replicate for its pixels', async (resolution, width, height) => {
    expect(await built.sent('replicate', { prompt: 'a fox', size: `${width}*${height}` })).toMatchObject({ resolution });
  });

  it('has seven sizes at Replicate, which says them', async () => {
    const message = 'must be 1024*1024, 1360*768, 768*1360, 1248*832, 832*1248, 1168*880 or 880*1168 at replicate';
    expect(await built.problemsAt('replicate', { prompt: 'a fox', size: '512*512' })).toEqual([{ pointer: '/size', message }]);
  });

  it('cannot be unchecked at Replicate, which has no checker to switch off', async () => {
    expect(await built.problemsAt('replicate', EVERYTHING)).toEqual([
      {
        pointer: '/enable_safety_checker',
        message: 'cannot be expressed by replicate: leave it out, or send its default, true',
      },
    ]);
  });
});

it.each([
  ['wavespeed', 0.012],
  ['fal', undefined],
  ['replicate', undefined],
])('costs at %s %f dollars', async (provider, usd) => {
  expect(await built.estimateUsd(provider, EVERYTHING)).toBe(usd);
});

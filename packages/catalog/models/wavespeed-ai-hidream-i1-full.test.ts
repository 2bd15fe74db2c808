import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('wavespeed-ai/hidream-i1-full');
});

const DEFAULTS = {
  size: '1024*1024',
  seed: -1,
  output_format: 'jpeg',
  enable_base64_output: false,
  enable_safety_checker: true,
};
const EVERYTHING = {
  prompt: 'a fox',
  size: '256*1536',
  seed: 7,
  output_format: 'png',
  enable_base64_output: true,
  enable_safety_checker: false,
};

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual(Object.keys(EVERYTHING));
    expect(built.model).toMatchObject({ produces: 'image', routing: 'order', outputFormat: { format: 'output_format' } });
  });

  it("fills in the vendor's defaults behind a prompt", () => {
    expect(built.fill({ prompt: 'a fox' })).toEqual({ prompt: 'a fox', ...DEFAULTS });
  });

  it.each(['256*256', '999*1000', '1536*1536', '1499*1530'])('accepts the size %s', (size) => {
    expect(built.fill({ prompt: 'a fox', size })).toMatchObject({ size });
  });

  it.each(['255*1024', '1024*255', '1537*1024', '1024*1537', '1024x1024', '1024', '1024*1024*1', '10240*1024'])(
    'refuses the size %s',
    (size) => {
      expect(built.problemsWith({ prompt: 'a fox', size })).toMatchObject([{ pointer: '/size' }]);
    },
  );

  it.each([
    [{}, '/prompt', 'is missing; it must be a string'],
    [{ prompt: 'a fox', seed: -2 }, '/seed', 'is -2; it must be an integer from -1 to 2147483647'],
    [{ prompt: 'a fox', seed: 2147483648 }, '/seed', 'is 2147483648; it must be an integer from -1 to 2147483647'],
    [{ prompt: 'a fox', output_format: 'gif' }, '/output_format', 'is "gif"; it must be one of "jpeg", "png", "webp"'],
    [{ prompt: 'a fox', enable_base64_output: 1 }, '/enable_base64_output', 'is 1; it must be true or false'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });
});

describe('what is sent', () => {
  it.each([
    ['wavespeed', { prompt: 'a fox' }, { prompt: 'a fox', ...DEFAULTS }],
    ['wavespeed', EVERYTHING, { ...EVERYTHING, enable_base64_output: false }],
    [
      'fal',
      { prompt: 'a fox' },
      { prompt: 'a fox', image_size: { width: 1024, height: 1024 }, output_format: 'jpeg', enable_safety_checker: true },
    ],
    [
      'fal',
      EVERYTHING,
      { prompt: 'a fox', image_size: { width: 256, height: 1536 }, seed: 7, output_format: 'png', enable_safety_checker: false },
    ],
    ['lumenfall', { prompt: 'a fox' }, { prompt: 'a fox', size: '1024x1024', output_format: 'jpeg', enable_safety_checker: true }],
    ['lumenfall', EVERYTHING, { prompt: 'a fox', size: '256x1536', seed: 7, output_format: 'png', enable_safety_checker: false }],
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each([
    ['jpeg', 'jpeg'],
    ['png', 'png'],
    ['webp', 'png'],
  ])('asks fal for %s as %s, and the others for itself', async (output_format, fal) => {
    const given = { prompt: 'a fox', output_format };
    expect(await built.sent('fal', given)).toMatchObject({ output_format: fal });
    for (const provider of ['wavespeed', 'lumenfall']) expect(await built.sent(provider, given)).toMatchObject({ output_format });
  });
});

it.each([
  ['wavespeed', 0.024],
  ['fal', 0.0196608],
  ['lumenfall', 0.0196608],
])('costs at %s %f dollars', async (provider, usd) => {
  expect(await built.estimateUsd(provider, EVERYTHING)).toBe(usd);
});

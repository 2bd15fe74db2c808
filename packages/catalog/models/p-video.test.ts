import type { JsonObject } from '@claimcheck/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type BuiltInModel, builtInModel } from '../testing/built-in.ts';

let built: BuiltInModel;
beforeAll(async () => {
  built = await builtInModel('p-video');
});

const EVERYTHING = {
  prompt: 'a fox runs',
  seed: 7,
  duration: 8,
  size: '768x1365',
  aspect_ratio: '1:1',
  resolution: '1K',
  n: 2,
  audio: 'https://media.example/a.mp3',
  disable_safety_filter: false,
  draft: true,
  fps: 48,
  prompt_upsampling: false,
  save_audio: false,
};
/** The sizes the vendor lists, with their ratios. */
const SIZES = [
  ['1365x768', '16:9'],
  ['768x1365', '9:16'],
  ['1254x836', '3:2'],
  ['836x1254', '2:3'],
  ['887x1182', '3:4'],
  ['1183x887', '4:3'],
  ['1024x1024', '1:1'],
] as const;

describe('what clients may give', () => {
  it('has the parameters of the vendor in its order, and makes videos', () => {
    expect(Object.keys(built.model.parameters.properties ?? {})).toEqual(Object.keys(EVERYTHING));
    expect(built.model).toMatchObject({ produces: 'video', routing: 'order' });
    expect(built.model.outputFormat).toBeUndefined();
  });

  it('fills in one video behind a prompt', () => {
    expect(built.fill({ prompt: 'a fox runs' })).toEqual({ prompt: 'a fox runs', n: 1 });
  });

  it.each(SIZES.flatMap(([size, ratio]) => [{ size }, { size: ratio }, { aspect_ratio: ratio }]))('accepts %j', (given) => {
    expect(built.fill({ prompt: 'a fox runs', ...given })).toMatchObject(given);
  });

  it.each([
    [{}, '/prompt', 'is missing; it must be a string'],
    [{ prompt: 'x', duration: 0.5 }, '/duration', 'is 0.5; it must be a number from 1 to 10'],
    [{ prompt: 'x', duration: 11 }, '/duration', 'is 11; it must be a number from 1 to 10'],
    [{ prompt: 'x', duration: '5' }, '/duration', 'is "5"; it must be a number from 1 to 10'],
    [{ prompt: 'x', n: 5 }, '/n', 'is 5; it must be an integer from 1 to 4'],
    [{ prompt: 'x', fps: 30 }, '/fps', 'is 30; it must be one of 24, 48'],
    [{ prompt: 'x', resolution: '4K' }, '/resolution', 'is "4K"; it must be "1K"'],
  ])('refuses %j', (given, pointer, message) => {
    expect(built.problemsWith(given)).toEqual([{ pointer, message }]);
  });

  it.each<JsonObject>([{ size: '1280x720' }, { size: '21:9' }, { aspect_ratio: '21:9' }])('refuses %j', (given) => {
    expect(built.problemsWith({ prompt: 'x', ...given })).toMatchObject([{ pointer: `/${Object.keys(given)[0]}` }]);
  });
});

describe('what is sent', () => {
  it('goes to the videos of Lumenfall as it is, the unknown included', async () => {
    const given = { ...EVERYTHING, input_reference: { image_url: 'https://media.example/a.png' } };
    expect(await built.sent('lumenfall', given)).toEqual(given);
    expect(built.model.routes[0]).toMatchObject({ provider: 'lumenfall', model: 'video:p-video' });
  });

  const { n: _n, ...ONE } = EVERYTHING;
  it.each([
    ['replicate', { prompt: 'a fox runs' }, { prompt: 'a fox runs', resolution: '720p' }],
    [
      'replicate',
      ONE,
      {
        prompt: 'a fox runs',
        seed: 7,
        duration: 8,
        aspect_ratio: '9:16',
        resolution: '720p',
        audio: 'https://media.example/a.mp3',
        disable_safety_filter: false,
        draft: true,
        fps: 48,
        prompt_upsampling: false,
        save_audio: false,
      },
    ],
    ['wavespeed', { prompt: 'a fox runs' }, { prompt: 'a fox runs', resolution: '720p' }],
    [
      'wavespeed',
      { prompt: 'a fox runs', seed: 7, duration: 8, aspect_ratio: '4:3', resolution: '1K', save_audio: true },
      { prompt: 'a fox runs', seed: 7, duration: 8, aspect_ratio: '4:3', resolution: '720p', save_audio: true },
    ],
  ])('goes to %s: %j as %j', async (provider, given, sent) => {
    expect(await built.sent(provider, given)).toEqual(sent);
  });

  it.each(SIZES)('has for the size %s the shape %s, which settles it', async (size, aspect_ratio) => {
    for (const provider of ['replicate', 'wavespeed']) {
      expect(await built.sent(provider, { prompt: 'x', size, aspect_ratio: '1:1' })).toMatchObject({ aspect_ratio });
      expect(await built.sent(provider, { prompt: 'x', size: aspect_ratio })).toMatchObject({ aspect_ratio });
      expect(await built.sent(provider, { prompt: 'x', aspect_ratio })).toMatchObject({ aspect_ratio });
    }
  });

  it.each(['replicate', 'wavespeed'])('lasts whole seconds at %s, which says so', async (provider) => {
    const message = `must be whole seconds at ${provider}`;
    expect(await built.problemsAt(provider, { prompt: 'x', duration: 2.5 })).toEqual([{ pointer: '/duration', message }]);
  });

  it.each([
    ['replicate', { n: 2 }, 'send its default, 1'],
    ['wavespeed', { n: 2 }, 'send its default, 1'],
    ['wavespeed', { audio: 'https://media.example/a.mp3' }, 'choose another provider'],
    ['wavespeed', { disable_safety_filter: true }, 'choose another provider'],
    ['wavespeed', { draft: true }, 'choose another provider'],
    ['wavespeed', { fps: 48 }, 'choose another provider'],
    ['wavespeed', { prompt_upsampling: false }, 'choose another provider'],
  ])('is refused for %s where it has no word for %j', async (provider, given, way) => {
    const message = `cannot be expressed by ${provider}: leave it out, or ${way}`;
    expect(await built.problemsAt(provider, { prompt: 'x', ...given })).toEqual([{ pointer: `/${Object.keys(given)[0]}`, message }]);
  });
});

describe('what it costs', () => {
  it.each([
    ['lumenfall', {}, 0.1],
    ['lumenfall', { duration: 2.5, n: 2 }, 0.1],
    ['lumenfall', { duration: 8, draft: true }, 0.04],
    ['replicate', {}, 0.1],
    ['replicate', { duration: 8 }, 0.16],
    ['replicate', { duration: 8, draft: true }, 0.04],
    ['wavespeed', { duration: 10 }, 0.2],
  ])('is guessed for %s and %j as %f dollars', async (provider, given, usd) => {
    expect(await built.estimateUsd(provider, { prompt: 'x', ...given })).toBe(usd);
  });

  it('is by the seconds that the provider tells, else by those that were asked for', async () => {
    const given = { prompt: 'x', duration: 8 };
    expect(await built.costUsd('replicate', given, { usage: { seconds: 6 } })).toBe(0.12);
    expect(await built.costUsd('replicate', given, {})).toBe(0.16);
  });
});

import { describe, expect, it } from 'vitest';
import { nearestNames } from './nearest-names.ts';

const KNOWN = ['hidream-l1-fast', 'hidream-l1-full', 'wavespeed-ai/hidream-i1-full', 'flux-dev', 'flux-pro', 'sdxl'];

describe('nearest names', () => {
  it('puts the closest spelling first', () => {
    expect(nearestNames('hidream-l1-fat', KNOWN)).toEqual(['hidream-l1-fast', 'hidream-l1-full']);
    expect(nearestNames('flux-prd', ['flux-press', 'flux-pro'])).toEqual(['flux-pro', 'flux-press']);
  });

  it('ignores case', () => {
    expect(nearestNames('FLUX-DEV', KNOWN)[0]).toBe('flux-dev');
  });

  it('finds names that begin with what was given, and names that only contain it after those', () => {
    expect(nearestNames('hidream', KNOWN)).toEqual(['hidream-l1-fast', 'hidream-l1-full', 'wavespeed-ai/hidream-i1-full']);
    expect(nearestNames('dev', KNOWN)).toEqual(['flux-dev']);
  });

  it('finds names that what was given begins with or contains', () => {
    expect(nearestNames('sdxl-turbo-lightning', KNOWN)).toEqual(['sdxl']);
    expect(nearestNames('some-vendor/some-folder/sdxl', KNOWN)).toEqual(['sdxl']);
  });

  it('prefers a misspelling to a longer name that begins alike', () => {
    expect(nearestNames('flux', ['flux-developer-edition', 'flx'])).toEqual(['flx', 'flux-developer-edition']);
  });

  it('gives at most three', () => {
    expect(nearestNames('model-1', ['model-2', 'model-3', 'model-4', 'model-5'])).toEqual(['model-2', 'model-3', 'model-4']);
  });

  it('gives nothing for what resembles no name', () => {
    expect(nearestNames('zebra', KNOWN)).toEqual([]);
    expect(nearestNames('ux', KNOWN)).toEqual([]);
    expect(nearestNames('', KNOWN)).toEqual([]);
  });

  it('does not compare input that is too long to be a name', () => {
    const long = `sdxl${'x'.repeat(300)}`;
    expect(nearestNames(long.slice(0, 200), KNOWN)).toEqual(['sdxl']);
    expect(nearestNames(long, KNOWN)).toEqual([]);
  });
});

import type { Model } from '@claimcheck/core';
import { describe, expect, test } from 'vitest';
import { chooseProvider } from './choose-provider.ts';

const model: Model = {
  name: 'm',
  aliases: [],
  title: 'M',
  produces: 'image',
  parameters: { type: 'object' },
  routes: [
    { provider: 'sandbox', model: 'm' },
    { provider: 'first', model: 'a' },
    { provider: 'second', model: 'b' },
  ],
  routing: 'order',
  retry: { attempts: 3, firstDelayMs: 1, factor: 2, delayMsMax: 10 },
  timeoutSeconds: 60,
  onUnknown: 'resubmit',
};

describe('chooseProvider', () => {
  test('takes the first route whose provider is on, and the sandbox only after all others', () => {
    expect(chooseProvider(model, { available: new Set(['sandbox', 'second', 'first']), sandbox: 'auto' })).toBe('first');
    expect(chooseProvider(model, { available: new Set(['sandbox', 'second']), sandbox: 'on' })).toBe('second');
  });

  test('lets the sandbox serve a model none of whose providers is on, even one that does not name it', () => {
    const unrouted = { ...model, routes: [{ provider: 'first', model: 'a' }] };
    expect(chooseProvider(unrouted, { available: new Set(['sandbox']), sandbox: 'auto' })).toBe('sandbox');
  });

  test('has no answer when nothing is on, or only a sandbox that is switched off', () => {
    expect(chooseProvider(model, { available: new Set(), sandbox: 'auto' })).toBeUndefined();
    expect(chooseProvider(model, { available: new Set(['sandbox']), sandbox: 'off' })).toBeUndefined();
  });
});

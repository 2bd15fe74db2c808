import { expect, test } from 'vitest';
import { limitedRoutes, parseRate } from './limits.ts';
import type { Model } from './model.ts';

test.each([
  ['50/s', { max: 50, perMs: 1_000 }],
  ['3000/min', { max: 3000, perMs: 60_000 }],
  ['100/h', { max: 100, perMs: 3_600_000 }],
])('%s is a rate', (text, rate) => {
  expect(parseRate(text)).toEqual(rate);
});

test.each(['', '50', '0/s', '-1/s', '1.5/s', '50/d', '50 / s', '50/ms', '1e3/s'])('%j is none', (text) => {
  expect(parseRate(text)).toBeUndefined();
});

test('the routes with limits of their own are those that limit something', () => {
  const limits = { concurrency: 2 };
  const model = (name: string, routes: Model['routes']): Model => ({
    name,
    aliases: [`${name}-alias`],
    title: name,
    produces: 'image',
    parameters: { type: 'object' },
    routes,
    routing: 'order',
    retry: { attempts: 1, firstDelayMs: 0, factor: 1, delayMsMax: 0 },
    timeoutSeconds: 60,
    onUnknown: 'resubmit',
  });
  const models = [
    model('a/one', [
      { provider: 'fal', model: 'x', limits },
      { provider: 'replicate', model: 'y', limits: {} },
    ]),
    model('two', [
      { provider: 'fal', model: 'z' },
      { provider: 'cog', model: 'z', limits: { rate: { max: 1, perMs: 1_000 } } },
    ]),
  ];
  expect(limitedRoutes(models)).toEqual([
    { model: 'a/one', provider: 'fal', limits },
    { model: 'two', provider: 'cog', limits: { rate: { max: 1, perMs: 1_000 } } },
  ]);
});

import type { JsonObject, Media, Output } from '@claimcheck/core';
import { describe, expect, it } from 'vitest';
import { catalogOfText } from './testing/catalog-of-text.ts';
import { modelText } from './testing/model-folder.ts';

const parameters = { type: 'object', properties: { width: { type: 'integer' }, height: { type: 'integer' }, n: { type: 'integer' } } };
const ROUTE = { provider: 'fal', model: 'm' };

async function pricedAt(price: object | undefined) {
  const { catalog, model } = await catalogOfText(modelText({ parameters, routes: [{ ...ROUTE, ...(price && { price }) }] }));
  return {
    estimate: (given: JsonObject) => catalog.estimateUsd(model, ROUTE, given),
    cost: (given: JsonObject, output: Partial<Output>) => catalog.costUsd(model, ROUTE, given, { media: [], ...output }),
  };
}

const picture = (width?: number, height?: number): Media => ({
  location: { asset: 'a' },
  contentType: 'image/png',
  fileName: 'a.png',
  ...(width !== undefined && { width }),
  ...(height !== undefined && { height }),
});

describe('the estimate of a run', () => {
  it.each<[string, object | undefined, JsonObject, number | undefined]>([
    ['a unit without an expression', { usd: 0.005, per: 'image' }, {}, 0.005],
    [
      'units by the parameters',
      { usd: 0.01, per: 'megapixel', estimate: 'width * height / 1000000' },
      { width: 1024, height: 1024 },
      0.01048576,
    ],
    ['nothing for free', { usd: 0, per: 'run' }, {}, 0],
    ['nothing for no units', { usd: 5, per: 'image', estimate: 'n' }, { n: 0 }, 0],
    ['tokens by the million', { usd: 0.15, per: 'token', output_usd: 0.6, estimate: 'n' }, { n: 2000 }, 0.0003],
    ['without binary noise', { usd: 0.1, per: 'image', estimate: 'n' }, { n: 3 }, 0.3],
    ['unknown without a price', undefined, {}, undefined],
    ['unknown where the expression gives nothing', { usd: 1, per: 'image', estimate: 'n' }, {}, undefined],
    ['unknown where it gives no number', { usd: 1, per: 'image', estimate: '"n"' }, {}, undefined],
    ['unknown where it gives less than nothing', { usd: 1, per: 'image', estimate: 'n' }, { n: -1 }, undefined],
    ['unknown where it fails', { usd: 1, per: 'image', estimate: '$number("x")' }, {}, undefined],
  ])('is %s', async (_what, price, given, expected) => {
    expect(await (await pricedAt(price)).estimate(given)).toBe(expected);
  });
});

describe('the cost of a run', () => {
  const perMegapixel = { usd: 0.01, per: 'megapixel' };
  const estimated = { ...perMegapixel, estimate: 'width * height / 1000000' };
  const perToken = { usd: 0.15, per: 'token', output_usd: 0.6 };

  it.each<[string, object | undefined, Partial<Output>, number | undefined]>([
    ['the same for each run', { usd: 0.02, per: 'run' }, { media: [picture(), picture()] }, 0.02],
    ['by the number of files', { usd: 0.005, per: 'image' }, { media: [picture(), picture(), picture()] }, 0.015],
    ['nothing for no files', { usd: 0.005, per: 'image' }, {}, 0],
    ['by the pixels of all files, not rounded', perMegapixel, { media: [picture(1024, 1024), picture(512, 512)] }, 0.0131072],
    ['by the estimate where a size is not known', estimated, { media: [picture(1024, 1024), picture()] }, 0.02],
    ['by the estimate where half a size is not known', estimated, { media: [picture(1024)] }, 0.02],
    ['unknown where a size is not known and nothing is estimated', perMegapixel, { media: [picture(1024, 1024), picture()] }, undefined],
    ['by the seconds that were charged', { usd: 0.05, per: 'second' }, { usage: { seconds: 5.5 } }, 0.275],
    ['by the estimated seconds', { usd: 0.05, per: 'second', estimate: 'n' }, {}, 0.2],
    ['unknown without seconds', { usd: 0.05, per: 'second' }, { usage: { inputTokens: 1 } }, undefined],
    ['by tokens in and out', perToken, { usage: { inputTokens: 1000, outputTokens: 500 } }, 0.00045],
    ['by tokens at one price', { usd: 2, per: 'token' }, { usage: { inputTokens: 1000, outputTokens: 500 } }, 0.003],
    ['by tokens in alone', perToken, { usage: { inputTokens: 1000 } }, 0.00015],
    ['by tokens out alone', perToken, { usage: { outputTokens: 1000 } }, 0.0006],
    ['by the estimated tokens', { ...perToken, estimate: 'n * 250' }, { usage: { seconds: 1 } }, 0.00015],
    ['unknown without tokens', perToken, {}, undefined],
    ['what the provider says, whatever the price', { usd: 0.02, per: 'run' }, { usage: { usd: 0.1 + 0.2 } }, 0.3],
    ['what the provider says, without a price', undefined, { usage: { usd: 0 } }, 0],
    ['unknown without a price', undefined, { media: [picture(1, 1)] }, undefined],
    ['unknown where the estimate fails', { usd: 1, per: 'second', estimate: '$error("no")' }, {}, undefined],
    ['exact to a tenth of a billionth', { usd: 0.0000000123, per: 'run' }, {}, 0.0000000123],
  ])('is %s', async (_what, price, output, expected) => {
    expect(await (await pricedAt(price)).cost({ width: 1000, height: 2000, n: 4 }, output)).toBe(expected);
  });

  it('is unknown for the sandbox, which has no price', async () => {
    const { catalog, model } = await catalogOfText(modelText({ parameters, routes: [{ ...ROUTE, price: { usd: 1, per: 'run' } }] }));
    expect(await catalog.costUsd(model, { provider: 'sandbox', model: 'acme' }, {}, { media: [] })).toBeUndefined();
  });
});

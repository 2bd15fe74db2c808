import type { Model, ModelListing } from '@claimcheck/core';
import { expect, test } from 'vitest';
import native from './native.ts';
import { aRequest, bodyOf, routeOf } from './testing/fixtures.ts';

const MODEL: Model = {
  name: 'acme/poster',
  aliases: ['poster'],
  title: 'Poster',
  produces: 'image',
  parameters: { type: 'object', properties: { prompt: { type: 'string' } } },
  routes: [],
  routing: 'price',
  retry: { attempts: 1, firstDelayMs: 0, factor: 1, delayMsMax: 0 },
  timeoutSeconds: 900,
  onUnknown: 'resubmit',
};
const LISTING: ModelListing = {
  model: MODEL,
  routes: [
    {
      route: { provider: 'fal', model: 'acme/a', price: { usd: 0.01, per: 'megapixel' } },
      isAvailable: false,
      reason: 'FAL_KEY is not set',
    },
    { route: { provider: 'replicate', model: 'acme/b', price: { usd: 1, per: 'token', outputUsd: 3 } }, isAvailable: true },
  ],
};
const BODY = {
  id: 'acme/poster',
  object: 'model',
  created: 0,
  owned_by: 'acme',
  name: 'Poster',
  modality: 'image',
  aliases: ['poster'],
  available: true,
  routing: 'price',
  routes: [
    { provider: 'fal', model: 'acme/a', available: false, reason: 'FAL_KEY is not set', price: { usd: 0.01, per: 'megapixel' } },
    { provider: 'replicate', model: 'acme/b', available: true, price: { usd: 1, per: 'million tokens', output_usd: 3 } },
  ],
};
const list = routeOf(native, 'GET /v1/models');
const one = routeOf(native, 'GET /v1/models/:model{.+}');
const asked = (query: string) => aRequest({ params: { model: 'acme/poster' }, query });

test('the list names every model, who can run it, what is missing, and what it costs', () => {
  expect(list.decode(aRequest())).toEqual({ kind: 'listModels' });
  expect(bodyOf(list.encode([LISTING], aRequest()))).toEqual({ object: 'list', data: [BODY] });
});

test('one model is asked for by a name that may have slashes, with its schema when that is wanted', () => {
  expect(one.decode(asked(''))).toEqual({ kind: 'readModel', name: 'acme/poster' });
  expect(bodyOf(one.encode(LISTING, asked('')))).toEqual(BODY);
  expect(bodyOf(one.encode(LISTING, asked('schema=false')))).toEqual(BODY);
  expect(bodyOf(one.encode(LISTING, asked('schema=true')))).toEqual({ ...BODY, parameters: MODEL.parameters });
});

test('a model none of whose routes would serve is not available, and a bare name belongs to the service', () => {
  const listing = { model: { ...MODEL, name: 'poster' }, routes: LISTING.routes.slice(0, 1) };
  expect(bodyOf(one.encode(listing, asked('')))).toMatchObject({ available: false, owned_by: 'claimcheck' });
});

test('an unclear wish is refused', () => {
  expect(() => one.decode(asked('schema=maybe'))).toThrow('The query parameter `schema` must be true or false, not "maybe".');
});

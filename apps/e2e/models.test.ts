/** The models that come along: their routes lead to providers that there are, the README lists them, and the service runs them all. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { loadCatalog } from '@claimcheck/catalog';
import type { Catalog, Model, Route } from '@claimcheck/core';
import { createTestDatabase } from '@claimcheck/engine/testing';
import { loadProviders } from '@claimcheck/providers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeIn, rowsOf, sectionOf } from './markdown.ts';
import { type Client, clientOf, startStandalone, temporaryFolder } from './testing/processes.ts';

const README = await readFile(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8');

let catalog: Catalog;
beforeAll(async () => {
  // Fails when a route names a provider that there is not, or has options which that does not take.
  catalog = await loadCatalog({ providers: await loadProviders() });
});

test('the README has them all, with what they make, where they run and what that costs', () => {
  const written = rowsOf(sectionOf(README, 'Models'), ['model', 'makes', 'runs at']);
  const ofCode = catalog.list().map((model) => [`\`${model.name}\``, model.produces, placesOf(model)]);
  expect(written.toSorted()).toEqual(ofCode.toSorted());
});

function placesOf({ routes, routing }: Model): string {
  return [...routes.map(placeOf), ...(routing === 'price' ? ['the cheapest first'] : [])].join(', ');
}

function placeOf({ provider, price }: Route): string {
  return `\`${provider}\`${price ? ` ${price.usd} per ${price.per === 'token' ? 'million tokens' : price.per}` : ''}`;
}

describe('without any key, the sandbox', () => {
  let client: Client;
  const started = new AsyncDisposableStack();
  beforeAll(async () => {
    const database = started.use(await createTestDatabase());
    const folder = started.use(await temporaryFolder());
    const service = started.use(await startStandalone(folder.path, { DATABASE_URL: database.url }));
    client = clientOf(service.url, service.key);
  });
  afterAll(() => started.disposeAsync());

  async function run(model: string, parameters: object): Promise<Readonly<Record<string, unknown>>> {
    const { body } = await client.post(`/v2/${model}`, parameters);
    const id = String(body.request_id);
    expect(await client.ended(id), JSON.stringify(body)).toMatchObject({ status: 'COMPLETED' });
    return (await client.get(`/v2/requests/${id}`)).body;
  }

  async function typeOf(output: unknown): Promise<string> {
    const file = await fetch(String(output));
    await file.body?.cancel();
    return file.headers.get('content-type') ?? '';
  }

  test('runs every one of them, and makes what that makes', async () => {
    const names = rowsOf(sectionOf(README, 'Models'), ['model', 'makes', 'runs at']).map(([name = '', makes = '']) => [
      codeIn(name),
      makes,
    ]);
    const made = names.map(async ([[name = ''] = [], makes]) => {
      const { output } = await run(name, { prompt: 'a fox in the snow' });
      return [name, makes === 'text' ? output : (await typeOf(output)).split('/')[0]];
    });
    const expected = names.map(([[name = ''] = [], makes]) => [name, makes === 'text' ? 'a fox in the snow' : makes]);
    expect(await Promise.all(made)).toEqual(expected);
  });

  test('makes several pictures where several are asked', async () => {
    const { images } = await run('hidream-i1-fast', { prompt: 'a fox', n: 2, size: '512x256', output_format: 'png' });
    const image = { content_type: 'image/png', width: 512, height: 256 };
    expect(images).toMatchObject([image, image]);
  });
});

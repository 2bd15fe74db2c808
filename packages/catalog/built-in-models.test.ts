/** What holds for every model of the folder `models`; each has a test of its own beside it. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseExactJson } from '@claimcheck/core';
import { describe, expect, it } from 'vitest';
import { loadCatalog } from './index.ts';

const catalog = await loadCatalog();
const routes = catalog.list().flatMap((model) => model.routes.map((route) => ({ model, route })));

it.each(routes)('$model.name can run at $route.provider with its defaults', async ({ model, route }) => {
  const parameters = JSON.parse(catalog.fill(model, parseExactJson('{"prompt":"a fox"}')));
  const sent = await catalog.express(model, route, parameters);
  expect(JSON.stringify(sent)).toContain('a fox');
});

it.each(routes.filter(({ route }) => route.price))('$model.name tells its price at $route.provider', async ({ model, route }) => {
  const parameters = JSON.parse(catalog.fill(model, parseExactJson('{"prompt":"a fox"}')));
  expect(await catalog.estimateUsd(model, route, parameters)).toBeGreaterThan(0);
});

it.each(catalog.list())('$name has another provider to fall back to', ({ routes: [first, ...others] }) => {
  expect(first).toBeDefined();
  expect(others).not.toEqual([]);
});

describe('the folder', () => {
  it('has a test beside every model, and every model in a file that is called like it', async () => {
    const entries = await readdir(join(import.meta.dirname, 'models'));
    const files = entries.filter((entry) => entry.endsWith('.yaml')).map((entry) => entry.slice(0, -'.yaml'.length));
    const tests = entries.filter((entry) => entry.endsWith('.test.ts')).map((entry) => entry.slice(0, -'.test.ts'.length));
    const names = catalog.list().map(({ name }) => name.replaceAll('/', '-'));
    expect(files.toSorted()).toEqual(names.toSorted());
    expect(tests.toSorted()).toEqual(files.toSorted());
  });
});

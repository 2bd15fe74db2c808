import { loadDialects } from '@claimcheck/dialects';
import { loadProviders, openProviders } from '@claimcheck/providers';
import { expect, test } from 'vitest';
import { startApi } from './index.ts';
import { jsonBody, jsonOf, MODEL, startTestService } from './testing/service.ts';

const KEY = 'a bootstrap key of some length';

test('the API listens, takes its bootstrap key from the settings, and stops', async () => {
  await using service = await startTestService({ worker: false });
  const { engine, catalog } = service;
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const variables = { HOST: '127.0.0.1', PORT: 0, PUBLIC_URL: undefined, BOOTSTRAP_API_KEY: KEY, SANDBOX: 'auto' } as const;
  const providers = openProviders(await loadProviders(), {});
  const dialects = await loadDialects();
  const api = await startApi({ engine, catalog, dialects, providers, variables, log });
  const response = await fetch(`${api.url}/v2/requests`, { headers: { 'x-api-key': KEY } });
  expect(await response.json()).toEqual({ requests: [], next_cursor: null });
  const submitted = await fetch(`${api.url}/v2/${MODEL}`, jsonBody({ prompt: 'x' }, { 'x-api-key': KEY }));
  const { status_url: statusUrl } = await jsonOf(submitted);
  const stream = await fetch(String(statusUrl).replace(/status$/, 'events'), { headers: { 'x-api-key': KEY } });
  const reader = stream.body?.getReader();
  expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toContain('QUEUED');
  await api.stop();
  // Ended by the stop and not cut off by it.
  expect(await reader?.read()).toMatchObject({ done: true });
  await expect(fetch(`${api.url}/healthz`)).rejects.toThrow();
});

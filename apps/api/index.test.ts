import { loadDialects } from '@claimcheck/dialects';
import { expect, test } from 'vitest';
import { startApi } from './index.ts';
import { startTestService } from './testing/service.ts';

const KEY = 'a bootstrap key of some length';

test('the API listens, takes its bootstrap key from the settings, and stops', async () => {
  await using service = await startTestService({ worker: false });
  const { engine, catalog } = service;
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const variables = { HOST: '127.0.0.1', PORT: 0, PUBLIC_URL: undefined, BOOTSTRAP_API_KEY: KEY };
  const dialects = await loadDialects();
  const api = await startApi({ engine, catalog, dialects, chooseProvider: () => 'sandbox', variables, log });
  const response = await fetch(`${api.url}/v2/requests`, { headers: { 'x-api-key': KEY } });
  expect(await response.json()).toEqual({ requests: [], next_cursor: null });
  await api.stop();
  await expect(fetch(`${api.url}/healthz`)).rejects.toThrow();
});

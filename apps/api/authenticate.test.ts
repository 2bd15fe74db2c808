import { afterAll, beforeAll, expect, test } from 'vitest';
import { jsonOf, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

const list = (headers: Record<string, string> | [string, string][]) => service.app.request('/v2/requests', { headers });

test.each([
  ['x-api-key', (key: string) => ({ 'x-api-key': key })],
  ['Bearer', (key: string) => ({ authorization: `Bearer ${key}` })],
  ['Key', (key: string) => ({ authorization: `Key ${key}` })],
  ['Token', (key: string) => ({ authorization: `Token ${key}` })],
  ['a scheme in any case', (key: string) => ({ authorization: `bEARER   ${key}` })],
  ['Bearer beside an empty x-api-key', (key: string) => ({ 'x-api-key': '', authorization: `Bearer ${key}` })],
])('a key is taken as %s', async (_name, headersFor) => {
  expect((await list(headersFor(service.key))).status).toBe(200);
});

test('a bootstrap key may have spaces in it', async () => {
  const key = 'four words and a full stop.';
  await service.engine.keys.bootstrap(key);
  expect((await list({ 'x-api-key': key })).status).toBe(200);
  expect((await list({ authorization: `Bearer ${key}` })).status).toBe(200);
});

test.each([
  ['no key', () => ({})],
  ['an empty key', () => ({ 'x-api-key': '' })],
  ['a scheme without a key', () => ({ authorization: 'Bearer ' })],
  ['another scheme', (key: string) => ({ authorization: `Basic ${key}` })],
  ['no scheme', (key: string) => ({ authorization: key })],
  ['an unknown key', () => ({ 'x-api-key': 'a key that nobody ever made' })],
  ['a mistyped key', (key: string) => ({ 'x-api-key': `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}` })],
  [
    'a key twice',
    (key: string): [string, string][] => [
      ['x-api-key', key],
      ['x-api-key', key],
    ],
  ],
  ['a very long key', () => ({ 'x-api-key': 'k'.repeat(10_000) })],
  ['a key with bytes beyond ASCII', () => ({ 'x-api-key': '\u00e9\u00ff\u0080'.repeat(10) })],
])('%s is refused with 401 and the scheme to use', async (_name, headersFor) => {
  const response = await list(headersFor(service.key));
  expect(response.status).toBe(401);
  expect(response.headers.get('www-authenticate')).toBe('Bearer');
  expect(await jsonOf(response)).toEqual({ code: 'unauthorized', error: expect.any(String) });
});

test('a revoked key is refused', async () => {
  const { id, key } = await service.engine.keys.create({ caller: 'someone', name: 'test' });
  expect((await list({ 'x-api-key': key })).status).toBe(200);
  await service.engine.keys.revoke(id);
  expect((await list({ 'x-api-key': key })).status).toBe(401);
});

test('who has no key learns nothing about models, bodies or ids', async () => {
  for (const [method, path] of [
    ['POST', '/v2/no-such-model'],
    ['POST', '/v1/hidream-l1-fast'],
    ['GET', '/v2/requests/x'],
  ] as const) {
    const response = await service.app.request(path, { method, ...(method === 'POST' && { body: '{' }) });
    expect(response.status).toBe(401);
  }
});

import { join } from 'node:path';
import { loadDialects } from '@claimcheck/dialects';
import { loadProviders, openProviders } from '@claimcheck/providers';
import type { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp } from './app.ts';
import { jsonBody, jsonOf, MODEL, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
let app: Hono;
const closing = new AbortController();
beforeAll(async () => {
  service = await startTestService();
  const { engine, catalog } = service;
  const { upstreams, off } = openProviders(await loadProviders(), {});
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  app = createApp({
    engine,
    catalog,
    dialects: [...(await loadDialects()), ...(await loadDialects(join(import.meta.dirname, 'testing/dialects')))],
    router: engine.openRouter({ catalog, available: new Set(upstreams.keys()), off, sandbox: 'auto' }),
    receive: engine.openReceiver({ catalog, upstreams, sandbox: 'auto' }),
    log,
    closing: closing.signal,
  });
});
afterAll(() => service[Symbol.asyncDispose]());

const ask = (path: string, init: RequestInit = {}) => {
  const headers = new Headers(init.headers);
  headers.set('authorization', `Bearer ${service.key}`);
  return app.request(path, { ...init, headers });
};
const linesOf = async (response: Response) =>
  (await response.text())
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

test('a wire format is one file: its jobs run like all others, and are read through the others too', async () => {
  const submitted = await ask('/tiny/jobs', jsonBody({ model: MODEL, prompt: 'a panda [[slow:0]]' }));
  expect(submitted.status).toBe(201);
  const { id } = await jsonOf(submitted);
  await expect.poll(async () => jsonOf(await ask(`/tiny/jobs/${id}`)), { timeout: 60_000 }).toMatchObject({ id, done: true, oops: null });
  expect(await jsonOf(await ask(`/v2/requests/${id}`))).toMatchObject({ request_id: id, status: 'COMPLETED' });
});

test('a file stands in the answer where the wire format wants it, and a stream ends with the whole job', async () => {
  const response = await ask('/tiny/streams', jsonBody({ model: MODEL, prompt: 'a panda [[slow:0]]' }));
  expect(response.headers.get('content-type')).toBe('application/x-ndjson');
  const lines = await linesOf(response);
  expect(lines.slice(0, 2)).toEqual([
    { id: lines[0].id, done: false },
    { id: lines[0].id, done: false },
  ]);
  const { file, ...last } = lines.at(-1);
  expect(last).toEqual({ id: lines[0].id, done: true, oops: null });
  const [kind, base64 = ''] = file.split(',');
  expect(kind).toBe('data:image/webp;base64');
  expect(Buffer.from(base64, 'base64').subarray(8, 12).toString()).toBe('WEBP');
});

test('a stream of lines that cannot be brought to its end is broken off', async () => {
  const own = new AbortController();
  const response = await app.request('/tiny/streams', {
    ...jsonBody({ model: MODEL, prompt: '[[hang]]' }, { authorization: `Bearer ${service.key}` }),
    signal: own.signal,
  });
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  expect(decoder.decode((await reader?.read())?.value)).toContain('"done":false');
  await reader?.read();
  own.abort();
  await expect(reader?.read()).rejects.toThrow();
});

test('what goes wrong below its paths is told in its words, whatever it is', async () => {
  expect(await jsonOf(await ask('/tiny/nothing'))).toEqual({ oops: expect.stringContaining('There is nothing at GET /tiny/nothing') });
  expect(await jsonOf(await ask('/tiny/jobs/7'))).toEqual({ oops: 'Request 7 not found' });
  expect(await jsonOf(await app.request('/tiny/jobs', jsonBody('{}')))).toEqual({ oops: expect.stringContaining('No API key was sent') });
  expect(await jsonOf(await ask('/tiny/jobs', { method: 'PUT' }))).toEqual({ oops: 'PUT is not possible here; use POST.' });
  // Not below it.
  expect(await jsonOf(await ask('/tinyness'))).toMatchObject({ code: 'unknown_path' });
});

describe('one address for requests that belong to others', () => {
  const proxied = (target: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    headers.set('x-tiny-target', target);
    return ask('/tiny/proxy', { ...init, headers });
  };

  test('hands in jobs with their bodies, and reads them', async () => {
    const submitted = await proxied('jobs', jsonBody({ model: MODEL, prompt: 'a panda [[slow:0]]' }));
    expect(submitted.status).toBe(201);
    const { id } = await jsonOf(submitted);
    expect(await jsonOf(await proxied(`jobs/${id}?unused=1`))).toMatchObject({ id });
    expect((await proxied(`jobs/${id}`, { method: 'DELETE' })).status).toBe(200);
  });

  test('tells of what goes wrong at either', async () => {
    expect(await jsonOf(await proxied('nothing'))).toEqual({ oops: expect.stringContaining('There is nothing at GET /tiny/nothing') });
    const headers = { 'x-tiny-target': 'jobs/7' };
    expect(await jsonOf(await app.request('/tiny/proxy', { headers }))).toEqual({ oops: expect.stringContaining('No API key was sent') });
    const lost = await ask('/tiny/proxy');
    expect(lost.status).toBe(400);
    expect(await jsonOf(lost)).toEqual({ oops: 'The header x-tiny-target is missing.' });
  });
});

test('slashes too many do not matter', async () => {
  expect((await ask('http://localhost//tiny//jobs/', jsonBody({ model: MODEL, prompt: 'x' }))).status).toBe(201);
});

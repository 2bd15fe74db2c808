import type { ServerSentEvent } from '@claimcheck/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toResponse } from './answer.ts';
import { jsonBody, jsonOf, MODEL, ORIGIN, startTestService, type TestService } from './testing/service.ts';
import { sizeOfWebp } from './testing/webp.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service[Symbol.asyncDispose]());

describe('a synchronous run', () => {
  const run = (prompt: string, headers = {}) => service.request(`/v1/${MODEL}`, jsonBody({ prompt, seed: 7 }, headers));

  test('answers with the file itself', async () => {
    const response = await run('[[slow:0]]');
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('image/webp');
    expect(response.headers.get('x-seed-value')).toBe('7');
    expect(response.headers.get('x-generation-time')).toMatch(/^\d+(\.\d+)?$/);
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(Number(response.headers.get('content-length'))).toBe(bytes.byteLength);
    expect(sizeOfWebp(bytes)).toEqual({ width: 1024, height: 1024 });
    const job = await jsonOf(await service.request(`/v2/requests/${response.headers.get('x-request-id')}`));
    expect(job).toMatchObject({ status: 'COMPLETED', images: [{ file_size: bytes.byteLength }] });
  });

  test('that fails answers 422 with the error', async () => {
    const response = await run('[[fail:Too dark.]]');
    expect(response.status).toBe(422);
    const id = response.headers.get('x-request-id');
    expect(await jsonOf(response)).toMatchObject({ status: 'FAILED', error: 'Too dark.', request_id: id });
  });

  test('that takes too long answers 504 with the request that goes on', async () => {
    const response = await run('[[hang]]', { prefer: 'wait=1' });
    expect(response.status).toBe(504);
    const id = response.headers.get('x-request-id');
    expect(await jsonOf(response)).toEqual({ code: 'wait_timeout', error: expect.stringContaining(`/v2/requests/${id}`), request_id: id });
    expect(await jsonOf(await service.request(`/v2/requests/${id}`))).toMatchObject({ status: 'PROCESSING' });
  });
});

interface SentEvent {
  readonly id: string;
  readonly event: string;
  readonly data: Record<string, unknown>;
}

function parseEvents(text: string): SentEvent[] {
  expect(text.endsWith('\n\n')).toBe(true);
  return text
    .slice(0, -2)
    .split('\n\n')
    .map((block) => {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s)));
      return { id: fields.id, event: fields.event, data: JSON.parse(fields.data) };
    });
}

describe('an event stream', () => {
  const open = (id: string, init?: RequestInit, query = '') => service.request(`/v2/requests/${id}/events${query}`, init);

  test('tells every state and ends with the job', async () => {
    const id = await service.submit({ prompt: '[[slow:1000]]' });
    const response = await open(id);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-store');
    const events = parseEvents(await response.text());
    expect(events.map(({ id }) => Number(id))).toEqual(events.map((_, index) => index + 1));
    const states = events.filter(({ event }) => event === 'status').map(({ data }) => data.status);
    expect(states).toEqual(['QUEUED', 'PROCESSING', 'COMPLETED']);
    const progress = events.filter(({ event }) => event === 'progress').map(({ data }) => Number(data.progress));
    expect(progress.length).toBeGreaterThan(0);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(events.at(-1)?.data).toMatchObject({ request_id: id, progress: 1, response_url: expect.stringContaining(id) });
  });

  test('tells what the run prints and writes, and a status tells it too where it is asked', async () => {
    const submitted = await service.request(
      '/v2/meta/meta-llama-3.1-405b-instruct',
      jsonBody({ prompt: 'one two three four[[slow:1200]]' }),
    );
    const id = String((await jsonOf(submitted)).request_id);
    const events = parseEvents(await (await open(id)).text());
    const told = events.flatMap(({ data }) => (Array.isArray(data.lines) ? data.lines.map(String) : []));
    expect(told.map((line) => line.slice(0, 4))).toEqual(['The ', ' 25%', ' 50%', ' 75%', '100%', 'Done']);
    const texts = events.flatMap(({ event, data }) => (event === 'partial' ? [data.text] : []));
    expect(texts.length).toBeGreaterThan(1);
    expect('one two three four'.startsWith(texts.join(''))).toBe(true);
    const at = (logs: string) => service.request(`/v2/requests/${id}/status${logs}`).then(jsonOf);
    const { logs } = (await at('?logs=true')) as { logs: readonly { timestamp: string; message: string }[] };
    expect(logs.map(({ message }) => message)).toEqual(told);
    expect(logs.every(({ timestamp }) => new Date(timestamp).toISOString() === timestamp)).toBe(true);
    expect(await at('')).not.toHaveProperty('logs');
  });

  test('goes on behind the event that the client has seen', async () => {
    const id = await service.submit({ prompt: '[[fail:Too loud.]]' });
    const all = parseEvents(await (await open(id)).text());
    expect(all.at(-1)).toMatchObject({ event: 'status', data: { status: 'FAILED', error: 'Too loud.' } });
    const rest = await (await open(id, { headers: { 'last-event-id': '1' } })).text();
    expect(parseEvents(rest)).toEqual(all.slice(1));
    const last = String(all.length);
    expect(await (await open(id, { headers: { 'last-event-id': last } })).text()).toBe('');
    expect(parseEvents(await (await open(id, {}, '?after=1')).text())).toEqual(all.slice(1));
  });

  test('ends when the job is cancelled', async () => {
    const id = await service.submit({ prompt: '[[hang]]' });
    const response = await open(id);
    await service.request(`/v2/requests/${id}/cancel`, { method: 'POST' });
    expect(parseEvents(await response.text()).at(-1)).toMatchObject({ data: { status: 'CANCELLED' } });
  });

  test('ends when the process drains, without saying that the job has ended', async () => {
    await using draining = await startTestService({ worker: false });
    const id = await draining.submit({ prompt: 'x' });
    const response = await draining.request(`/v2/requests/${id}/events`);
    const text = response.text();
    draining.startClosing();
    expect(await text).not.toMatch(/COMPLETED|FAILED|CANCELLED/);
  });

  test.each(['x', '-1', '1.5', '99999999999'])('does not begin behind an event like %s', async (last) => {
    const id = await service.submit({ prompt: '[[slow:0]]' });
    const response = await open(id, { headers: { 'last-event-id': last } });
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ errors: [{ pointer: '/Last-Event-ID' }] });
  });

  describe('made of events that', () => {
    async function* endless(seen: { started?: true; ended?: true }): AsyncGenerator<ServerSentEvent> {
      try {
        seen.started = true;
        for (let count = 1; ; count++) yield { id: String(count), data: count };
      } finally {
        seen.ended = true;
      }
    }
    const stream = (events: AsyncIterable<ServerSentEvent>, method = 'GET') => {
      const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
      const { assets } = service.engine;
      const context = { request: new Request(ORIGIN, { method }), assets, log, signal: new AbortController().signal };
      return toResponse({ status: 200, body: { kind: 'events', events } }, context);
    };

    test('nobody reads are not begun', async () => {
      const seen = {};
      await stream(endless(seen));
      const head = await stream(endless(seen), 'HEAD');
      expect(head.body).toBeNull();
      expect(seen).toEqual({});
    });

    test('a client leaves are ended', async () => {
      const seen = {};
      const reader = (await stream(endless(seen))).body?.getReader();
      expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe('id: 1\ndata: 1\n\n');
      await reader?.cancel();
      expect(seen).toEqual({ started: true, ended: true });
    });

    test('break off end the stream, so that the client comes back for the rest', async () => {
      async function* breaking(): AsyncGenerator<ServerSentEvent> {
        yield { id: '1', data: 1 };
        throw new Error('the database is away');
      }
      expect(await (await stream(breaking())).text()).toBe('id: 1\ndata: 1\n\n');
    });
  });
});

import type { Job } from '@claimcheck/core';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aJob, anUpstream, aSubmission, OUTPUT, running } from './testing/fixtures.ts';
import { aReceiver, type Received } from './testing/receiver.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine();
});
afterEach(() => owned[Symbol.asyncDispose]());

const header = ({ headers }: Received, name: string) => String(headers[name]);
const signed = (message: Received) => ({
  'webhook-id': header(message, 'webhook-id'),
  'webhook-timestamp': header(message, 'webhook-timestamp'),
  'webhook-signature': header(message, 'webhook-signature'),
});
const accepts = (secret: string, message: Received, body = message.body) => {
  try {
    new Webhook(secret).verify(body.toString(), signed(message));
    return true;
  } catch {
    return false;
  }
};

test('every send is signed over the bytes that arrive, under the same id and at its own time', async () => {
  await using receiver = await aReceiver((call) => (call === 1 ? 500 : 200));
  const { id } = await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: receiver.url, webhookOptions: { schedule: [0, 1] } }));
  await owned.engine.cancel({ id, callerId: owned.callerId });
  owned.startDispatcher();
  await expect.poll(() => receiver.received.length, { timeout: 60_000 }).toBe(2);
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  const [first, second] = receiver.received;
  if (!first || !second) throw new Error('two have come');
  expect([accepts(secret, first), accepts(secret, second)]).toEqual([true, true]);
  expect(header(first, 'webhook-id')).toBe(header(second, 'webhook-id'));
  expect(Number(header(second, 'webhook-timestamp'))).toBeGreaterThan(Number(header(first, 'webhook-timestamp')));
  const changed = Buffer.from(second.body.map((byte, index) => (index === 3 ? byte ^ 1 : byte)));
  expect(accepts(secret, second, changed)).toBe(false);
});

test('a secret that is rotated between two sends signs the second, beside the one before', async () => {
  await using receiver = await aReceiver((call) => (call === 1 ? 500 : 200));
  const before = await owned.engine.webhookSecrets.read(owned.callerId);
  const { id } = await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: receiver.url, webhookOptions: { schedule: [0, 2] } }));
  await owned.engine.cancel({ id, callerId: owned.callerId });
  owned.startDispatcher();
  await expect.poll(() => receiver.received.length, { timeout: 60_000 }).toBe(1);
  const after = await owned.engine.webhookSecrets.rotate(owned.callerId);
  await expect.poll(() => receiver.received.length, { timeout: 60_000 }).toBe(2);
  const [first, second] = receiver.received;
  if (!first || !second) throw new Error('two have come');
  expect([accepts(before.secret, first), accepts(after.secret, first)]).toEqual([true, false]);
  expect([accepts(before.secret, second), accepts(after.secret, second)]).toEqual([true, true]);
});

describe('a webhook that asks for events', () => {
  test('is told of them in the order of their numbers, each once, and of the end in any case', async () => {
    await using receiver = await aReceiver();
    owned.startDispatcher();
    let checks = 0;
    const upstream = anUpstream({
      start: () => Promise.resolve(running('handle', 1)),
      check: () => {
        checks += 1;
        if (checks < 3) return Promise.resolve({ ...running('handle', 600), progress: checks / 4 });
        return Promise.resolve({ kind: 'finished', output: { media: [], text: 'done' } });
      },
    });
    owned.startWorker(upstream);
    const webhookOptions = { events: ['queued', 'started', 'progress'] } as const;
    const { id } = await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: receiver.url, webhookOptions }));
    await expect
      .poll(() => receiver.received.map((message) => header(message, 'webhook-event')), { timeout: 60_000 })
      .toContain('request.completed');
    await expect.poll(() => receiver.received.length).toBe(5);
    const inOrder = receiver.received.toSorted(
      (one, other) => Number(one.headers['webhook-sequence']) - Number(other.headers['webhook-sequence']),
    );
    expect(
      inOrder.map((message) => [header(message, 'webhook-event'), header(message, 'webhook-status'), message.headers['webhook-progress']]),
    ).toEqual([
      ['request.queued', 'QUEUED', undefined],
      ['request.started', 'PROCESSING', undefined],
      ['request.progress', 'PROCESSING', '0.25'],
      ['request.progress', 'PROCESSING', '0.5'],
      ['request.completed', 'COMPLETED', undefined],
    ]);
    expect(new Set(inOrder.map((message) => header(message, 'webhook-id'))).size).toBe(5);
    const events = await owned.sql<{ sequence: number }[]>`select sequence from job_events where job_id = ${id} order by sequence`;
    expect(inOrder.map((message) => Number(header(message, 'webhook-sequence')))).toEqual(events.map(({ sequence }) => sequence));
  });

  test('is told only of those it asked for', async () => {
    await using receiver = await aReceiver();
    owned.startDispatcher();
    owned.startWorker(anUpstream());
    await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: receiver.url, webhookOptions: { events: ['started'] } }));
    await expect
      .poll(() => receiver.received.map((message) => header(message, 'webhook-event')).toSorted())
      .toEqual(['request.completed', 'request.started']);
  });

  test('is not told a second time that it started when the job is tried again', async () => {
    await using receiver = await aReceiver();
    owned.startDispatcher();
    const id = await aJob(owned.sql, { callerId: owned.callerId, attempt: 1, webhookUrl: receiver.url });
    await owned.sql`update jobs set webhook_options = '{"events":["started"]}' where id = ${id}`;
    owned.startWorker(anUpstream());
    await expect.poll(async () => owned.engine.sweep.once()).toMatchObject({ rung: 0 });
    await owned.sql`update jobs set rung_at = now() - interval '1 minute' where id = ${id}`;
    await owned.engine.sweep.once();
    await expect.poll(() => receiver.received.map((message) => header(message, 'webhook-event'))).toEqual(['request.completed']);
  });
});

test('a message in the envelope of Standard Webhooks has type, timestamp and data, which is the dialect’s own body', async () => {
  await using engine = await createTestEngine({
    encodeWebhook: () => ({ contentType: 'application/json', body: '{"id": "ü", "big":12345678901234567890}' }),
  });
  await using receiver = await aReceiver();
  engine.startDispatcher();
  engine.startWorker(anUpstream());
  await engine.engine.submit(aSubmission(engine.callerId, { webhookUrl: receiver.url, webhookOptions: { format: 'standard' } }));
  await expect.poll(() => receiver.received.length).toBe(1);
  expect(receiver.received[0]?.body.toString()).toMatch(
    /^\{"type":"request\.completed","timestamp":"\d{4}-\d{2}-\d{2}T[\d:.]+Z","data":\{"id": "ü", "big":12345678901234567890\}\}$/,
  );
});

test('a message of a dialect that repeats what runs have printed has that, the newest of it while the run goes on', async () => {
  await using engine = await createTestEngine({
    encodeWebhook: Object.assign(
      ({ state, logs }: Job) => ({ contentType: 'application/json', body: JSON.stringify({ state, logs: logs?.map(({ text }) => text) }) }),
      { tellsLogs: (dialect: string) => dialect === 'talkative' },
    ),
  });
  await using receiver = await aReceiver();
  engine.startDispatcher();
  const lines = Array.from({ length: 150 }, (_, index) => `line ${index}`);
  const heard = { lines: Promise.withResolvers<void>(), progress: Promise.withResolvers<void>() };
  let looks = 0;
  engine.startWorker(
    anUpstream({
      start: () => Promise.resolve({ ...running('handle', 1), logs: lines }),
      async check() {
        await heard.lines.promise;
        looks += 1;
        if (looks === 1) return { ...running('handle', 1), progress: 0.5, logs: lines };
        await heard.progress.promise;
        return { kind: 'finished', output: OUTPUT, logs: [...lines, 'done'] };
      },
    }),
  );
  const webhookOptions = { events: ['queued', 'progress'] } as const;
  const submit = (dialect: string) =>
    engine.engine.submit(aSubmission(engine.callerId, { dialect, webhookUrl: new URL(dialect, receiver.url).href, webhookOptions }));
  const { id } = await submit('talkative');
  await expect.poll(() => engine.engine.readLogs({ id, callerId: engine.callerId })).toHaveLength(150);
  heard.lines.resolve();
  const toldOf = (dialect: string) =>
    receiver.received.filter(({ url }) => url.endsWith(dialect)).map(({ body }) => JSON.parse(body.toString()));
  await expect.poll(() => toldOf('talkative')).toContainEqual({ state: 'PROCESSING', logs: lines.slice(-100) });
  heard.progress.resolve();
  await expect.poll(() => toldOf('talkative')).toContainEqual({ state: 'COMPLETED', logs: [...lines, 'done'] });
  await expect.poll(() => toldOf('talkative')).toContainEqual({ state: 'QUEUED' });
  await submit('silent');
  await expect.poll(() => toldOf('silent').map(({ state }) => state)).toContain('COMPLETED');
  expect(toldOf('silent').every((told) => !('logs' in told))).toBe(true);
});

test('headers that the client chose are sent along, and shown to nobody', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  const headers = { authorization: 'Bearer of the receiver', 'x-team': 'video' };
  const { id } = await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: receiver.url, webhookOptions: { headers } }));
  await owned.engine.cancel({ id, callerId: owned.callerId });
  await expect.poll(() => owned.sql`select from sends`).toHaveLength(1);
  expect(receiver.received[0]?.headers).toMatchObject(headers);
  const sends = await owned.sql<{ request_headers: string }[]>`select request_headers from sends`;
  expect(JSON.parse(sends[0]?.request_headers ?? '')).toMatchObject({ authorization: '…', 'x-team': '…' });
  expect(JSON.stringify(owned.logged)).not.toContain('Bearer of the receiver');
});

test('a dialect that cannot write its message does not keep the job from ending', async () => {
  await using engine = await createTestEngine({
    encodeWebhook: () => {
      throw new Error('a fault of the dialect');
    },
  });
  await using receiver = await aReceiver();
  engine.startDispatcher();
  engine.startWorker(anUpstream());
  const { id } = await engine.engine.submit(aSubmission(engine.callerId, { webhookUrl: receiver.url }));
  await expect.poll(() => receiver.received.length).toBe(1);
  expect(JSON.parse(receiver.received[0]?.body.toString() ?? '')).toEqual({ id, status: 'COMPLETED' });
  expect(engine.logged.map(({ message }) => message)).toContain('webhook not encoded');
});

test('a send is written down with its timings, its address and its headers, and without its signature', async () => {
  await using receiver = await aReceiver(() => ({ status: 503, headers: { 'retry-after': '7200', 'x-trace': 'abc' } }));
  const webhookOptions = { schedule: [0, 60] };
  const { id } = await owned.engine.submit(aSubmission(owned.callerId, { webhookUrl: receiver.url, webhookOptions }));
  await owned.engine.cancel({ id, callerId: owned.callerId });
  owned.startDispatcher();
  const sends = () => owned.sql<{ request_headers: string; response_headers: string; due_in: number }[]>`
    select sends.*, extract(epoch from next_send_at - started_at)::double precision as due_in from sends`;
  await expect.poll(sends).toHaveLength(1);
  const [send] = await sends();
  expect(send).toMatchObject({
    number: 1,
    trigger: 'auto',
    status: 503,
    error_code: 'http_error',
    address: '127.0.0.1',
    connect_ms: expect.any(Number),
    first_byte_ms: expect.any(Number),
    dns_ms: null,
    tls_ms: null,
    response_body: 'thanks',
    next_reason: 'as Retry-After asks',
  });
  expect(Math.round(send?.due_in ?? 0)).toBe(7_200);
  expect(JSON.parse(send?.response_headers ?? '{}')).toMatchObject({ 'x-trace': 'abc' });
  const headers: Record<string, string> = JSON.parse(send?.request_headers ?? '{}');
  expect(headers).toMatchObject({ 'webhook-event': 'request.cancelled', 'webhook-signature': 'v1,…' });
  const signature = receiver.received[0]?.headers['webhook-signature'];
  const everything = await owned.sql`select sends::text as all_of_it from sends`;
  expect(JSON.stringify([everything, owned.logged])).not.toContain(String(signature).slice(3));
});

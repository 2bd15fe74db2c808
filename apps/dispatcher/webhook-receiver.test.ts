import { createHmac } from 'node:crypto';
import type { Clock } from '@claimcheck/core';
import { StartError } from '@claimcheck/core';
import { listen } from '@claimcheck/engine/testing';
import { describe, expect, test } from 'vitest';
import { type AnswerOptions, BODY_BYTES_MAX, startReceiver, type WebhookReport } from './webhook-receiver.ts';

const KEY = Buffer.alloc(32, 7);
const NOW_MS = 1_614_265_330_000;

/** The receiver's clock stands still, and says what it was asked to wait for. */
interface TestReceiver extends AsyncDisposable {
  readonly reports: readonly WebhookReport[];
  readonly waits: readonly number[];
  post(headers: Readonly<Record<string, string>>, body?: string): Promise<Response>;
  readonly url: string;
  stop(): Promise<void>;
}

async function start({ answer = {}, key }: { answer?: Partial<AnswerOptions>; key?: Buffer } = {}): Promise<TestReceiver> {
  const reports: WebhookReport[] = [];
  const waits: number[] = [];
  const clock: Clock = {
    now: () => NOW_MS,
    sleep: async (ms) => {
      waits.push(ms);
    },
  };
  const receiver = await startReceiver({
    host: '127.0.0.1',
    port: 0,
    answer: { delayMs: 0, ...answer },
    clock,
    onWebhook: (report) => reports.push(report),
    ...(key && { key }),
  });
  return {
    reports,
    waits,
    url: receiver.url,
    stop: () => receiver.stop(),
    post: (headers, body = '{}') => fetch(`${receiver.url}/hook?a=1`, { method: 'POST', headers, body }),
    [Symbol.asyncDispose]: () => receiver.stop(),
  };
}

function signed(id: string, { key = KEY, body = '{}' } = {}): Record<string, string> {
  const timestamp = String(NOW_MS / 1000);
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}

const NEWS = { 'webhook-event': 'request.completed', 'webhook-sequence': '7', 'webhook-status': 'COMPLETED' };

test('a genuine webhook is answered with 204 and reported as it came', async () => {
  await using receiver = await start({ key: KEY });
  const body = '{ "a" : 1.0 }';
  expect((await receiver.post({ ...signed('msg_1', { body }), ...NEWS }, body)).status).toBe(204);
  expect(receiver.reports).toEqual([
    {
      receivedAtMs: NOW_MS,
      path: '/hook?a=1',
      id: 'msg_1',
      event: 'request.completed',
      sequence: '7',
      status: 'COMPLETED',
      check: { kind: 'verified' },
      timesSeen: 1,
      body: Buffer.from(body),
      answer: { status: 204, delayMs: 0 },
    },
  ]);
});

test('a forged webhook is answered with 401 and reported with what is wrong', async () => {
  await using receiver = await start({ key: KEY });
  expect((await receiver.post(signed('msg_1', { key: Buffer.alloc(32, 8) }))).status).toBe(401);
  expect(receiver.reports).toMatchObject([{ check: { kind: 'refused', problem: expect.stringMatching(/^wrong signature/) } }]);
});

test('without a key nothing is checked, and everything taken', async () => {
  await using receiver = await start();
  expect((await receiver.post({})).status).toBe(204);
  expect(receiver.reports).toMatchObject([{ check: { kind: 'unchecked' } }]);
});

describe('duplicates', () => {
  test('are counted by webhook-id', async () => {
    await using receiver = await start({ key: KEY });
    for (const id of ['msg_a', 'msg_b', 'msg_a', 'msg_a']) await receiver.post(signed(id));
    expect(receiver.reports.map(({ timesSeen }) => timesSeen)).toEqual([1, 1, 2, 3]);
  });

  test('are not made of a genuine webhook by a forged one', async () => {
    await using receiver = await start({ key: KEY });
    await receiver.post({ ...signed('msg_a'), 'webhook-signature': 'v1,AAAA' });
    await receiver.post(signed('msg_a'));
    expect(receiver.reports.map(({ timesSeen }) => timesSeen)).toEqual([1, 1]);
  });

  test('are not seen in webhooks without an id', async () => {
    await using receiver = await start();
    await receiver.post({});
    await receiver.post({});
    expect(receiver.reports.map(({ timesSeen }) => timesSeen)).toEqual([1, 1]);
  });
});

describe('a receiver in trouble', () => {
  test('answers everything with the status and the Retry-After that it is told, after the delay', async () => {
    await using receiver = await start({ key: KEY, answer: { status: 503, retryAfterSeconds: 5, delayMs: 2000 } });
    for (const headers of [signed('msg_1'), {}]) {
      const response = await receiver.post(headers);
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
    }
    expect(receiver.waits).toEqual([2000, 2000]);
  });

  test('in no trouble sends no Retry-After and does not wait', async () => {
    await using receiver = await start();
    expect((await receiver.post({})).headers.has('retry-after')).toBe(false);
    expect(receiver.waits).toEqual([]);
  });
});

test('a body that is too large is answered with 413 and not kept; the largest allowed is taken', async () => {
  await using receiver = await start({ key: KEY });
  const [largest, tooLarge] = ['x'.repeat(BODY_BYTES_MAX), 'x'.repeat(BODY_BYTES_MAX + 1)];
  expect((await receiver.post(signed('msg_1', { body: tooLarge }), tooLarge)).status).toBe(413);
  expect((await receiver.post(signed('msg_1', { body: largest }), largest)).status).toBe(204);
  const [first, second] = receiver.reports;
  expect(first?.check).toEqual({ kind: 'refused', problem: 'the body has more than 1048576 bytes' });
  expect([first?.body, second?.body?.length]).toEqual([undefined, BODY_BYTES_MAX]);
});

test('what is not posted is no webhook', async () => {
  await using receiver = await start();
  const response = await fetch(receiver.url);
  expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
  expect(receiver.reports).toEqual([]);
});

test('a port that is taken is an expected error that says what to do', async () => {
  await using other = await listen(() => {});
  const port = Number(new URL(other.url).port);
  const { sleep, now } = { sleep: () => Promise.resolve(), now: () => NOW_MS };
  const started = startReceiver({ host: '127.0.0.1', port, answer: { delayMs: 0 }, clock: { sleep, now }, onWebhook: () => {} });
  await expect(started).rejects.toThrow(
    new StartError(`Port ${port} on 127.0.0.1 is in use by another program: stop it, or choose another with --port.`),
  );
});

import type { IncomingHttpHeaders } from 'node:http';
import { AppError, type DeliveryState, newId, systemClock } from '@claimcheck/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claimDue, recordSends } from './storage/deliveries.ts';
import { aCaller, aDelivery, aJob, type DeliveryFields } from './testing/fixtures.ts';
import { listen, type TestServer } from './testing/index.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

interface Receiver extends TestServer {
  readonly received: { readonly headers: IncomingHttpHeaders; readonly body: string }[];
}

async function aReceiver(answer: (call: number) => number = () => 200): Promise<Receiver> {
  const received: Receiver['received'] = [];
  const server = await listen((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      received.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      response.writeHead(answer(received.length), { 'x-answer': 'yes' }).end('thanks');
    });
  });
  return { ...server, received };
}

const NOWHERE = 'http://127.0.0.1:1/hook';
const POLL = { timeout: 60_000, interval: 10 };

let owned: TestEngine;
let stranger: string;
beforeEach(async () => {
  owned = await createTestEngine();
  stranger = await aCaller(owned.sql);
});
afterEach(() => owned[Symbol.asyncDispose]());

const mine = (id: string) => ({ id, callerId: owned.callerId });
const delivery = (fields: Partial<DeliveryFields> = {}) => aDelivery(owned.sql, { callerId: owned.callerId, url: NOWHERE, ...fields });
const read = (id: string) => owned.engine.deliveries.read(mine(id));
const waitFor = (id: string, state: DeliveryState) => expect.poll(async () => (await read(id))?.delivery.state, POLL).toBe(state);
const claimOf = async (id: string) => (await owned.sql<{ claim: number }[]>`select claim from deliveries where id = ${id}`)[0]?.claim;
const claimAll = async () => (await claimDue(owned.sql, { limit: 10, claimSeconds: 60, rooms: [], roomElsewhere: 10 })).claimed;
const errorOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

describe('a delivery', () => {
  test('is read with its message, every send, and what follows from each', async () => {
    await using receiver = await aReceiver((call) => (call === 1 ? 503 : 200));
    const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'COMPLETED' });
    const id = await delivery({ url: `${receiver.url}/hook?token=1`, jobId, body: '{"n":1.0}', schedule: [0, 300] });
    owned.startDispatcher();
    await expect.poll(async () => (await read(id))?.sends.length, POLL).toBe(1);
    const failed = await read(id);
    expect(failed).toMatchObject({
      delivery: {
        id,
        jobId,
        callerId: owned.callerId,
        event: 'request.completed',
        sequence: 0,
        url: `${receiver.url}/hook?token=1`,
        state: 'PENDING',
        sendCount: 1,
        schedule: [0, 300],
        next: { at: failed?.sends[0]?.nextSendAt, trigger: 'auto' },
        endpoint: { state: 'failing', since: expect.any(Date) },
      },
      message: '{"n":1.0}',
      sends: [
        {
          number: 1,
          trigger: 'auto',
          startedAt: expect.any(Date),
          timings: { totalMs: expect.any(Number), firstByteMs: expect.any(Number), connectMs: expect.any(Number) },
          address: '127.0.0.1',
          status: 503,
          responseHeaders: { 'x-answer': 'yes' },
          responseBody: 'thanks',
          error: { code: 'http_error', message: expect.any(String) },
          nextSendAt: expect.any(Date),
          nextReason: expect.any(String),
        },
      ],
    });
    expect(failed?.delivery.finishedAt).toBeUndefined();
    await owned.engine.deliveries.resend(mine(id));
    await waitFor(id, 'DELIVERED');
    const done = await read(id);
    expect(done).toMatchObject({
      delivery: { sendCount: 2, finishedAt: expect.any(Date), endpoint: { state: 'ok' } },
      sends: [{ number: 1 }, { number: 2, trigger: 'manual', status: 200 }],
    });
    expect(done?.delivery).not.toHaveProperty('next');
    expect(done?.sends[1]).not.toHaveProperty('error');
    expect(done?.sends[1]).not.toHaveProperty('nextSendAt');
  });

  test('shows the headers that were sent, but nothing of the signature', async () => {
    await using receiver = await aReceiver();
    const id = await delivery({ url: receiver.url });
    owned.startDispatcher();
    await waitFor(id, 'DELIVERED');
    const signature = String(receiver.received[0]?.headers['webhook-signature']);
    expect(signature).toMatch(/^v1,.{40}/);
    const sent = (await read(id))?.sends[0]?.requestHeaders;
    expect(sent).toMatchObject({ 'webhook-id': id, 'webhook-timestamp': receiver.received[0]?.headers['webhook-timestamp'] });
    expect(JSON.stringify(sent)).not.toContain(signature.slice(3, 15));
  });

  test('whose message is gone is shown without it', async () => {
    const id = await delivery({ state: 'DELIVERED' });
    expect(await read(id)).toHaveProperty('message', '{}');
    await owned.sql`update deliveries set body = null where id = ${id}`;
    const detail = await read(id);
    expect(detail?.delivery.state).toBe('DELIVERED');
    expect(detail).not.toHaveProperty('message');
  });

  test('tells that its endpoint is disabled, since when and why', async () => {
    const id = await delivery({ url: 'https://one.example/hook?a=1', state: 'HELD' });
    const sibling = await delivery({ url: 'https://one.example/hook?b=2', state: 'DELIVERED' });
    const elsewhere = await delivery({ url: 'https://one.example/other' });
    await owned.sql`
      insert into webhook_endpoints (caller_id, endpoint, url, disabled_at, disabled_reason)
      select caller_id, endpoint, url, db_now(), 'gone' from deliveries where id = ${id}`;
    const healthOf = async (one: string) => (await read(one))?.delivery.endpoint;
    expect(await healthOf(id)).toEqual({ state: 'disabled', reason: 'gone', since: expect.any(Date) });
    expect(await healthOf(sibling)).toEqual(await healthOf(id));
    expect(await healthOf(elsewhere)).toEqual({ state: 'ok' });
    expect((await read(id))?.delivery.failureCode).toBe('endpoint_disabled');
  });

  test('with very many sends shows the newest', async () => {
    const id = await delivery({ state: 'FAILED' });
    await owned.sql`
      insert into sends (delivery_id, number, started_at, duration_ms) select ${id}, number, db_now(), 1 from generate_series(1, 105) as number`;
    const numbers = (await read(id))?.sends.map(({ number }) => number);
    expect(numbers).toEqual(Array.from({ length: 100 }, (_, index) => index + 6));
  });

  test('of another caller is neither read nor sent again', async () => {
    const id = await delivery({ state: 'FAILED' });
    const foreign = { id, callerId: stranger };
    expect(await owned.engine.deliveries.read(foreign)).toBeUndefined();
    expect(await owned.engine.deliveries.resend(foreign)).toBeUndefined();
    expect((await read(id))?.delivery.state).toBe('FAILED');
    expect(await read(newId(systemClock))).toBeUndefined();
  });
});

describe('a list', () => {
  test('leads through all own deliveries, newest first, page by page without gaps', async () => {
    const ids = await Promise.all(Array.from({ length: 7 }, () => delivery({ state: 'DELIVERED' })));
    await aDelivery(owned.sql, { callerId: stranger, url: NOWHERE });
    const pages: string[][] = [];
    let cursor: string | undefined;
    do {
      const page = await owned.engine.deliveries.list(owned.callerId, { limit: 3, ...(cursor !== undefined && { cursor }) });
      pages.push(page.deliveries.map(({ id }) => id));
      cursor = page.nextCursor;
      // What comes meanwhile is no part of what was begun.
      await delivery();
    } while (cursor !== undefined);
    expect(pages.map(({ length }) => length)).toEqual([3, 3, 1]);
    expect(pages.flat()).toEqual(ids.toSorted().toReversed());
  });

  test.each(['PENDING', 'DELIVERED', 'FAILED', 'HELD'] as const)('can be narrowed to %s, across pages', async (state) => {
    const wanted: string[] = [];
    for (const other of ['PENDING', 'DELIVERED', 'FAILED', 'HELD'] as const) {
      for (let count = 0; count < 2; count += 1) {
        const id = await delivery({ state: other });
        if (other === state) wanted.push(id);
      }
    }
    await aDelivery(owned.sql, { callerId: stranger, url: NOWHERE, state });
    const first = await owned.engine.deliveries.list(owned.callerId, { limit: 1, state });
    const second = await owned.engine.deliveries.list(owned.callerId, { limit: 1, state, cursor: first.nextCursor ?? '' });
    expect(second.nextCursor).toBeUndefined();
    const found = [...first.deliveries, ...second.deliveries];
    expect(found.map(({ id }) => id)).toEqual(wanted.toSorted().toReversed());
    expect(found.map((one) => one.state)).toEqual([state, state]);
  });
});

describe('the deliveries of a job', () => {
  const ofJob = (id: string, callerId = owned.callerId, state?: DeliveryState) =>
    owned.engine.deliveries.ofJob({ id, callerId }, { limit: 20, ...(state && { state }) });

  test('are its own, also when it is gone', async () => {
    const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'COMPLETED', expiresInSeconds: 100 });
    const id = await delivery({ jobId });
    await delivery();
    const idsOf = async () => (await ofJob(jobId))?.deliveries.map((one) => one.id);
    expect(await idsOf()).toEqual([id]);
    await owned.setClockAhead(101);
    expect(await owned.engine.read(mine(jobId))).toBeUndefined();
    expect(await idsOf()).toEqual([id]);
    await owned.engine.sweep.once();
    expect(await idsOf()).toEqual([id]);
  });

  test('are none for a job without a webhook, and unknown for a job that is', async () => {
    const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'COMPLETED', expiresInSeconds: 100 });
    expect(await ofJob(jobId)).toEqual({ deliveries: [] });
    expect(await ofJob(newId(systemClock))).toBeUndefined();
    await owned.setClockAhead(101);
    expect(await ofJob(jobId)).toBeUndefined();
  });

  test('that are in other states are no reason to call the job unknown', async () => {
    const jobId = newId(systemClock);
    const id = await delivery({ jobId, state: 'DELIVERED' });
    expect(await ofJob(jobId, owned.callerId, 'FAILED')).toEqual({ deliveries: [] });
    expect((await ofJob(jobId, owned.callerId, 'DELIVERED'))?.deliveries).toMatchObject([{ id }]);
  });

  test('are unknown to another caller', async () => {
    const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'COMPLETED' });
    await delivery({ jobId });
    expect(await ofJob(jobId, stranger)).toBeUndefined();
  });
});

describe('a resend', () => {
  test('of a delivery that waits is sent in place of its retry, and the schedule goes on behind it', async () => {
    await using receiver = await aReceiver(() => 500);
    const id = await delivery({ url: receiver.url, schedule: [0, 100, 500] });
    owned.startDispatcher();
    await expect.poll(async () => (await read(id))?.sends.length, POLL).toBe(1);
    const asked = await owned.engine.deliveries.resend(mine(id));
    expect(asked).toMatchObject({ id, state: 'PENDING', next: { trigger: 'manual' } });
    await expect.poll(async () => (await read(id))?.sends.length, POLL).toBe(2);
    const detail = await read(id);
    expect(detail?.sends.map(({ trigger }) => trigger)).toEqual(['auto', 'manual']);
    expect(detail?.delivery).toMatchObject({ state: 'PENDING', next: { trigger: 'auto' } });
    const [send] = detail?.sends.slice(1) ?? [];
    const waitMs = (send?.nextSendAt?.getTime() ?? 0) - (send?.startedAt.getTime() ?? 0);
    // The third entry of the schedule, not the second, whose send this one was.
    expect(waitMs / 1000).toBeCloseTo(500, -1);
  });

  test.each(['DELIVERED', 'FAILED', 'HELD'] as const)('of a %s delivery that fails leaves it as it was', async (state) => {
    await using receiver = await aReceiver(() => 500);
    const id = await delivery({ url: receiver.url, state, schedule: [0, 1, 1] });
    owned.startDispatcher();
    expect(await owned.engine.deliveries.resend(mine(id))).toMatchObject({ state: 'PENDING', next: { trigger: 'manual' } });
    await waitFor(id, state);
    expect(receiver.received).toHaveLength(1);
    expect((await read(id))?.sends).toMatchObject([{ trigger: 'manual', status: 500 }]);
    expect((await read(id))?.delivery.endpoint).toEqual({ state: 'ok' });
  });

  test.each(['DELIVERED', 'FAILED', 'HELD'] as const)('of a %s delivery that succeeds makes it DELIVERED', async (state) => {
    await using receiver = await aReceiver();
    const id = await delivery({ url: receiver.url, state, body: '{"same":"bytes"}' });
    owned.startDispatcher();
    await owned.engine.deliveries.resend(mine(id));
    await waitFor(id, 'DELIVERED');
    expect(receiver.received).toMatchObject([{ headers: { 'webhook-id': id }, body: '{"same":"bytes"}' }]);
    const { delivery: delivered } = (await read(id)) ?? {};
    expect(delivered).not.toHaveProperty('failureCode');
  });

  test('goes to a disabled endpoint, and its success ends that', async () => {
    await using receiver = await aReceiver();
    const id = await delivery({ url: receiver.url, state: 'HELD' });
    await owned.sql`
      insert into webhook_endpoints (caller_id, endpoint, url, disabled_at, disabled_reason)
      select caller_id, endpoint, url, db_now(), 'failing' from deliveries where id = ${id}`;
    const unasked = await delivery({ url: receiver.url });
    owned.startDispatcher();
    await waitFor(unasked, 'HELD');
    await owned.engine.deliveries.resend(mine(id));
    await waitFor(id, 'DELIVERED');
    expect((await read(id))?.delivery.endpoint).toEqual({ state: 'ok' });
    expect(receiver.received).toHaveLength(1);
  });

  test('of a delivery whose message is gone is refused, and changes nothing', async () => {
    const id = await delivery({ state: 'DELIVERED' });
    await owned.sql`update deliveries set body = null where id = ${id}`;
    const error = await errorOf(owned.engine.deliveries.resend(mine(id)));
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({ code: 'conflict', message: expect.stringContaining('its message is gone') });
    expect((await read(id))?.delivery.state).toBe('DELIVERED');
  });

  test('that is asked for twice is one send', async () => {
    const id = await delivery({ state: 'FAILED' });
    const asked = await Promise.all([1, 2, 3].map(() => owned.engine.deliveries.resend(mine(id))));
    expect(asked.map((one) => one?.state)).toEqual(['PENDING', 'PENDING', 'PENDING']);
    expect(await claimOf(id)).toBe(1);
    const [claimed] = await claimAll();
    expect(claimed).toMatchObject({ id, trigger: 'manual', fallsBackTo: 'FAILED' });
    // Under way now; asking again neither repeats it nor disowns it.
    await owned.engine.deliveries.resend(mine(id));
    expect(await claimOf(id)).toBe(claimed?.claim);
    expect(await claimAll()).toEqual([]);
  });

  test('comes after a send that is under way for the schedule, whose record is dropped', async () => {
    const id = await delivery({ schedule: [0, 100] });
    const [late] = await claimAll();
    await owned.engine.deliveries.resend(mine(id));
    const record = { deliveryId: id, durationMs: 1, requestHeaders: {}, status: 200, next: 'DELIVERED', nextReason: 'delivered' } as const;
    const rule = { failingSeconds: 1, failuresMin: 1_000 };
    await recordSends(owned.sql, [{ ...record, claim: late?.claim ?? 0 }], rule);
    expect((await read(id))?.sends).toEqual([]);
    const [newer] = await claimAll();
    await recordSends(owned.sql, [{ ...record, claim: newer?.claim ?? 0 }], rule);
    expect((await read(id))?.sends).toMatchObject([{ number: 1, trigger: 'manual' }]);
  });

  test('wakes a dispatcher that rests', async () => {
    await using receiver = await aReceiver();
    const clock = createTestClock();
    await using resting = await owned.sibling({ clock });
    const id = await delivery({ url: receiver.url, state: 'FAILED' });
    resting.startDispatcher();
    await expect.poll(() => clock.sleeping, POLL).toContain(5_000);
    // Its clock stands still, so that only the signal can wake it.
    await owned.engine.deliveries.resend(mine(id));
    await waitFor(id, 'DELIVERED');
  });
});

describe('a test send', () => {
  const tryOut = (url: string, set: Partial<Parameters<TestEngine['engine']['deliveries']['test']>[0]> = {}) =>
    owned.engine.deliveries.test({
      callerId: owned.callerId,
      dialect: 'native',
      baseUrl: 'https://queue.example',
      url,
      timeoutMs: 15_000,
      signal: new AbortController().signal,
      ...set,
    });

  test('is made once and answers with what came of it', async () => {
    await using receiver = await aReceiver();
    owned.startDispatcher();
    const tested = await tryOut(receiver.url);
    expect(tested).toMatchObject({
      delivery: { event: 'webhook.test', state: 'DELIVERED', schedule: [0], url: receiver.url },
      sends: [{ number: 1, trigger: 'test', status: 200, responseBody: 'thanks' }],
    });
    expect(tested.delivery).not.toHaveProperty('jobId');
    expect(receiver.received).toMatchObject([
      { headers: { 'webhook-id': tested.delivery.id, 'webhook-event': 'webhook.test' }, body: tested.message },
    ]);
    expect(await read(tested.delivery.id)).toEqual(tested);
  });

  test('that fails says why, is not sent again, and is not held against the endpoint', async () => {
    await using receiver = await aReceiver(() => 500);
    owned.startDispatcher();
    expect(await tryOut(receiver.url)).toMatchObject({
      delivery: { state: 'FAILED', failureCode: 'http_error', endpoint: { state: 'ok' } },
      sends: [{ status: 500, error: { code: 'http_error' } }],
    });
    expect(receiver.received).toHaveLength(1);
  });

  test.each([
    ['request.queued', 'QUEUED'],
    ['request.started', 'PROCESSING'],
    ['request.progress', 'PROCESSING'],
    ['request.completed', 'COMPLETED'],
    ['request.failed', 'FAILED'],
    ['request.cancelled', 'CANCELLED'],
  ] as const)('can look like %s', async (event, state) => {
    const { message } = await tryOut(NOWHERE, { event, timeoutMs: 0 });
    expect(JSON.parse(message ?? '')).toMatchObject({ id: expect.any(String), state });
  });

  test('can have the envelope of Standard Webhooks, and says in it that it is a test', async () => {
    const plain = await tryOut(NOWHERE, { timeoutMs: 0 });
    expect(JSON.parse(plain.message ?? '')).not.toHaveProperty('type');
    const { message } = await tryOut(NOWHERE, { format: 'standard', timeoutMs: 0 });
    expect(JSON.parse(message ?? '')).toEqual({
      type: 'webhook.test',
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      data: { id: expect.any(String), state: 'COMPLETED' },
    });
  });

  test('that no dispatcher takes is answered as it stands when the time is over, or the client gone', async () => {
    const startedMs = performance.now();
    const [late, left] = await Promise.all([tryOut(NOWHERE, { timeoutMs: 300 }), tryOut(NOWHERE, { signal: AbortSignal.abort() })]);
    expect(performance.now() - startedMs).toBeLessThan(15_000);
    for (const { delivery: waiting, sends } of [late, left]) {
      expect(waiting).toMatchObject({ state: 'PENDING', next: { trigger: 'test' } });
      expect(sends).toEqual([]);
    }
  });

  test("is not in another caller's list", async () => {
    const { delivery: tested } = await tryOut(NOWHERE, { timeoutMs: 0 });
    expect((await owned.engine.deliveries.list(owned.callerId, { limit: 5 })).deliveries).toMatchObject([{ id: tested.id }]);
    expect(await owned.engine.deliveries.list(stranger, { limit: 5 })).toEqual({ deliveries: [] });
  });
});

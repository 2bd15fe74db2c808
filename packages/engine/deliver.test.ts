import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claimDue, DELIVERIES_CHANNEL, recordSends, type SendRecord } from './storage/deliveries.ts';
import { aDelivery, aJob, anUpstream, aSubmission } from './testing/fixtures.ts';
import { listen } from './testing/index.ts';
import { aReceiver } from './testing/receiver.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, QUEUES, type TestEngine } from './testing/test-engine.ts';

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine();
});
afterEach(() => owned[Symbol.asyncDispose]());

const stateOf = async (id: string) => (await owned.sql<{ state: string }[]>`select state from deliveries where id = ${id}`)[0]?.state;
/** Sets the clock ahead, and spares the dispatcher the wait for its next look. */
async function passTime(seconds: number): Promise<void> {
  await owned.setClockAhead(seconds);
  await owned.sql`select pg_notify(${DELIVERIES_CHANNEL}, '')`;
}
const sendsOf = (id: string) => owned.sql`select number, status, error_code from sends where delivery_id = ${id} order by number`;
const RULE = { failingSeconds: 1, failuresMin: 1_000 };
const claimAll = async () => (await claimDue(owned.sql, { limit: 10, claimSeconds: 60, rooms: [], roomElsewhere: 10 })).claimed;
const aDelivered = (deliveryId: string, claim = 0): SendRecord => ({
  deliveryId,
  claim,
  durationMs: 1,
  requestHeaders: {},
  status: 200,
  next: 'DELIVERED',
  nextReason: 'delivered',
});
const waitFor = (id: string, state: string) => expect.poll(() => stateOf(id), { timeout: 60_000, interval: 10 }).toBe(state);

describe.each(QUEUES)('on %s', (queue) => {
  test('a job that ends is told to its webhook once, with the exact bytes of its message', async () => {
    const body = '{"id": "ü","n":1.0,\n "big":12345678901234567890}';
    await using engine = await createTestEngine({ queue, encodeWebhook: () => ({ contentType: 'application/json; charset=utf-8', body }) });
    await using receiver = await aReceiver();
    engine.startDispatcher();
    engine.startWorker(anUpstream());
    const { id } = await engine.engine.submit(aSubmission(engine.callerId, { webhookUrl: `${receiver.url}/hook?a=1` }));
    const delivered = () => engine.sql`select id from deliveries where job_id = ${id} and state = 'DELIVERED'`;
    await expect.poll(delivered, { interval: 10 }).toHaveLength(1);
    const [row] = await delivered();
    expect(receiver.received).toHaveLength(1);
    const [message] = receiver.received;
    expect(message).toMatchObject({ method: 'POST', url: '/hook?a=1' });
    expect(message?.body).toEqual(Buffer.from(body));
    expect(message?.headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      'webhook-id': row?.id,
      'user-agent': 'claimcheck/0.1.0',
    });
    expect(message?.headers['webhook-timestamp']).toMatch(/^\d{10}$/);
  });
});

describe('a delivery', () => {
  test('that fails is sent again by its schedule, under the same id, until it succeeds', async () => {
    await using receiver = await aReceiver((call) => (call < 3 ? 500 : 204));
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: receiver.url, schedule: [0, 100, 200], body: '{"a":1}' });
    owned.startDispatcher();
    await expect.poll(() => sendsOf(id), { interval: 10 }).toHaveLength(1);
    const dueIn = async () => {
      const [row] = await owned.sql<{ due: number }[]>`
        select extract(epoch from next_send_at - now())::double precision as due from deliveries where id = ${id}`;
      return row?.due ?? 0;
    };
    // Chance is off in tests: the wait is that of the schedule.
    expect(await dueIn()).toBeGreaterThan(95);
    expect(await dueIn()).toBeLessThanOrEqual(100);
    await passTime(101);
    await expect.poll(() => sendsOf(id), { timeout: 60_000, interval: 10 }).toHaveLength(2);
    expect(await dueIn()).toBeGreaterThan(295);
    await passTime(302);
    await waitFor(id, 'DELIVERED');
    expect(await sendsOf(id)).toEqual([
      { number: 1, status: 500, error_code: 'http_error' },
      { number: 2, status: 500, error_code: 'http_error' },
      { number: 3, status: 204, error_code: null },
    ]);
    expect(receiver.received.map(({ headers, body }) => [headers['webhook-id'], body.toString()])).toEqual(
      Array.from({ length: 3 }, () => [id, '{"a":1}']),
    );
  });

  test('whose retry is due soon is sent then, and not at the next look of the dispatcher', async () => {
    await using receiver = await aReceiver((call) => (call === 1 ? 500 : 200));
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: receiver.url, schedule: [0, 1] });
    const startedMs = performance.now();
    owned.startDispatcher();
    await waitFor(id, 'DELIVERED');
    expect(performance.now() - startedMs).toBeGreaterThan(900);
    expect(performance.now() - startedMs).toBeLessThan(4_800);
  });

  test('is given up after the last send of its schedule', async () => {
    await using receiver = await aReceiver(() => 503);
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: receiver.url, schedule: [0, 0, 0] });
    owned.startDispatcher();
    await waitFor(id, 'FAILED');
    expect(receiver.received).toHaveLength(3);
    await owned.setClockAhead(1_000_000);
    expect(await claimAll()).toEqual([]);
  });

  test.each([301, 302, 307, 308])('is not sent to where a %i points', async (status) => {
    await using receiver = await aReceiver(() => status);
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: `${receiver.url}/hook` });
    owned.startDispatcher();
    await waitFor(id, 'FAILED');
    expect(receiver.received.map(({ url }) => url)).toEqual(['/hook']);
    expect(await sendsOf(id)).toEqual([{ number: 1, status, error_code: 'redirect' }]);
  });

  test('to a receiver that refuses, breaks off, or is no HTTP server is recorded as that', async () => {
    const closed = await aReceiver();
    await closed.close();
    await using breaking = await listen((request) => request.socket.destroy());
    await using babbling = await listen((request) => request.socket.end('hello?\r\n\r\n'));
    const codes: [string, string][] = [
      [closed.url, 'connect_refused'],
      [breaking.url, 'connection_reset'],
      [babbling.url, 'response_invalid'],
      ['http://receiver.invalid/', 'dns_not_found'],
    ];
    const ids = await Promise.all(codes.map(([url]) => aDelivery(owned.sql, { callerId: owned.callerId, url })));
    owned.startDispatcher();
    for (const id of ids) await waitFor(id, 'FAILED');
    const sends = await Promise.all(ids.map(sendsOf));
    expect(sends.map(([send]) => [send?.status, send?.error_code])).toEqual(
      codes.map(([url, code]) => [null, url.includes('.invalid') ? expect.stringMatching(/^dns_/) : code]),
    );
  });

  test('to a receiver whose answer has no end is over when enough was read', async () => {
    await using endless = await listen((_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      };
      response.on('drain', more).on('error', () => {});
      more();
    });
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: endless.url });
    owned.startDispatcher();
    await expect.poll(() => sendsOf(id), { interval: 10 }).toHaveLength(1);
  });

  test('to a receiver that never answers is over in time, and others do not wait for it', async () => {
    const clock = createTestClock();
    await using impatient = await owned.sibling({ clock });
    await using silent = await aReceiver(() => 'nothing');
    await using quick = await aReceiver();
    const hanging = await aDelivery(owned.sql, { callerId: owned.callerId, url: silent.url });
    impatient.startDispatcher();
    await expect.poll(() => silent.received.length).toBe(1);
    const other = await aDelivery(owned.sql, { callerId: owned.callerId, url: quick.url });
    await passTime(0);
    await waitFor(other, 'DELIVERED');
    clock.advance(14_999);
    expect(await stateOf(hanging)).toBe('PENDING');
    clock.advance(1);
    await waitFor(hanging, 'FAILED');
    expect(await sendsOf(hanging)).toEqual([{ number: 1, status: null, error_code: 'headers_timeout' }]);
  });
});

describe('several dispatchers', () => {
  test('share the work, and each delivery is sent once', async () => {
    await using receiver = await aReceiver();
    const ids = await Promise.all(
      Array.from({ length: 100 }, (_, index) => aDelivery(owned.sql, { callerId: owned.callerId, url: `${receiver.url}/${index}` })),
    );
    await using other = await owned.sibling();
    owned.startDispatcher();
    other.startDispatcher();
    const left = () => owned.sql`select from deliveries where state <> 'DELIVERED'`;
    await expect.poll(left, { timeout: 60_000, interval: 10 }).toEqual([]);
    expect(receiver.received.map(({ headers }) => headers['webhook-id']).toSorted()).toEqual(ids.toSorted());
  });

  test('finish what one left that died after it had sent, under the same id', async () => {
    await using receiver = await aReceiver();
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: receiver.url });
    const [claimed] = await claimAll();
    expect(claimed?.id).toBe(id);
    // It dies here: sent perhaps, recorded never.
    owned.startDispatcher();
    expect(await claimAll()).toEqual([]);
    await passTime(61);
    await waitFor(id, 'DELIVERED');
    expect(receiver.received.map(({ headers }) => headers['webhook-id'])).toEqual([id]);
    // The log does not hide that it may have been sent before.
    expect(await sendsOf(id)).toEqual([
      { number: 1, status: null, error_code: 'internal' },
      { number: 2, status: 200, error_code: null },
    ]);
  });

  test('drop the record of one whose claim has run out', async () => {
    const id = await aDelivery(owned.sql, { callerId: owned.callerId, url: 'http://127.0.0.1:1/' });
    const [late] = await claimAll();
    await owned.setClockAhead(61);
    const [newer] = await claimAll();
    expect(newer).toMatchObject({ id, claim: (late?.claim ?? 0) + 1 });
    await recordSends(owned.sql, [aDelivered(id, late?.claim)], RULE);
    expect(await stateOf(id)).toBe('PENDING');
    const lost = { number: 1, status: null, error_code: 'internal' };
    expect(await sendsOf(id)).toEqual([lost]);
    await recordSends(owned.sql, [aDelivered(id, newer?.claim)], RULE);
    expect(await stateOf(id)).toBe('DELIVERED');
    expect(await sendsOf(id)).toEqual([lost, { number: 2, status: 200, error_code: null }]);
  });
});

test('a dispatcher with nothing to send rests until it is time to look again, or a delivery is owed', async () => {
  const clock = createTestClock();
  await using idle = await owned.sibling({ clock });
  await using receiver = await aReceiver();
  idle.startDispatcher();
  await expect.poll(() => clock.sleeping).toContain(5_000);
  const { id } = await idle.engine.submit(aSubmission(idle.callerId, { webhookUrl: receiver.url }));
  await idle.engine.cancel({ id, callerId: idle.callerId });
  await expect.poll(() => receiver.received.length).toBe(1);
  await expect.poll(() => clock.sleeping).toContain(5_000);
});

test('a dispatcher that is stopped records what it has sent, and starts nothing more', async () => {
  await using receiver = await aReceiver();
  const ids = await Promise.all(
    Array.from({ length: 20 }, (_, index) => aDelivery(owned.sql, { callerId: owned.callerId, url: `${receiver.url}/${index}` })),
  );
  const dispatcher = owned.startDispatcher();
  await expect.poll(() => receiver.received.length, { interval: 1 }).toBeGreaterThan(0);
  await dispatcher.stop();
  const delivered = await owned.sql`select from deliveries where state = 'DELIVERED'`;
  expect(delivered).toHaveLength(receiver.received.length);
  const late = await aDelivery(owned.sql, { callerId: owned.callerId, url: receiver.url });
  expect(ids).not.toContain(late);
  expect(await stateOf(late)).toBe('PENDING');
});

test('a job owes each webhook one delivery, whoever ends it how often', async () => {
  const id = await aJob(owned.sql, { callerId: owned.callerId, state: 'PROCESSING', webhookUrl: 'http://127.0.0.1:1/' });
  await using other = await owned.sibling();
  const reference = { id, callerId: owned.callerId };
  await Promise.all([owned, other, owned, other].map(({ engine }) => engine.cancel(reference)));
  expect(await owned.sql`select from deliveries where job_id = ${id}`).toHaveLength(1);
});

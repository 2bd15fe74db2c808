import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DELIVERIES_CHANNEL } from './storage/deliveries.ts';
import { aDelivery } from './testing/fixtures.ts';
import { aReceiver, type ReceiverAnswer } from './testing/receiver.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine();
});
afterEach(() => owned[Symbol.asyncDispose]());

const aDeliveryTo = (url: string, fields: Partial<Parameters<typeof aDelivery>[1]> = {}) =>
  aDelivery(owned.sql, { callerId: owned.callerId, url, schedule: [0, 3_600], ...fields });
const wake = () => owned.sql`select pg_notify(${DELIVERIES_CHANNEL}, '')`;
const facts = async (id: string) =>
  (
    await owned.sql<{ state: string; failure_code: string | null; sends: number }[]>`
    select state, failure_code, send_count as sends from deliveries where id = ${id}`
  )[0];
const becomes = (id: string, state: string) =>
  expect.poll(async () => (await facts(id))?.state, { timeout: 60_000, interval: 10 }).toBe(state);
const inLine = async () => (await owned.sql`select from deliveries where waits_in_line`).length;

describe('a host that does not answer', () => {
  test('gets no more than its lane holds, and the others it is owed make room for other hosts', async () => {
    await using silent = await aReceiver(() => 'nothing');
    await using quick = await aReceiver();
    for (let count = 0; count < 200; count += 1) await aDeliveryTo(`${silent.url}/${count}`);
    const others = await Promise.all(Array.from({ length: 20 }, () => aDeliveryTo(quick.url)));
    owned.startDispatcher();
    for (const id of others) await becomes(id, 'DELIVERED');
    expect(silent.received).toHaveLength(2);
    expect(await inLine()).toBe(198);
  });

  test('is served from its line when it comes back', async () => {
    let isBack = false;
    await using moody = await aReceiver(() => (isBack ? 200 : 'nothing'));
    const ids = await Promise.all(Array.from({ length: 60 }, () => aDeliveryTo(moody.url)));
    const clock = createTestClock();
    await using impatient = await owned.sibling({ clock });
    impatient.startDispatcher();
    await expect.poll(inLine, { interval: 10 }).toBe(58);
    await expect.poll(() => moody.received.length).toBe(2);
    isBack = true;
    clock.advance(15_000);
    await expect.poll(async () => (await owned.sql`select from deliveries where state = 'DELIVERED'`).length, { timeout: 60_000 }).toBe(58);
    expect(await inLine()).toBe(0);
    expect(new Set(moody.received.map(({ headers }) => headers['webhook-id'])).size).toBe(ids.length);
  });
});

describe('a host that keeps failing', () => {
  test('is left alone after ten sends, and probed with one when its time is over', async () => {
    let isBack = false;
    await using broken = await aReceiver(() => (isBack ? 200 : 500));
    const clock = createTestClock();
    await using dispatching = await owned.sibling({ clock });
    await Promise.all(Array.from({ length: 40 }, () => aDeliveryTo(broken.url)));
    dispatching.startDispatcher();
    const opened = () => dispatching.logged.filter(({ message }) => message.includes('left alone')).length;
    await expect.poll(opened, { interval: 10 }).toBe(1);
    await expect.poll(inLine, { interval: 10 }).toBeGreaterThanOrEqual(28);
    const before = broken.received.length;
    expect(before).toBeGreaterThanOrEqual(10);
    expect(before).toBeLessThanOrEqual(12);
    // Not a moment earlier.
    clock.advance(29_000);
    await wake();
    await expect.poll(() => clock.sleeping.length).toBeGreaterThan(0);
    expect(broken.received).toHaveLength(before);
    clock.advance(1_000);
    await expect.poll(() => broken.received.length, { timeout: 60_000 }).toBe(before + 1);
    isBack = true;
    clock.advance(60_000);
    // What failed waits for its schedule; what waited in line is delivered.
    await expect.poll(inLine, { timeout: 60_000 }).toBe(0);
    await expect
      .poll(async () => (await owned.sql`select from deliveries where state = 'DELIVERED'`).length, { timeout: 60_000 })
      .toBe(40 - before - 1);
  });
});

describe('an endpoint', () => {
  const disabled = () => owned.sql`select disabled_reason from webhook_endpoints where disabled_at is not null`;

  test.each<[string, ReceiverAnswer, string]>([
    ['is gone', 410, 'gone'],
    ['asks for no more', { status: 500, headers: { 'webhook-delivery': 'disable' } }, 'asked'],
  ])('that %s is disabled: what it is owed is held, and other endpoints of the host are not', async (_name, answer, reason) => {
    await using receiver = await aReceiver((_call, { url }) => (url.startsWith('/gone') ? answer : 200));
    const first = await aDeliveryTo(`${receiver.url}/gone?token=1`);
    owned.startDispatcher();
    await becomes(first, 'FAILED');
    expect(await facts(first)).toMatchObject({ failure_code: 'endpoint_disabled', sends: 1 });
    expect(await disabled()).toEqual([{ disabled_reason: reason }]);
    const later = await aDeliveryTo(`${receiver.url}/gone?token=2`);
    const elsewhere = await aDeliveryTo(`${receiver.url}/here`);
    await wake();
    await becomes(later, 'HELD');
    await becomes(elsewhere, 'DELIVERED');
    expect(receiver.received.map(({ url }) => url)).toEqual(['/gone?token=1', '/here']);
    expect(await facts(later)).toMatchObject({ failure_code: 'endpoint_disabled', sends: 0 });
  });

  test('of one caller says nothing about the same endpoint of another', async () => {
    await using receiver = await aReceiver((call) => (call === 1 ? 410 : 200));
    const first = await aDeliveryTo(receiver.url);
    owned.startDispatcher();
    await becomes(first, 'FAILED');
    const [{ id: other } = { id: '' }] = await owned.sql<{ id: string }[]>`
      insert into callers (id, name) values (gen_random_uuid(), 'somebody else') returning id`;
    const theirs = await aDelivery(owned.sql, { callerId: other, url: receiver.url });
    await wake();
    await becomes(theirs, 'DELIVERED');
  });

  test('that failed for five days, twenty times at least, is disabled; a send that is asked for and succeeds ends that', async () => {
    let isBack = false;
    await using receiver = await aReceiver(() => (isBack ? 200 : 500));
    await owned.sql`
      insert into webhook_endpoints (caller_id, endpoint, url, failing_since, failures)
      values (${owned.callerId}, ${'x'}, 'x', now(), 0)`;
    await owned.sql`
      update webhook_endpoints set endpoint = md5(${receiver.url}), url = ${receiver.url}, failures = 18,
        failing_since = now() - interval '119 hours' where caller_id = ${owned.callerId}`;
    owned.startDispatcher();
    const early = await aDeliveryTo(receiver.url, { schedule: [0] });
    await becomes(early, 'FAILED');
    // Often enough, and not for long enough.
    expect(await disabled()).toEqual([]);
    await owned.sql`update webhook_endpoints set failing_since = now() - interval '121 hours'`;
    const last = await aDeliveryTo(receiver.url, { schedule: [0] });
    await wake();
    await becomes(last, 'FAILED');
    expect(await disabled()).toEqual([{ disabled_reason: 'failing' }]);
    const held = await aDeliveryTo(receiver.url);
    await wake();
    await becomes(held, 'HELD');
    isBack = true;
    await owned.sql`
      update deliveries set state = 'PENDING', trigger = 'manual', falls_back_to = 'HELD', failure_code = null, finished_at = null,
        next_send_at = db_now() where id = ${held}`;
    await wake();
    await becomes(held, 'DELIVERED');
    expect(await owned.sql`select from webhook_endpoints`).toEqual([]);
    const after = await aDeliveryTo(receiver.url);
    await wake();
    await becomes(after, 'DELIVERED');
  });

  test('that succeeds once has its failures forgotten', async () => {
    await using receiver = await aReceiver((call) => (call === 1 ? 500 : 200));
    owned.startDispatcher();
    const first = await aDeliveryTo(receiver.url, { schedule: [0] });
    await becomes(first, 'FAILED');
    expect(await owned.sql`select failures from webhook_endpoints`).toEqual([{ failures: 1 }]);
    const second = await aDeliveryTo(receiver.url);
    await wake();
    await becomes(second, 'DELIVERED');
    expect(await owned.sql`select from webhook_endpoints`).toEqual([]);
  });
});

test('an address that may not be called is not, and the delivery tells why', async () => {
  const literal = await aDeliveryTo('http://10.0.0.1/hook');
  owned.startDispatcher();
  await becomes(literal, 'FAILED');
  expect(await facts(literal)).toEqual({ state: 'FAILED', failure_code: 'blocked_address', sends: 1 });
});

test('a loopback address that the operator did not list is not called', async () => {
  await using receiver = await aReceiver();
  await using strict = await owned.sibling({ webhookAllow: { networks: [], addresses: new Set(), hosts: new Set() } });
  const id = await aDeliveryTo(receiver.url);
  strict.startDispatcher();
  await becomes(id, 'FAILED');
  expect((await facts(id))?.failure_code).toBe('blocked_address');
  expect(receiver.received).toEqual([]);
});

test('a dispatcher that stops makes due again what it had claimed and not sent', async () => {
  await using receiver = await aReceiver(() => 200);
  await Promise.all(Array.from({ length: 300 }, () => aDeliveryTo(receiver.url)));
  const dispatcher = owned.startDispatcher();
  await expect.poll(() => receiver.received.length, { interval: 1 }).toBeGreaterThan(20);
  await dispatcher.stop();
  const [left] = await owned.sql<{ count: number }[]>`
    select count(*)::integer as count from deliveries where state = 'PENDING' and next_send_at > db_now()`;
  expect(left?.count).toBe(0);
  const [sent] = await owned.sql<{ count: number }[]>`select count(*)::integer as count from deliveries where state = 'DELIVERED'`;
  expect(sent?.count).toBe(receiver.received.length);
});

test('what waited too long for a host that had answered well is given back unsent, and the log does not claim otherwise', async () => {
  await using tiring = await aReceiver((call) => (call <= 40 ? 200 : 'nothing'));
  const clock = createTestClock();
  await using patient = await owned.sibling({ clock });
  await Promise.all(Array.from({ length: 120 }, () => aDeliveryTo(tiring.url)));
  patient.startDispatcher();
  const held = async () => (await owned.sql`select from deliveries where state = 'PENDING' and claimed_at is not null`).length;
  await expect.poll(() => tiring.received.length, { timeout: 60_000 }).toBe(50);
  expect(await held()).toBeGreaterThan(10);
  clock.advance(15_001);
  // Its lane is narrow now: one is under way, the others wait in memory.
  await expect.poll(() => tiring.received.length, { timeout: 60_000 }).toBeGreaterThan(50);
  clock.advance(15_001);
  await expect.poll(held, { timeout: 60_000 }).toBeLessThanOrEqual(2);
  expect(await owned.sql`select from sends where error_code = 'internal'`).toEqual([]);
  // Or its last send would wait for a clock that nobody advances.
  await tiring.close();
});

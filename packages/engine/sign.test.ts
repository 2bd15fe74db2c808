import { createHash, createHmac, createPublicKey, verify } from 'node:crypto';
import { newId, type SignableMessage, systemClock, WEBHOOK_KEYS_MAX, type WebhookKey, type WebhookSigningKeys } from '@claimcheck/core';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SignWebhook } from './index.ts';
import { aCaller, aJob, aSubmission } from './testing/fixtures.ts';
import { aReceiver, type Received } from './testing/receiver.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';

const POLL = { timeout: 60_000, interval: 10 };
const DAY = 24 * 3600;

/** As WaveSpeed's receivers want it (wavespeed.md, section 9): the key is the text of the secret, not what it encodes. */
function signV3(secret: string, id: string, timestamp: number, body: string): string {
  return `v3,${createHmac('sha256', secret.replace('whsec_', '')).update(`${id}.${timestamp}.${body}`).digest('hex')}`;
}

function likeWaveSpeed({ id, timestamp, body }: SignableMessage, { secrets: [secret = ''] }: WebhookSigningKeys) {
  return { 'Webhook-Signature': signV3(secret, id, timestamp, body) };
}

/** As fal's receivers want it (fal.md, section 7). */
function likeFal({ jobId, timestamp, body }: SignableMessage, { callerId, signEd25519 }: WebhookSigningKeys) {
  const signature = signEd25519(Buffer.from(textForFal(jobId, callerId, String(timestamp), body)));
  return {
    'X-Fal-Webhook-Request-Id': jobId,
    'X-Fal-Webhook-User-Id': callerId,
    'X-Fal-Webhook-Timestamp': String(timestamp),
    'X-Fal-Webhook-Signature': Buffer.from(signature).toString('hex'),
  };
}

function textForFal(requestId: string, userId: string, timestamp: string, body: string | Buffer): string {
  return [requestId, userId, timestamp, createHash('sha256').update(body).digest('hex')].join('\n');
}

const DIALECTS: Readonly<Record<string, (message: SignableMessage, keys: WebhookSigningKeys) => Readonly<Record<string, string>>>> = {
  wavespeed: likeWaveSpeed,
  fal: likeFal,
  broken() {
    throw new Error('a fault of the dialect');
  },
  unsendable: () => ({ 'x-signature': 'two\nlines' }),
};
const signWebhook: SignWebhook = (dialect, message, keys) => DIALECTS[dialect]?.(message, keys);

let owned: TestEngine;
beforeEach(async () => {
  owned = await createTestEngine({ signWebhook });
});
afterEach(() => owned[Symbol.asyncDispose]());

const header = ({ headers }: Received, name: string) => String(headers[name]);

/** A job of that dialect which has ended. */
async function anEnd(dialect: string, webhookUrl: string, webhookOptions = {}): Promise<string> {
  const { id } = await owned.engine.submit(aSubmission(owned.callerId, { dialect, webhookUrl, webhookOptions }));
  await owned.engine.cancel({ id, callerId: owned.callerId });
  return id;
}

function isStandard(secret: string, message: Received): boolean {
  try {
    new Webhook(secret).verify(message.body.toString(), {
      'webhook-id': header(message, 'webhook-id'),
      'webhook-timestamp': header(message, 'webhook-timestamp'),
      'webhook-signature': header(message, 'webhook-signature'),
    });
    return true;
  } catch {
    return false;
  }
}

/** What fal's receivers do: any key of the published ones will do. */
function falAccepts(keys: readonly WebhookKey[], message: Received, body = message.body): boolean {
  const [requestId, userId, timestamp, signature] = ['request-id', 'user-id', 'timestamp', 'signature'].map((name) =>
    header(message, `x-fal-webhook-${name}`),
  );
  if (!requestId || !userId || !timestamp || !/^[0-9a-f]{128}$/.test(signature ?? '')) return false;
  const signed = Buffer.from(textForFal(requestId, userId, timestamp, body));
  return keys.some(({ publicKey: x }) =>
    verify(null, signed, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }), Buffer.from(signature ?? '', 'hex')),
  );
}

const isV3 = (secret: string, message: Received) =>
  header(message, 'webhook-signature') ===
  signV3(secret, header(message, 'webhook-id'), Number(header(message, 'webhook-timestamp')), message.body.toString());

test('the signatures of this test are those of the protocol sheet', () => {
  const secret = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
  expect(signV3(secret, 'wh_1', 1_700_000_000, '{"id":"p1","status":"completed"}')).toBe(
    'v3,44a84b5ab5cd5800ff49f1b4f72f84570a56ada2469948565fdca9ddb435cccd',
  );
});

test('a webhook that is signed with the secret in the dialect’s own way has that signature in place of ours', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  await anEnd('wavespeed', receiver.url);
  await expect.poll(() => receiver.received, POLL).toHaveLength(1);
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  const [message] = receiver.received;
  if (!message) throw new Error('one has come');
  expect(header(message, 'webhook-signature')).toMatch(/^v3,[0-9a-f]{64}$/);
  expect(isV3(secret, message)).toBe(true);
  expect(header(message, 'webhook-event')).toBe('request.cancelled');
});

test('a webhook that is signed by ed25519 is verified with the published keys, though its caller never asked for v1a', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  expect(await owned.engine.webhookSecrets.allKeys()).toEqual([]);
  const id = await anEnd('fal', receiver.url);
  await expect.poll(() => receiver.received, POLL).toHaveLength(1);
  const [message] = receiver.received;
  if (!message) throw new Error('one has come');
  const keys = await owned.engine.webhookSecrets.allKeys();
  expect(keys).toEqual(await owned.engine.webhookSecrets.keys(owned.callerId));
  expect(falAccepts(keys, message)).toBe(true);
  expect(falAccepts(keys, message, Buffer.from(`${message.body} `))).toBe(false);
  expect(message.headers).toMatchObject({ 'x-fal-webhook-request-id': id, 'x-fal-webhook-user-id': owned.callerId });
  // Beside ours, which stays as its caller chose it.
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  expect(isStandard(secret, message)).toBe(true);
  expect(header(message, 'webhook-signature')).toMatch(/^v1,[^ ]+$/);
  expect(await owned.engine.webhookSecrets.preferences(owned.callerId)).toEqual({ signatures: ['v1'] });
});

test('first sends of one caller by two dispatchers at once are signed by one pair', async () => {
  await using other = await owned.sibling();
  await using receiver = await aReceiver();
  await Promise.all(Array.from({ length: 20 }, () => anEnd('fal', receiver.url)));
  for (const { startDispatcher } of [owned, other]) startDispatcher();
  await expect.poll(() => receiver.received, POLL).toHaveLength(20);
  const keys = await owned.engine.webhookSecrets.allKeys();
  expect(keys).toHaveLength(1);
  expect(receiver.received.map((message) => falAccepts(keys, message))).toEqual(Array.from({ length: 20 }, () => true));
});

test('a client that chose the standard format gets the standard signature alone', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  await anEnd('wavespeed', receiver.url, { format: 'standard' });
  await anEnd('fal', receiver.url, { format: 'standard' });
  await expect.poll(() => receiver.received, POLL).toHaveLength(2);
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  for (const message of receiver.received) {
    expect(isStandard(secret, message)).toBe(true);
    expect(message.headers).not.toHaveProperty('x-fal-webhook-signature');
  }
});

test.each(['broken', 'unsendable'])(
  'a dialect whose signature is %s keeps no webhook from going out in the standard way',
  async (dialect) => {
    await using receiver = await aReceiver();
    owned.startDispatcher();
    await anEnd(dialect, receiver.url);
    await expect.poll(() => receiver.received, POLL).toHaveLength(1);
    const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
    expect(receiver.received.map((message) => isStandard(secret, message))).toEqual([true]);
    expect(receiver.received[0]?.headers).not.toHaveProperty('x-signature');
    expect(owned.logged.map(({ message }) => message)).toContain('webhook not signed in its dialect');
  },
);

test('a client cannot put its own words in the place of the dialect’s proof', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  await anEnd('fal', receiver.url, { headers: { 'X-Fal-Webhook-User-Id': 'somebody else', 'x-mine': '1' } });
  await expect.poll(() => receiver.received, POLL).toHaveLength(1);
  expect(receiver.received[0]?.headers).toMatchObject({ 'x-fal-webhook-user-id': owned.callerId, 'x-mine': '1' });
});

test('every send of a message is signed anew in its dialect: of the schedule, a resend and a replay', async () => {
  await using receiver = await aReceiver((call) => (call === 1 ? 500 : 200));
  const started = new Date(Date.now() - 60_000);
  owned.startDispatcher();
  await anEnd('wavespeed', receiver.url, { schedule: [0, 1] });
  await expect.poll(() => receiver.received.length, POLL).toBe(2);
  const [{ id = '' } = {}] = await owned.sql<{ id: string }[]>`select id from deliveries`;
  const delivered = async () => (await owned.engine.deliveries.read({ id, callerId: owned.callerId }))?.delivery.state === 'DELIVERED';
  await expect.poll(delivered, POLL).toBe(true);
  await owned.engine.webhookSecrets.rotate(owned.callerId, { graceSeconds: 0 });
  await owned.engine.deliveries.resend({ id, callerId: owned.callerId });
  await expect.poll(() => receiver.received.length, POLL).toBe(3);
  await expect.poll(delivered, POLL).toBe(true);
  await owned.engine.deliveries.startReplay(owned.callerId, { since: started, states: ['DELIVERED'] });
  await expect.poll(() => receiver.received.length, POLL).toBe(4);
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  expect(receiver.received.map((message) => isV3(secret, message))).toEqual([false, false, true, true]);
  expect(receiver.received.map((message) => header(message, 'webhook-signature').slice(0, 3))).toEqual(['v3,', 'v3,', 'v3,', 'v3,']);
  expect(new Set(receiver.received.map((message) => header(message, 'webhook-id')))).toEqual(new Set([id]));
});

test('a test send is signed as those of its dialect are', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  const { callerId } = owned;
  const ask = { callerId, baseUrl: 'https://queue.example', url: receiver.url, timeoutMs: 10_000, signal: new AbortController().signal };
  await owned.engine.deliveries.test({ ...ask, dialect: 'native' });
  await owned.engine.deliveries.test({ ...ask, dialect: 'wavespeed' });
  await owned.engine.deliveries.test({ ...ask, dialect: 'wavespeed', format: 'standard' });
  const { secret } = await owned.engine.webhookSecrets.read(callerId);
  expect(receiver.received.map((message) => [isStandard(secret, message), isV3(secret, message)])).toEqual([
    [true, false],
    [false, true],
    [true, false],
  ]);
});

test('the log of a send shows that a dialect signed, and nothing of its signature', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  await anEnd('fal', receiver.url);
  await anEnd('wavespeed', receiver.url);
  const sent = () => owned.sql<{ headers: Record<string, string> }[]>`select request_headers as headers from sends`;
  await expect.poll(sent, POLL).toHaveLength(2);
  const everything = JSON.stringify([await owned.sql`select sends::text as text from sends`, owned.logged]);
  for (const message of receiver.received) {
    for (const name of ['webhook-signature', 'x-fal-webhook-signature']) {
      const signature = message.headers[name];
      if (signature !== undefined) expect(everything).not.toContain(String(signature).slice(3, 40));
    }
  }
  expect(everything).toContain('x-fal-webhook-signature');
  expect(everything).toContain('v3,…');
});

describe('while a secret is being replaced', () => {
  test('the known pair signs on, and the new one is published before it signs', async () => {
    await using receiver = await aReceiver();
    owned.startDispatcher();
    await anEnd('fal', receiver.url);
    await expect.poll(() => receiver.received, POLL).toHaveLength(1);
    const known = await owned.engine.webhookSecrets.allKeys();
    await owned.engine.webhookSecrets.rotate(owned.callerId);
    const published = await owned.engine.webhookSecrets.allKeys();
    expect(published).toHaveLength(2);
    expect(published[1]).toEqual(known[0]);
    await anEnd('fal', receiver.url);
    await expect.poll(() => receiver.received, POLL).toHaveLength(2);
    // A receiver that has not looked since.
    expect(receiver.received.map((message) => falAccepts(known, message))).toEqual([true, true]);

    await owned.setClockAhead(DAY + 1);
    await using later = await owned.sibling();
    expect(await later.engine.webhookSecrets.allKeys()).toEqual(published.slice(0, 1));
    const pair = await later.engine.webhookSecrets.pairOf(owned.callerId);
    const x = createPublicKey(pair).export({ format: 'jwk' }).x;
    expect(x).toBe(published[0]?.publicKey);
  });

  test('without grace the old pair signs no more, and is not published', async () => {
    const old = createPublicKey(await owned.engine.webhookSecrets.pairOf(owned.callerId)).export({ format: 'jwk' }).x;
    await owned.engine.webhookSecrets.rotate(owned.callerId, { graceSeconds: 0 });
    const fresh = createPublicKey(await owned.engine.webhookSecrets.pairOf(owned.callerId)).export({ format: 'jwk' }).x;
    expect(fresh).not.toBe(old);
    expect((await owned.engine.webhookSecrets.allKeys()).map(({ publicKey }) => publicKey)).toEqual([fresh]);
  });
});

test('the published keys are the newest of all callers, and no more than their bound', async () => {
  const first = (await owned.engine.webhookSecrets.pairOf(owned.callerId)) && (await owned.engine.webhookSecrets.allKeys());
  const stranger = await aCaller(owned.sql);
  await owned.engine.webhookSecrets.pairOf(stranger);
  const both = await owned.engine.webhookSecrets.allKeys();
  expect(both).toHaveLength(2);
  expect(both[1]).toEqual(first[0]);
  await owned.sql`
    insert into webhook_secrets (id, caller_id, number, sealed_secret, sealed_private_key, public_key, signs_until)
    select gen_random_uuid(), ${stranger}, 1 + number, '1.a.b', '1.a.b', 'whpk_' || encode(sha256(number::text::bytea), 'base64'), db_now() + interval '1 hour'
    from generate_series(1, ${WEBHOOK_KEYS_MAX}) as number`;
  expect(await owned.engine.webhookSecrets.allKeys()).toHaveLength(WEBHOOK_KEYS_MAX);
});

test('a caller that does not exist gets no pair', async () => {
  await expect(owned.engine.webhookSecrets.pairOf(newId(systemClock))).rejects.toThrow('There is no caller');
});

test('what a job owes for its other events is signed in its dialect, too', async () => {
  await using receiver = await aReceiver();
  owned.startDispatcher();
  await owned.engine.submit(
    aSubmission(owned.callerId, { dialect: 'wavespeed', webhookUrl: receiver.url, webhookOptions: { events: ['queued'] } }),
  );
  await expect.poll(() => receiver.received.map((message) => header(message, 'webhook-event')), POLL).toEqual(['request.queued']);
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  expect(receiver.received.map((message) => isV3(secret, message))).toEqual([true]);
});

test('a delivery from before dialects signed goes out in the standard way', async () => {
  await using receiver = await aReceiver();
  const jobId = await aJob(owned.sql, { callerId: owned.callerId, state: 'COMPLETED' });
  await owned.sql`
    insert into deliveries (id, caller_id, job_id, url, content_type, body, schedule)
    values (${newId(systemClock)}, ${owned.callerId}, ${jobId}, ${receiver.url}, 'application/json', '{}', '{0}')`;
  owned.startDispatcher();
  await expect.poll(() => receiver.received, POLL).toHaveLength(1);
  const { secret } = await owned.engine.webhookSecrets.read(owned.callerId);
  expect(receiver.received.map((message) => isStandard(secret, message))).toEqual([true]);
});

import { createPublicKey, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { GRACE_SECONDS_MAX, newId, systemClock } from '@claimcheck/core';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { newSecretKey } from './secret-box.ts';
import { aCaller } from './testing/fixtures.ts';
import { createTestClock } from './testing/test-clock.ts';
import { createTestEngine, type TestEngine } from './testing/test-engine.ts';
import { signatureHeader } from './webhook-signature.ts';

let t: TestEngine;
beforeEach(async () => {
  t = await createTestEngine();
});
afterEach(() => t[Symbol.asyncDispose]());

const DAY = 24 * 3600;
const BODY = '{"status":9}';
const ID = 'event';
/** One instant for all: the second must not change between signing and checking. */
const SECONDS = Math.floor(Date.now() / 1000);

/** What a dispatcher of `engine` would send now. */
async function signatureOf(callerId = t.callerId, { engine } = t): Promise<string> {
  const signers = (await engine.webhookSecrets.signersOf([callerId])).get(callerId) ?? [];
  return signatureHeader({ id: ID, timestampSeconds: SECONDS, body: BODY, signers });
}

/** Whether a receiver with this secret takes it. */
function accepts(secret: string, signature: string): boolean {
  try {
    new Webhook(secret).verify(BODY, { 'webhook-id': ID, 'webhook-timestamp': String(SECONDS), 'webhook-signature': signature });
    return true;
  } catch {
    return false;
  }
}

/** Whether one of the signatures is by this public key. */
function acceptsKey(publicKey: string, signature: string): boolean {
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' });
  const signed = Buffer.from(`${ID}.${SECONDS}.${BODY}`);
  const signatures = signature.split(' ').flatMap((one) => (one.startsWith('v1a,') ? [Buffer.from(one.slice(4), 'base64')] : []));
  return signatures.some((one) => verify(null, signed, key, one));
}

const schemesIn = (signature: string) => signature.split(' ').map((one) => one.split(',')[0]);

test('the secret is made on first use and stays the same, and signs what is sent', async () => {
  const { secret, previous } = await t.engine.webhookSecrets.read(t.callerId);
  expect(previous).toEqual([]);
  expect((await t.engine.webhookSecrets.read(t.callerId)).secret).toBe(secret);
  expect(accepts(secret, await signatureOf())).toBe(true);
});

test('a first send makes the secret that is told later', async () => {
  const signature = await signatureOf();
  expect(accepts((await t.engine.webhookSecrets.read(t.callerId)).secret, signature)).toBe(true);
});

test('fifty first uses at once, in two processes, end with one secret', async () => {
  await using other = await t.sibling();
  const uses = Array.from({ length: 50 }, async (_, index) => {
    const { engine } = index % 2 === 0 ? t : other;
    if (index % 5 === 0) await engine.webhookSecrets.signersOf([t.callerId]);
    return (await engine.webhookSecrets.read(t.callerId)).secret;
  });
  expect(new Set(await Promise.all(uses)).size).toBe(1);
  expect(await t.sql`select id from webhook_secrets`).toHaveLength(1);
});

test('during the grace both secrets verify, the new one first, and afterwards only the new one', async () => {
  const old = await t.engine.webhookSecrets.read(t.callerId);
  const rotated = await t.engine.webhookSecrets.rotate(t.callerId);
  expect(rotated.secret).not.toBe(old.secret);
  expect(rotated.previous).toEqual([{ createdAt: old.createdAt, signsUntil: expect.any(Date) }]);
  const [row] = await t.sql<{ grace: number }[]>`select extract(epoch from signs_until - db_now())::integer as grace from webhook_secrets
    where signs_until is not null`;
  expect(row?.grace).toBeGreaterThan(DAY - 60);
  expect(row?.grace).toBeLessThanOrEqual(DAY);
  const during = await signatureOf();
  expect([old.secret, rotated.secret].map((secret) => accepts(secret, during))).toEqual([true, true]);
  expect(accepts(rotated.secret, during.split(' ')[0] ?? '')).toBe(true);

  await t.setClockAhead(DAY + 1);
  await using later = await t.sibling();
  const after = await signatureOf(t.callerId, later);
  expect([old.secret, rotated.secret].map((secret) => accepts(secret, after))).toEqual([false, true]);
  expect((await t.engine.webhookSecrets.read(t.callerId)).previous).toEqual([]);
});

test('without grace the old secret signs no more at once', async () => {
  const old = await t.engine.webhookSecrets.read(t.callerId);
  await signatureOf();
  const rotated = await t.engine.webhookSecrets.rotate(t.callerId, { graceSeconds: 0 });
  expect(rotated.previous).toEqual([]);
  const signature = await signatureOf();
  expect([old.secret, rotated.secret].map((secret) => accepts(secret, signature))).toEqual([false, true]);
});

test('another process hears of a rotation, without waiting for what it remembers to grow old', async () => {
  // Its clock stands still: what it remembers would last for ever.
  await using dispatcher = await t.sibling({ clock: createTestClock() });
  const before = await signatureOf(t.callerId, dispatcher);
  await t.engine.webhookSecrets.rotate(t.callerId, { graceSeconds: 0 });
  await expect.poll(async () => await signatureOf(t.callerId, dispatcher), { timeout: 60_000, interval: 10 }).not.toBe(before);
});

test('a process that heard of nothing finds a change after two seconds', async () => {
  const clock = createTestClock();
  await using deaf = await t.sibling({ clock });
  const signersOf = async () => (await deaf.engine.webhookSecrets.signersOf([t.callerId])).get(t.callerId);
  // It listens for certain once it has heard of something.
  const first = await signersOf();
  await t.engine.webhookSecrets.rotate(t.callerId, { graceSeconds: 0 });
  await expect.poll(signersOf, { timeout: 60_000, interval: 10 }).not.toBe(first);

  const known = await signersOf();
  // A change that nobody is told of.
  await t.sql`delete from webhook_secrets`;
  clock.advance(1_999);
  expect(await signersOf()).toBe(known);
  clock.advance(1);
  expect(await signersOf()).not.toBe(known);
});

test('signers are remembered: a hundred sends ask the database once', async () => {
  await using dispatcher = await t.sibling({ clock: createTestClock() });
  const [first, ...others] = await Promise.all(
    Array.from({ length: 100 }, async () => (await dispatcher.engine.webhookSecrets.signersOf([t.callerId])).get(t.callerId)),
  );
  expect(first).toHaveLength(1);
  for (const signers of others) expect(signers).toBe(first);
});

test('two rotations at once make two secrets, and none is lost', async () => {
  const first = await t.engine.webhookSecrets.read(t.callerId);
  await using other = await t.sibling();
  const rotated = await Promise.all([t, other].map(({ engine }) => engine.webhookSecrets.rotate(t.callerId)));
  await using third = await t.sibling();
  const signature = await signatureOf(t.callerId, third);
  const rows = await t.sql<{ number: number; isNewest: boolean }[]>`
    select number, signs_until is null as "isNewest" from webhook_secrets order by number`;
  expect(rows).toEqual([
    { number: 1, isNewest: false },
    { number: 2, isNewest: false },
    { number: 3, isNewest: true },
  ]);
  expect(accepts(first.secret, signature)).toBe(true);
  // The slower of the two answers may already tell of the other's secret.
  for (const { secret } of rotated) expect(accepts(secret, signature)).toBe(true);
});

test('a rotation is the first use, too', async () => {
  const { secret, previous } = await t.engine.webhookSecrets.rotate(t.callerId);
  expect(previous).toEqual([]);
  expect(accepts(secret, await signatureOf())).toBe(true);
});

test('ten replaced secrets sign beside the newest; with an eleventh the oldest ends', async () => {
  const secrets = [(await t.engine.webhookSecrets.read(t.callerId)).secret];
  for (let n = 1; n <= 10; n++) secrets.push((await t.engine.webhookSecrets.rotate(t.callerId)).secret);
  const ten = await signatureOf();
  expect(secrets.map((secret) => accepts(secret, ten))).toEqual(secrets.map(() => true));
  const last = await t.engine.webhookSecrets.rotate(t.callerId);
  expect(last.previous).toHaveLength(10);
  const signature = await signatureOf();
  expect([...secrets, last.secret].map((secret) => accepts(secret, signature))).toEqual([false, ...secrets.map(() => true)]);
  // What signs no more is not kept.
  expect(await t.sql`select id from webhook_secrets`).toHaveLength(11);
});

test.each([-1, 0.5, GRACE_SECONDS_MAX + 1, Number.NaN])(
  'a grace of %d seconds is refused, and nothing is rotated',
  async (graceSeconds) => {
    const { secret } = await t.engine.webhookSecrets.read(t.callerId);
    await expect(t.engine.webhookSecrets.rotate(t.callerId, { graceSeconds })).rejects.toThrow(RangeError);
    expect((await t.engine.webhookSecrets.read(t.callerId)).secret).toBe(secret);
  },
);

test('the longest grace is a week', async () => {
  await t.engine.webhookSecrets.read(t.callerId);
  const { previous } = await t.engine.webhookSecrets.rotate(t.callerId, { graceSeconds: GRACE_SECONDS_MAX });
  expect(previous).toHaveLength(1);
  await t.setClockAhead(7 * DAY - 60);
  expect((await t.engine.webhookSecrets.read(t.callerId)).previous).toHaveLength(1);
});

test('each caller has its own secret and keys, and a rotation of one leaves the other alone', async () => {
  const strangerId = await aCaller(t.sql);
  for (const callerId of [t.callerId, strangerId]) await t.engine.webhookSecrets.prefer(callerId, { signatures: ['v1', 'v1a'] });
  const [own, foreign] = await Promise.all([t.callerId, strangerId].map((callerId) => t.engine.webhookSecrets.read(callerId)));
  expect(own?.secret).not.toBe(foreign?.secret);
  expect(own?.publicKey).not.toBe(foreign?.publicKey);
  await t.engine.webhookSecrets.rotate(t.callerId);
  expect(await t.engine.webhookSecrets.read(strangerId)).toEqual(foreign);
  const signature = await signatureOf(strangerId);
  expect(accepts(foreign?.secret ?? '', signature)).toBe(true);
  expect(accepts(own?.secret ?? '', signature)).toBe(false);
  const [key] = (await t.engine.webhookSecrets.keys(t.callerId)) ?? [];
  expect(acceptsKey(key?.publicKey ?? '', signature)).toBe(false);
});

test('many callers are signed for at once, known and new ones, and nobody invented', async () => {
  const callerIds = await Promise.all(Array.from({ length: 300 }, () => aCaller(t.sql)));
  const { secret } = await t.engine.webhookSecrets.read(callerIds[0] ?? '');
  const unknown = newId(systemClock);
  const signers = await t.engine.webhookSecrets.signersOf([...callerIds, unknown, ...callerIds]);
  expect([...signers.keys()].toSorted()).toEqual(callerIds.toSorted());
  expect(accepts(secret, await signatureOf(callerIds[0]))).toBe(true);
  expect(await t.sql`select id from webhook_secrets`).toHaveLength(300);
});

test('ed25519 signs from when the caller turns it on until it is turned off', async () => {
  expect(await t.engine.webhookSecrets.preferences(t.callerId)).toEqual({ signatures: ['v1'] });
  expect(schemesIn(await signatureOf())).toEqual(['v1']);
  expect(await t.engine.webhookSecrets.keys(t.callerId)).toEqual([]);
  expect(await t.engine.webhookSecrets.read(t.callerId)).not.toHaveProperty('publicKey');

  expect(await t.engine.webhookSecrets.prefer(t.callerId, { signatures: ['v1', 'v1a'] })).toEqual({ signatures: ['v1', 'v1a'] });
  const [key, ...others] = (await t.engine.webhookSecrets.keys(t.callerId)) ?? [];
  expect(others).toEqual([]);
  const signature = await signatureOf();
  expect(schemesIn(signature)).toEqual(['v1', 'v1a']);
  expect(acceptsKey(key?.publicKey ?? '', signature)).toBe(true);
  const { publicKey } = await t.engine.webhookSecrets.read(t.callerId);
  expect(Buffer.from(publicKey?.replace('whpk_', '') ?? '', 'base64').toString('base64url')).toBe(key?.publicKey);

  expect(await t.engine.webhookSecrets.prefer(t.callerId, {})).toEqual({ signatures: ['v1', 'v1a'] });
  await t.engine.webhookSecrets.prefer(t.callerId, { signatures: ['v1'] });
  expect(schemesIn(await signatureOf())).toEqual(['v1']);
});

test('the ed25519 pair is replaced with the secret, and both sign during the grace', async () => {
  await t.engine.webhookSecrets.prefer(t.callerId, { signatures: ['v1', 'v1a'] });
  const [old] = (await t.engine.webhookSecrets.keys(t.callerId)) ?? [];
  await t.engine.webhookSecrets.rotate(t.callerId);
  const keys = (await t.engine.webhookSecrets.keys(t.callerId)) ?? [];
  expect(keys).toHaveLength(2);
  expect(keys[1]).toEqual(old);
  const signature = await signatureOf();
  expect(schemesIn(signature)).toEqual(['v1', 'v1a', 'v1', 'v1a']);
  for (const { publicKey } of keys) expect(acceptsKey(publicKey, signature)).toBe(true);

  await t.setClockAhead(DAY + 1);
  expect(await t.engine.webhookSecrets.keys(t.callerId)).toEqual([keys[0]]);
});

test('two processes that turn ed25519 on at once publish one key', async () => {
  await using other = await t.sibling();
  await Promise.all([t, other].map(({ engine }) => engine.webhookSecrets.prefer(t.callerId, { signatures: ['v1', 'v1a'] })));
  const keys = (await t.engine.webhookSecrets.keys(t.callerId)) ?? [];
  expect(keys).toHaveLength(1);
  for (const { engine } of [t, other]) {
    const { publicKey } = await engine.webhookSecrets.read(t.callerId);
    expect(Buffer.from(publicKey?.replace('whpk_', '') ?? '', 'base64').toString('base64url')).toBe(keys[0]?.publicKey);
  }
});

test('a caller that does not exist has no keys and no secret', async () => {
  const unknown = newId(systemClock);
  expect(await t.engine.webhookSecrets.keys(unknown)).toBeUndefined();
  await expect(t.engine.webhookSecrets.read(unknown)).rejects.toThrow(`There is no caller ${unknown}`);
  await expect(t.engine.webhookSecrets.rotate(unknown)).rejects.toThrow(`There is no caller ${unknown}`);
  expect(await t.engine.webhookSecrets.signersOf([unknown])).toEqual(new Map());
});

test('neither the database nor the log holds a secret in any form', async () => {
  await t.engine.webhookSecrets.prefer(t.callerId, { signatures: ['v1', 'v1a'] });
  const first = await t.engine.webhookSecrets.read(t.callerId);
  const second = await t.engine.webhookSecrets.rotate(t.callerId);
  await signatureOf();
  const [dump] = await t.sql<{ text: string }[]>`select string_agg(webhook_secrets::text, ' ') as text from webhook_secrets`;
  const stored = dump?.text ?? '';
  // Bytes of what is encoded there, too.
  const decoded = Array.from(stored.matchAll(/1\.[0-9a-f]{16}\.([\w-]+)/g), ([, text = '']) =>
    Buffer.from(text, 'base64url').toString('hex'),
  );
  expect(decoded).toHaveLength(4);
  const seen = [stored, ...decoded, inspect(t.logged, { depth: null })].join(' ');
  for (const { secret } of [first, second]) {
    const bytes = Buffer.from(secret.slice('whsec_'.length), 'base64');
    for (const text of [secret.slice(6, 18), bytes.toString('hex').slice(0, 16), Buffer.from(secret).toString('hex').slice(12, 36)]) {
      expect(seen).not.toContain(text);
    }
  }
  // The search would find one that is there.
  expect(seen).toContain(first.publicKey);
});

test('a key that was put in front encrypts what is new, and the old one still decrypts', async () => {
  const [older, newer] = [newSecretKey(), newSecretKey()];
  await using before = await t.sibling({ secretKeys: older });
  const old = await before.engine.webhookSecrets.read(t.callerId);
  await using changing = await t.sibling({ secretKeys: `${newer},${older}` });
  expect((await changing.engine.webhookSecrets.read(t.callerId)).secret).toBe(old.secret);
  const rotated = await changing.engine.webhookSecrets.rotate(t.callerId);
  const both = await signatureOf(t.callerId, changing);
  expect([old.secret, rotated.secret].map((secret) => accepts(secret, both))).toEqual([true, true]);

  // The old key was taken away too early: its secret signs no more, the newest does.
  await using after = await t.sibling({ secretKeys: newer });
  const signature = await signatureOf(t.callerId, after);
  expect([old.secret, rotated.secret].map((secret) => accepts(secret, signature))).toEqual([false, true]);
});

test('with another key nothing is signed and nothing told, other callers go on, and a rotation mends it', async () => {
  await using wrong = await t.sibling({ secretKeys: newSecretKey() });
  const strangerId = await aCaller(t.sql);
  await t.engine.webhookSecrets.read(t.callerId);
  expect([...(await wrong.engine.webhookSecrets.signersOf([t.callerId, strangerId])).keys()]).toEqual([strangerId]);
  await expect(wrong.engine.webhookSecrets.read(t.callerId)).rejects.toThrow(
    /encrypted with the key [0-9a-f]{16}, which is not in SECRET_KEY/,
  );
  const { secret } = await wrong.engine.webhookSecrets.rotate(t.callerId);
  expect(accepts(secret, await signatureOf(t.callerId, wrong))).toBe(true);
});

test('a secret that is copied to another caller does not open', async () => {
  const strangerId = await aCaller(t.sql);
  await t.engine.webhookSecrets.read(t.callerId);
  await t.engine.webhookSecrets.read(strangerId);
  await t.sql`
    update webhook_secrets set sealed_secret = (select sealed_secret from webhook_secrets where caller_id = ${t.callerId})
    where caller_id = ${strangerId}`;
  await expect(t.engine.webhookSecrets.read(strangerId)).rejects.toThrow('was moved from where it was stored');
});

test('the newest secret and its order are kept by the database', async () => {
  await t.engine.webhookSecrets.read(t.callerId);
  const second = t.sql`insert into webhook_secrets (id, caller_id, number, sealed_secret) values (${newId(systemClock)}, ${t.callerId}, 2, '1.a.b')`;
  await expect(second).rejects.toThrow('webhook_secrets_one_newest');
});

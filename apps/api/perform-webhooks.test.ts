import { createPublicKey, type JsonWebKey, verify } from 'node:crypto';
import { newId, systemClock } from '@claimcheck/core';
import { signatureHeader } from '@claimcheck/engine';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { JSON_BYTES_MAX } from './bodies.ts';
import { performPublic } from './perform-webhooks.ts';
import { jsonBody, jsonOf, ORIGIN, startTestService, type TestService } from './testing/service.ts';

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ worker: false });
});
afterAll(() => service[Symbol.asyncDispose]());

/** Each test has a caller of its own. */
async function aClient(caller = newId(systemClock)) {
  const key = await service.newKey(caller);
  const call = async (path: string, init: RequestInit = {}) => {
    const response = await service.request(path, { ...init, headers: { ...init.headers, 'x-api-key': key } });
    return { status: response.status, body: await jsonOf(response), headers: response.headers };
  };
  return { call, callerId: (await service.engine.keys.verify(key)) ?? '' };
}

const SECRET = '/v2/webhooks/secret';
const ROTATE = '/v2/webhooks/secret/rotate';
const SETTINGS = '/v2/webhooks/settings';
const BODY = '{"id":"1"}';
const SECONDS = Math.floor(Date.now() / 1000);

async function signatureFor(callerId: string): Promise<string> {
  const signers = (await service.engine.webhookSecrets.signersOf([callerId])).get(callerId) ?? [];
  return signatureHeader({ id: 'event', timestampSeconds: SECONDS, body: BODY, signers });
}

function accepts(secret: unknown, signature: string): boolean {
  try {
    new Webhook(String(secret)).verify(BODY, {
      'webhook-id': 'event',
      'webhook-timestamp': String(SECONDS),
      'webhook-signature': signature,
    });
    return true;
  } catch {
    return false;
  }
}

test('the secret that is told verifies what is sent, and no store may keep the answer', async () => {
  const { call, callerId } = await aClient();
  const { status, body, headers } = await call(SECRET);
  expect(status).toBe(200);
  expect(body).toEqual({
    secret: expect.stringMatching(/^whsec_[\w+/]{43}=$/),
    created_at: expect.stringMatching(/^\d{4}-.*Z$/),
    previous: [],
    jwks_url: `${ORIGIN}/v2/webhooks/keys/${callerId}`,
  });
  expect(headers.get('cache-control')).toBe('no-store');
  expect(accepts(body.secret, await signatureFor(callerId))).toBe(true);
  expect((await call(SECRET)).body).toEqual(body);
});

test.each([
  ['no body', { method: 'POST' }, true],
  ['an empty body that claims to be JSON', { method: 'POST', headers: { 'content-type': 'application/json' } }, true],
  ['an empty object', jsonBody({}), true],
  ['a grace of an hour', jsonBody({ grace_seconds: 3_600 }), true],
  ['no grace', jsonBody({ grace_seconds: 0 }), false],
])('a rotation with %s makes a new secret', async (_what, init, oldSigns) => {
  const { call, callerId } = await aClient();
  const before = (await call(SECRET)).body;
  const { status, body } = await call(ROTATE, init);
  expect(status).toBe(200);
  expect(body.previous).toEqual(oldSigns ? [{ created_at: before.created_at, signs_until: expect.any(String) }] : []);
  const signature = await signatureFor(callerId);
  expect([before.secret, body.secret].map((secret) => accepts(secret, signature))).toEqual([oldSigns, true]);
  expect((await call(SECRET)).body).toEqual(body);
});

test.each([
  [jsonBody({ grace_seconds: 604_801 }), 400, 'invalid_parameters'],
  [jsonBody('{"grace_seconds":'), 400, 'invalid_json'],
  [{ method: 'POST', headers: { 'content-type': 'text/plain' }, body: '{}' }, 415, 'unsupported_media_type'],
  [jsonBody(' '.repeat(JSON_BYTES_MAX + 1)), 413, 'payload_too_large'],
])('a rotation that cannot be understood says why and rotates nothing (%#)', async (init, wantedStatus, code) => {
  const { call } = await aClient();
  const before = (await call(SECRET)).body;
  const { status, body } = await call(ROTATE, init);
  expect([status, body.code]).toEqual([wantedStatus, code]);
  if (code === 'invalid_parameters') {
    expect(body.errors).toEqual([{ pointer: '/grace_seconds', message: expect.stringContaining('from 0 to 604800') }]);
  }
  expect((await call(SECRET)).body).toEqual(before);
});

test('what ed25519 has signed is verified with nothing but the published keys, over a rotation', async () => {
  const { call, callerId } = await aClient();
  expect((await call(SETTINGS)).body).toEqual({ signatures: ['v1'], format: null, schedule: null, events: null, headers: null });
  const put = { ...jsonBody({ signatures: ['v1', 'v1a'] }), method: 'PUT' };
  expect(await call(SETTINGS, put)).toMatchObject({ status: 200, body: { signatures: ['v1', 'v1a'] } });
  const before = await signatureFor(callerId);
  const { body } = await call(ROTATE, { method: 'POST' });
  expect(body.public_key).toMatch(/^whpk_/);

  // Without a key of ours, as a receiver.
  const published = await service.app.request(String(body.jwks_url));
  expect(published.status).toBe(200);
  expect(published.headers.get('cache-control')).toBe('public, max-age=60');
  const { keys } = (await published.json()) as { keys: JsonWebKey[] };
  expect(keys).toHaveLength(2);
  const verifies = (jwk: JsonWebKey, signature: string, text = BODY) => {
    const parts = signature.split(' ').filter((part) => part.startsWith('v1a,'));
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    return parts.some((part) => verify(null, Buffer.from(`event.${SECONDS}.${text}`), key, Buffer.from(part.slice(4), 'base64')));
  };
  const after = await signatureFor(callerId);
  expect(keys.map((key) => [verifies(key, after), verifies(key, before), verifies(key, after, `${BODY} `)])).toEqual([
    [true, false, false],
    [true, true, false],
  ]);
});

test('callers see and change their own only', async () => {
  const [first, second] = [await aClient(), await aClient()];
  const secret = (await first.call(SECRET)).body.secret;
  expect((await second.call(SECRET)).body.secret).not.toBe(secret);
  await second.call(ROTATE, { method: 'POST' });
  await second.call(SETTINGS, { ...jsonBody({ signatures: ['v1', 'v1a'] }), method: 'PUT' });
  expect((await first.call(SECRET)).body).toMatchObject({ secret, previous: [] });
  expect((await first.call(SETTINGS)).body).toMatchObject({ signatures: ['v1'] });
  expect(accepts(secret, await signatureFor(second.callerId))).toBe(false);
});

test('two keys of one caller share its secret', async () => {
  const caller = newId(systemClock);
  const [first, second] = [await aClient(caller), await aClient(caller)];
  expect((await first.call(SECRET)).body).toEqual((await second.call(SECRET)).body);
});

test('keys of a caller that does not exist are unknown, and those of one without ed25519 are none', async () => {
  const { callerId } = await aClient();
  const keysOf = (id: string) => service.app.request(`/v2/webhooks/keys/${id}`);
  for (const id of [newId(systemClock), 'nobody', '%00']) {
    const response = await keysOf(id);
    if (id !== '%00') expect([response.status, (await jsonOf(response)).code]).toEqual([404, 'not_found']);
    else expect(response.status).toBe(400);
  }
  expect(await jsonOf(await keysOf(callerId))).toEqual({ keys: [] });
});

test('the public keys of all callers are told together, the newest first, to someone without a key', async () => {
  const [first, second] = [await aClient(), await aClient()];
  const on = { ...jsonBody({ signatures: ['v1', 'v1a'] }), method: 'PUT' };
  for (const { call } of [first, second]) await call(SETTINGS, on);
  const keysOf = async ({ callerId }: typeof first) => (await performPublic(service.engine, { kind: 'readWebhookKeys', callerId })).keys;
  const { keys } = await performPublic(service.engine, { kind: 'readAllWebhookKeys' });
  expect(keys.slice(0, 2)).toEqual([...(await keysOf(second)), ...(await keysOf(first))]);
});

test.each([
  ['GET', SECRET],
  ['POST', ROTATE],
  ['GET', SETTINGS],
  ['PUT', SETTINGS],
])('%s %s needs a key', async (method, path) => {
  const response = await service.app.request(path, { method });
  expect([response.status, (await jsonOf(response)).code]).toEqual([401, 'unauthorized']);
});

test('no other operation is performed for someone without a key, whatever a route says', async () => {
  await expect(performPublic(service.engine, { kind: 'readWebhookSecret' })).rejects.toThrow('not a public operation');
});

test('another method is told which there are', async () => {
  const { call } = await aClient();
  const { status, headers } = await call(SECRET, { method: 'DELETE' });
  expect([status, headers.get('allow')]).toEqual([405, 'GET, HEAD']);
});

import { verify } from 'node:crypto';
import { inspect } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { expect, test } from 'vitest';
import {
  describePublicKey,
  newKeyPair,
  newSecret,
  parsePrivateKey,
  parsePublicKey,
  parseSecret,
  signatureHeader,
  type WebhookSigner,
} from './webhook-signature.ts';

/** The vectors that implementations of Standard Webhooks share. */
const VECTOR = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', timestampSeconds: 1_614_265_330, body: '{"test": 2432232314}' };
const VECTOR_SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const VECTOR_V1 = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=';
const VECTOR_PRIVATE = 'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==';
const VECTOR_PUBLIC = 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=';
const VECTOR_V1A = 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==';

const BODY = '{"id":"1","output":"Grüße 🐼","n":1.0}';
/** The verifiers refuse what is older than five minutes. */
const nowSeconds = () => Math.floor(Date.now() / 1000);
const signerOf = (secret: string): WebhookSigner => ({ hmac: parseSecret(secret) });

test('the shared vectors come out, by HMAC and by ed25519, newest signer first', () => {
  const hmac = parseSecret(VECTOR_SECRET);
  expect(signatureHeader({ ...VECTOR, signers: [{ hmac }] })).toBe(VECTOR_V1);
  const both = { hmac, ed25519: parsePrivateKey(VECTOR_PRIVATE) };
  expect(signatureHeader({ ...VECTOR, signers: [both] })).toBe(`${VECTOR_V1} ${VECTOR_V1A}`);
  const newer = signerOf(newSecret());
  expect(
    signatureHeader({ ...VECTOR, signers: [newer, both] })
      .split(' ')
      .slice(1),
  ).toEqual([VECTOR_V1, VECTOR_V1A]);
});

test('text and bytes are signed alike', () => {
  const signers = [{ hmac: parseSecret(newSecret()), ed25519: parsePrivateKey(newKeyPair().privateKey) }];
  const message = { id: 'a', timestampSeconds: 1, signers };
  expect(signatureHeader({ ...message, body: Buffer.from(BODY) })).toBe(signatureHeader({ ...message, body: BODY }));
});

test.each([
  ['standardwebhooks', Webhook],
  ['svix', SvixWebhook],
] as const)('%s accepts our signature, and nothing that differs from what was signed', (_name, Verifier) => {
  const secret = newSecret();
  const seconds = nowSeconds();
  const signature = signatureHeader({ id: 'event-1', timestampSeconds: seconds, body: BODY, signers: [signerOf(secret)] });
  const verifier = new Verifier(secret);
  const check = (body: string, id = 'event-1', timestamp = seconds, by = verifier) =>
    by.verify(body, { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signature });
  expect(() => check(BODY)).not.toThrow();
  expect(() => check(BODY.replace('1.0', '1'))).toThrow('No matching signature');
  expect(() => check(BODY, 'event-2')).toThrow('No matching signature');
  expect(() => check(BODY, 'event-1', seconds - 1)).toThrow('No matching signature');
  expect(() => check(BODY, 'event-1', seconds, new Verifier(newSecret()))).toThrow('No matching signature');
});

test('either of two secrets verifies what both have signed', () => {
  const [newest, older, stranger] = [newSecret(), newSecret(), newSecret()];
  const signers = [newest, older].map(signerOf);
  const headers = { 'webhook-id': 'event', 'webhook-timestamp': String(nowSeconds()) };
  const signature = signatureHeader({ id: 'event', timestampSeconds: nowSeconds(), body: BODY, signers });
  const check = (secret: string) => new Webhook(secret).verify(BODY, { ...headers, 'webhook-signature': signature });
  expect(check(newest)).toBeDefined();
  expect(check(older)).toBeDefined();
  expect(() => check(stranger)).toThrow('No matching signature');
});

test('an ed25519 signature is checked with the public key alone, and by no other', () => {
  const pair = newKeyPair();
  const signers = [{ hmac: parseSecret(newSecret()), ed25519: parsePrivateKey(pair.privateKey) }];
  const header = signatureHeader({ id: 'event', timestampSeconds: 7, body: BODY, signers });
  const signature = Buffer.from(header.split(' v1a,')[1] ?? '', 'base64');
  const check = (body: string, publicKey: string) => verify(null, Buffer.from(`event.7.${body}`), parsePublicKey(publicKey), signature);
  expect(check(BODY, pair.publicKey)).toBe(true);
  expect(check(`${BODY} `, pair.publicKey)).toBe(false);
  expect(check(BODY, newKeyPair().publicKey)).toBe(false);
});

test('a public key is described as a JSON Web Key, under its thumbprint', () => {
  // RFC 8037, appendix A: the key, and its thumbprint.
  const publicKey = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo';
  const text = `whpk_${Buffer.from(publicKey, 'base64url').toString('base64')}`;
  expect(describePublicKey(text)).toEqual({ id: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k', publicKey });
  expect(parsePublicKey(text).export({ format: 'jwk' })).toEqual({ crv: 'Ed25519', kty: 'OKP', x: publicKey });
});

test('new secrets and pairs have the form of the specification, and no two are equal', () => {
  expect(newSecret()).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(newSecret()).not.toBe(newSecret());
  const pair = newKeyPair();
  expect(pair.privateKey).toMatch(/^whsk_[A-Za-z0-9+/]{86}==$/);
  expect(pair.publicKey).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/);
  expect(newKeyPair().publicKey).not.toBe(pair.publicKey);
});

test.each([
  ['', parseSecret],
  ['MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', parseSecret],
  ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS*', parseSecret],
  [`whsec_${Buffer.alloc(23).toString('base64')}`, parseSecret],
  [`whsec_${Buffer.alloc(65).toString('base64')}`, parseSecret],
  [VECTOR_PUBLIC, parseSecret],
  [VECTOR_PUBLIC, parsePrivateKey],
  [VECTOR_PRIVATE.replace('aSKJp4', 'aaaaaa').replace('RqSKJp4', 'Rqaaaa4'), parsePrivateKey],
  [VECTOR_PRIVATE, parsePublicKey],
  [VECTOR_PUBLIC.slice(0, -6), parsePublicKey],
] as const)('%j is not taken for a key, and the refusal does not repeat it', (text, parse) => {
  const refusal = (() => {
    try {
      parse(text);
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  expect(refusal).toBeInstanceOf(Error);
  if (text !== '') expect(inspect(refusal)).not.toContain(text.slice(6, 16));
});

test('secrets of 24 and of 64 bytes are taken, with or without padding', () => {
  for (const bytes of [24, 32, 64]) expect(parseSecret(`whsec_${Buffer.alloc(bytes, 1).toString('base64')}`).symmetricKeySize).toBe(bytes);
  expect(parseSecret(newSecret().replace('=', '')).symmetricKeySize).toBe(32);
});

test('what cannot be signed unambiguously is refused', () => {
  const signers = [signerOf(newSecret())];
  expect(() => signatureHeader({ id: 'a.1', timestampSeconds: 1, body: '', signers })).toThrow('full stop');
  expect(() => signatureHeader({ id: 'a', timestampSeconds: 1.5, body: '', signers })).toThrow('whole number');
  expect(() => signatureHeader({ id: 'a', timestampSeconds: 1, body: '', signers: [] })).toThrow('without a secret');
});

test('a signer that is printed or logged shows nothing of its keys', () => {
  const signer = { hmac: parseSecret(VECTOR_SECRET), ed25519: parsePrivateKey(VECTOR_PRIVATE) };
  const shown = inspect(signer, { depth: null, showHidden: true }) + JSON.stringify(signer);
  const secrets = [VECTOR_SECRET, VECTOR_PRIVATE].map((text) => Buffer.from(text.slice(text.indexOf('_') + 1), 'base64'));
  for (const bytes of secrets) {
    for (const encoding of ['hex', 'base64', 'latin1'] as const) expect(shown).not.toContain(bytes.subarray(0, 9).toString(encoding));
    expect(shown).not.toContain(`${bytes[0]},${bytes[1]},${bytes[2]}`);
  }
});

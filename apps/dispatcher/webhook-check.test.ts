import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { keyOf, problemWith, type ReceivedWebhook } from './webhook-check.ts';

/** As published with Standard Webhooks. */
const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const SENT_AT_MS = 1_614_265_330_000;
const VECTOR: ReceivedWebhook = {
  headers: {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  },
  body: Buffer.from('{"test": 2432232314}'),
};
const KEY = keyOf(SECRET) ?? Buffer.alloc(0);

/** The published example with some headers replaced. */
function vectorWith(headers: ReceivedWebhook['headers']): ReceivedWebhook {
  return { ...VECTOR, headers: { ...VECTOR.headers, ...headers } };
}

test('nothing is wrong with the published example at the time it was sent', () => {
  expect(problemWith(VECTOR, KEY, SENT_AT_MS)).toBeUndefined();
});

test.each([-300, 300])('a timestamp %i seconds off passes', (seconds) => {
  expect(problemWith(VECTOR, KEY, SENT_AT_MS + seconds * 1000)).toBeUndefined();
});

test.each([
  [301, 'timestamp 301 seconds old, though the signature is right'],
  [-301, 'timestamp 301 seconds ahead, though the signature is right'],
])('a timestamp that is %i seconds old is named with its distance', (seconds, problem) => {
  expect(problemWith(VECTOR, KEY, SENT_AT_MS + seconds * 1000)).toBe(problem);
});

test('a timestamp that is no number never passes, even when it was signed', () => {
  const signature = createHmac('sha256', KEY).update('msg_p5jXN8AQM9LWM0D4loKWxJek.soon.').update(VECTOR.body).digest('base64');
  const webhook = vectorWith({ 'webhook-timestamp': 'soon', 'webhook-signature': `v1,${signature}` });
  expect(problemWith(webhook, KEY, SENT_AT_MS)).toBeDefined();
});

test('missing headers are all named', () => {
  const webhook = vectorWith({ 'webhook-id': undefined, 'webhook-signature': '' });
  expect(problemWith(webhook, KEY, SENT_AT_MS)).toBe('headers missing: webhook-id, webhook-signature');
});

const WRONG = /^wrong signature/;

test.each<[string, ReceivedWebhook]>([
  ['a changed byte', { ...VECTOR, body: Buffer.from('{"test": 2432232315}') }],
  ['another id', vectorWith({ 'webhook-id': 'msg_2' })],
  ['another timestamp', vectorWith({ 'webhook-timestamp': '1614265331' })],
  ['the signature under another version', vectorWith({ 'webhook-signature': 'v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=' })],
])('%s is a wrong signature', (_case, webhook) => {
  expect(problemWith(webhook, KEY, SENT_AT_MS)).toMatch(WRONG);
});

test('another secret is a wrong signature', () => {
  expect(problemWith(VECTOR, Buffer.alloc(32, 1), SENT_AT_MS)).toMatch(WRONG);
});

test('one right signature among others is enough', () => {
  const webhook = vectorWith({ 'webhook-signature': `v1,AAAA v1a,AAAA ${VECTOR.headers['webhook-signature']} v9,AAAA` });
  expect(problemWith(webhook, KEY, SENT_AT_MS)).toBeUndefined();
});

test.each([24, 32, 64])('a secret of %i bytes is one', (bytes) => {
  expect(keyOf(`whsec_${Buffer.alloc(bytes, 7).toString('base64')}`)).toEqual(Buffer.alloc(bytes, 7));
});

test.each([
  ['without its prefix', SECRET.replace('whsec_', '')],
  ['of 23 bytes', `whsec_${Buffer.alloc(23).toString('base64')}`],
  ['of 65 bytes', `whsec_${Buffer.alloc(65).toString('base64')}`],
  ['with another character', `${SECRET.slice(0, -1)}!`],
  ['that is empty', 'whsec_'],
])('a secret %s is none', (_case, secret) => {
  expect(keyOf(secret)).toBeUndefined();
});

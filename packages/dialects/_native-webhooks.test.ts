import { AppError } from '@claimcheck/core';
import { expect, test } from 'vitest';
import native from './native.ts';
import { aRequest, BASE_URL, bodyOf, routeOf } from './testing/fixtures.ts';

const CALLER_ID = '019b7602-7c00-7000-8000-00000000c001';
const SECRET = {
  callerId: CALLER_ID,
  secret: 'whsec_c2VjcmV0',
  createdAt: new Date('2026-01-02T10:00:00.000Z'),
  previous: [{ createdAt: new Date('2026-01-01T10:00:00.000Z'), signsUntil: new Date('2026-01-03T10:00:00.000Z') }],
};

const rotate = routeOf(native, 'POST /v2/webhooks/secret/rotate');
const change = routeOf(native, 'PUT /v2/webhooks/settings');

/** What decoding refuses with. */
function refusalOf(decode: () => unknown): AppError {
  try {
    decode();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('It was not refused.');
}

test.each(['GET /v2/webhooks/secret', 'POST /v2/webhooks/secret/rotate'])('%s tells the secret, and how long older ones sign', (line) => {
  const { encode } = routeOf(native, line);
  expect(bodyOf(encode(SECRET, aRequest()))).toEqual({
    secret: 'whsec_c2VjcmV0',
    created_at: '2026-01-02T10:00:00.000Z',
    previous: [{ created_at: '2026-01-01T10:00:00.000Z', signs_until: '2026-01-03T10:00:00.000Z' }],
    jwks_url: `${BASE_URL}/v2/webhooks/keys/${CALLER_ID}`,
  });
  expect(bodyOf(encode({ ...SECRET, publicKey: 'whpk_cHVibGlj' }, aRequest()))).toMatchObject({ public_key: 'whpk_cHVibGlj' });
});

test.each([
  [undefined, {}],
  ['{}', {}],
  ['{"grace_seconds":0}', { graceSeconds: 0 }],
  ['{"grace_seconds":604800}', { graceSeconds: 604_800 }],
] as const)('a rotation with the body %j is understood', (body, options) => {
  expect(rotate.decode(aRequest(body === undefined ? {} : { body }))).toEqual({ kind: 'rotateWebhookSecret', ...options });
});

test.each([
  ['{"grace_seconds":-1}', '/grace_seconds'],
  ['{"grace_seconds":604801}', '/grace_seconds'],
  ['{"grace_seconds":1.5}', '/grace_seconds'],
  ['{"grace_seconds":"60"}', '/grace_seconds'],
  ['{"grace_seconds":null}', '/grace_seconds'],
  ['{"grace":60}', '/grace'],
  ['[]', ''],
])('a rotation with the body %s is refused at %j', (body, pointer) => {
  const { code, problems } = refusalOf(() => rotate.decode(aRequest({ body })));
  expect(code).toBe('invalid_parameters');
  expect(problems.map((problem) => problem.pointer)).toEqual([pointer]);
});

test.each([
  ['{}', { options: {} }],
  ['{"signatures":["v1"]}', { signatures: ['v1'], options: {} }],
  ['{"signatures":["v1","v1a"]}', { signatures: ['v1', 'v1a'], options: {} }],
  ['{"signatures":["v1a","v1"]}', { signatures: ['v1', 'v1a'], options: {} }],
  [
    '{"format":"standard","schedule":[0,60],"events":["started"]}',
    { options: { format: 'standard', schedule: [0, 60], events: ['started'] } },
  ],
  ['{"format":null,"schedule":"0,5"}', { options: { format: null, schedule: [0, 5] } }],
])('settings %s are understood', (body, changes) => {
  expect(change.decode(aRequest({ body }))).toEqual({ kind: 'changeWebhookPreferences', changes });
});

test.each([
  ['{"signatures":[]}', ['/signatures']],
  ['{"signatures":["v1a"]}', ['/signatures']],
  ['{"signatures":["v1","v1"]}', ['/signatures']],
  ['{"signatures":["v1","v2"]}', ['/signatures']],
  ['{"signatures":"v1"}', ['/signatures']],
  ['{"signatures":null}', ['/signatures']],
  ['{"signature":["v1"],"a/b":1}', ['/signature', '/a~1b']],
  ['{"signatures":[],"format":"xml","schedule":"never","events":["completed"]}', ['/signatures', '/format', '/schedule', '/events']],
  ['"v1"', ['']],
])('settings %s are refused at %j', (body, pointers) => {
  const { code, problems } = refusalOf(() => change.decode(aRequest({ body })));
  expect(code).toBe('invalid_parameters');
  expect(problems.map(({ pointer }) => pointer)).toEqual(pointers);
});

test('what is set is told as it is sent', () => {
  for (const line of ['GET /v2/webhooks/settings', 'PUT /v2/webhooks/settings']) {
    expect(bodyOf(routeOf(native, line).encode({ signatures: ['v1', 'v1a'], options: { schedule: [0] } }, aRequest()))).toEqual({
      signatures: ['v1', 'v1a'],
      format: null,
      schedule: [0],
      events: null,
      headers: null,
    });
  }
});

test('public keys are a set of JSON Web Keys that anyone may keep for a minute', () => {
  const { decode, encode } = routeOf(native, 'GET /v2/webhooks/keys/:id');
  expect(decode(aRequest({ params: { id: CALLER_ID } }))).toEqual({ kind: 'readWebhookKeys', callerId: CALLER_ID });
  const answer = encode({ keys: [{ id: 'thumbprint', publicKey: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }] }, aRequest());
  expect(answer.headers).toEqual({ 'cache-control': 'public, max-age=60' });
  expect(bodyOf(answer)).toEqual({
    keys: [{ kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo', kid: 'thumbprint', use: 'sig', alg: 'EdDSA' }],
  });
});

/** The native routes about what signs a caller's webhooks: its secret, its public keys, and its preferences. */
import {
  type Answer,
  AppError,
  type DialectRoute,
  GRACE_SECONDS_MAX,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonPointer,
  on,
  type Problem,
  readWebhookOptions,
  SIGNATURE_SCHEMES,
  type SignatureScheme,
  type WebhookPreferenceChanges,
  type WebhookPreferences,
  type WebhookSecret,
  type WireRequest,
} from '@claimcheck/core';
import { pathParameter } from './_native-requests.ts';

/** Receivers may keep the public keys for this long. Short, because a key that was replaced without grace must be noticed. */
const KEYS_SECONDS = 60;

const SECRET_PATH = '/v2/webhooks/secret';
const KEYS_PATH = '/v2/webhooks/keys';
const SETTINGS_PATH = '/v2/webhooks/settings';

export const webhookRoutes: readonly DialectRoute[] = [
  on('readWebhookSecret', {
    method: 'GET',
    path: SECRET_PATH,
    body: 'none',
    decode: () => ({ kind: 'readWebhookSecret' }),
    encode: secretAnswer,
  }),
  on('rotateWebhookSecret', {
    method: 'POST',
    path: `${SECRET_PATH}/rotate`,
    body: 'optional json',
    decode: (request) => ({ kind: 'rotateWebhookSecret', ...graceFrom(request) }),
    encode: secretAnswer,
  }),
  on('readWebhookKeys', {
    method: 'GET',
    path: `${KEYS_PATH}/:id`,
    body: 'none',
    decode: (request) => ({ kind: 'readWebhookKeys', callerId: pathParameter(request, 'id') }),
    // RFC 7517, and RFC 8037 for the curve.
    encode: ({ keys }) => ({
      status: 200,
      headers: { 'cache-control': `public, max-age=${KEYS_SECONDS}` },
      body: {
        kind: 'json',
        value: { keys: keys.map(({ id, publicKey }) => ({ kty: 'OKP', crv: 'Ed25519', x: publicKey, kid: id, use: 'sig', alg: 'EdDSA' })) },
      },
    }),
  }),
  on('readWebhookPreferences', {
    method: 'GET',
    path: SETTINGS_PATH,
    body: 'none',
    decode: () => ({ kind: 'readWebhookPreferences' }),
    encode: preferencesAnswer,
  }),
  on('changeWebhookPreferences', {
    method: 'PUT',
    path: SETTINGS_PATH,
    body: 'json',
    decode: (request) => ({ kind: 'changeWebhookPreferences', changes: changesFrom(request) }),
    encode: preferencesAnswer,
  }),
];

function secretAnswer({ callerId, secret, createdAt, previous, publicKey }: WebhookSecret, { baseUrl }: WireRequest): Answer {
  return json({
    secret,
    created_at: createdAt.toISOString(),
    previous: previous.map((old) => ({ created_at: old.createdAt.toISOString(), signs_until: old.signsUntil.toISOString() })),
    ...(publicKey !== undefined && { public_key: publicKey }),
    jwks_url: `${baseUrl}${KEYS_PATH}/${callerId}`,
  });
}

function preferencesAnswer({ signatures, options }: WebhookPreferences): Answer {
  const { format = null, schedule = null, events = null, headers } = options;
  // Set once, shown never: their values may be keys of the receiver.
  const shown = headers ? Object.fromEntries(Object.keys(headers).map((name) => [name, '…'])) : null;
  return json({ signatures, format, schedule, events, headers: shown });
}

function graceFrom(request: WireRequest): { readonly graceSeconds?: number } {
  if (!request.body) return {};
  const { grace_seconds: graceSeconds } = membersIn(request, ['grace_seconds']);
  if (graceSeconds === undefined) return {};
  if (typeof graceSeconds === 'number' && Number.isInteger(graceSeconds) && graceSeconds >= 0 && graceSeconds <= GRACE_SECONDS_MAX)
    return { graceSeconds };
  throw refusal([
    { pointer: '/grace_seconds', message: `must be a whole number of seconds from 0 to ${GRACE_SECONDS_MAX}, which is seven days` },
  ]);
}

const OPTIONS = ['format', 'schedule', 'events', 'headers'] as const;

/** Members that are not named stay as they are. Everything that is wrong is reported at once. */
function changesFrom(request: WireRequest): WebhookPreferenceChanges {
  const given = membersIn(request, ['signatures', ...OPTIONS]);
  const problems: Problem[] = [];
  const signatures = given.signatures === undefined ? undefined : readSignatures(given.signatures, problems);
  const read = collecting(problems, () => readWebhookOptions(given, (option) => `/${option}`));
  if (problems.length > 0) throw refusal(problems);
  const reset = Object.fromEntries(OPTIONS.filter((option) => given[option] === null).map((option) => [option, null]));
  return { ...(signatures && { signatures }), options: { ...read, ...reset } };
}

/** What `read` returns; where it refuses, its problems join the others. */
function collecting<Value>(problems: Problem[], read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    problems.push(...error.problems);
    return undefined;
  }
}

function readSignatures(value: JsonValue, problems: Problem[]): readonly SignatureScheme[] | undefined {
  const schemes = SIGNATURE_SCHEMES.filter((scheme) => Array.isArray(value) && value.includes(scheme));
  // Nothing else in it, nothing twice, and v1 at least: a webhook is never sent without a signature that every receiver can check.
  if (Array.isArray(value) && value.length === schemes.length && schemes.includes('v1')) return schemes;
  problems.push({ pointer: '/signatures', message: 'must be ["v1"] or ["v1", "v1a"]' });
  return undefined;
}

/** The body's members. @throws AppError for a body that is no object, and for members other than `known`. */
function membersIn({ body }: WireRequest, known: readonly string[]): JsonObject {
  if (!body || !isJsonObject(body.value)) throw refusal([{ pointer: '', message: 'must be a JSON object' }]);
  const unknown = Object.keys(body.value).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw refusal(unknown.map((name) => ({ pointer: jsonPointer([name]), message: `is not known here; there is ${known.join(', ')}` })));
  }
  return body.value;
}

function refusal(problems: readonly Problem[]): AppError {
  const sentences = problems.map(({ pointer, message }) => `${pointer === '' ? 'The body' : pointer} ${message}.`);
  return new AppError('invalid_parameters', sentences.join(' '), { problems });
}

function json(value: unknown): Answer {
  return { status: 200, body: { kind: 'json', value } };
}

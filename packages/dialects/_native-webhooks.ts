/** The native routes about what signs a caller's webhooks: its secret, its public keys, and its preferences. */
import {
  type Answer,
  type DialectRoute,
  GRACE_SECONDS_DEFAULT,
  GRACE_SECONDS_MAX,
  on,
  SIGNATURE_SCHEMES,
  WEBHOOK_EVENTS,
  WEBHOOK_FORMATS,
  type WebhookPreferenceChanges,
  type WebhookPreferences,
  type WebhookSecret,
  type WireRequest,
  webhookOptionSchemas,
} from '@claimcheck/core';
import { z } from 'zod';
import { instantText } from './_native-answer-schemas.ts';
import { pathParameter } from './_native-requests.ts';

/** Receivers may keep the public keys for this long. Short, because a key that was replaced without grace must be noticed. */
const KEYS_SECONDS = 60;

const SECRET_PATH = '/v2/webhooks/secret';
const KEYS_PATH = '/v2/webhooks/keys';
const SETTINGS_PATH = '/v2/webhooks/settings';

const GRACE_ERROR = { error: `must be a whole number of seconds from 0 to ${GRACE_SECONDS_MAX}, which is seven days` };
const rotationMembers = z.strictObject({
  grace_seconds: z
    .int(GRACE_ERROR)
    .min(0, GRACE_ERROR)
    .max(GRACE_SECONDS_MAX, GRACE_ERROR)
    .optional()
    .meta({ description: `How long the secret before signs on; ${GRACE_SECONDS_DEFAULT} unless given.` }),
});

const SIGNATURES_ERROR = { error: 'must be ["v1"] or ["v1", "v1a"]' };
const { format, schedule, events, headers } = webhookOptionSchemas;

/** What is not named stays as it is; null returns an option to what holds without it. */
const settingsMembers = z.strictObject({
  signatures: z
    .array(z.enum(SIGNATURE_SCHEMES, SIGNATURES_ERROR), SIGNATURES_ERROR)
    // Nothing twice, and v1 at least: a webhook is never sent without a signature that every receiver can check.
    .refine((given) => given.includes('v1') && new Set(given).size === given.length, SIGNATURES_ERROR)
    .transform((given) => SIGNATURE_SCHEMES.filter((scheme) => given.includes(scheme)))
    .optional(),
  format: format.nullish(),
  schedule: schedule
    .nullish()
    .meta({ description: 'Seconds to wait before each send, as a list or with commas, or a preset: standard, fast, short.' }),
  events: events.nullish().meta({ description: 'What is told besides the end.' }),
  headers: headers.nullish().meta({ description: 'Sent along; their values are never shown again.' }),
});

const secretSchema = z
  .object({
    secret: z.string(),
    created_at: instantText(),
    previous: z.array(z.object({ created_at: instantText(), signs_until: instantText() })),
    public_key: z.string().optional(),
    jwks_url: z.url(),
  })
  .meta({ id: 'WebhookSecret' });

const keysSchema = z
  .object({
    keys: z.array(
      z.object({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string(),
        kid: z.string(),
        use: z.literal('sig'),
        alg: z.literal('EdDSA'),
      }),
    ),
  })
  .meta({ id: 'WebhookKeys', description: 'A set of JSON Web Keys (RFC 7517, RFC 8037).' });

const settingsSchema = z
  .object({
    signatures: z.array(z.enum(SIGNATURE_SCHEMES)),
    format: z.enum(WEBHOOK_FORMATS).nullable(),
    schedule: z.array(z.int()).nullable(),
    events: z.array(z.enum(WEBHOOK_EVENTS)).nullable(),
    headers: z.record(z.string(), z.string()).nullable(),
  })
  .meta({ id: 'WebhookSettings' });

const SECRET = { 200: { description: 'The secret that signs.', schema: secretSchema } };
const SETTINGS = { 200: { description: 'What then holds.', schema: settingsSchema } };

export const webhookRoutes: readonly DialectRoute[] = [
  on('readWebhookSecret', {
    method: 'GET',
    path: SECRET_PATH,
    body: 'none',
    summary: "Tells the secret that signs the caller's webhooks.",
    answers: SECRET,
    decode: () => ({ kind: 'readWebhookSecret' }),
    encode: secretAnswer,
  }),
  on('rotateWebhookSecret', {
    method: 'POST',
    path: `${SECRET_PATH}/rotate`,
    body: 'optional json',
    summary: "Makes a new secret for the caller's webhooks.",
    members: rotationMembers,
    answers: SECRET,
    decode: (_request, { members }) => {
      const graceSeconds = members?.grace_seconds;
      return { kind: 'rotateWebhookSecret', ...(graceSeconds !== undefined && { graceSeconds }) };
    },
    encode: secretAnswer,
  }),
  on('readWebhookKeys', {
    method: 'GET',
    path: `${KEYS_PATH}/:id`,
    body: 'none',
    summary: 'Tells the public keys of a caller; needs no key.',
    answers: { 200: { description: 'The keys.', schema: keysSchema } },
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
    summary: 'Tells what the caller has chosen for its webhooks.',
    answers: SETTINGS,
    decode: () => ({ kind: 'readWebhookPreferences' }),
    encode: preferencesAnswer,
  }),
  on('changeWebhookPreferences', {
    method: 'PUT',
    path: SETTINGS_PATH,
    body: 'json',
    summary: 'Changes what is named of the choices for webhooks.',
    members: settingsMembers,
    answers: SETTINGS,
    decode: (_request, { members }) => ({ kind: 'changeWebhookPreferences', changes: changesFrom(members) }),
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

function changesFrom({ signatures, ...given }: z.output<typeof settingsMembers>): WebhookPreferenceChanges {
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { ...(signatures && { signatures }), options };
}

function json(value: unknown): Answer {
  return { status: 200, body: { kind: 'json', value } };
}

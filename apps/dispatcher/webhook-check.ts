/** Whether a webhook is genuine, as a receiver finds out (Standard Webhooks 1.0.0), with words for what is wrong. */
import { createHmac, timingSafeEqual } from 'node:crypto';

export interface ReceivedWebhook {
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** As it came, byte for byte. */
  readonly body: Buffer;
}

const HEADERS = ['webhook-id', 'webhook-timestamp', 'webhook-signature'] as const;
/** How far a timestamp may be from now, before or after. */
const TOLERANCE_SECONDS = 300;
const SECRET = /^whsec_([A-Za-z0-9+/]+={0,2})$/;
/** The spec's bounds. Below the lower one a secret could be guessed; an empty one would let anybody sign. */
const SECRET_BYTES = { min: 24, max: 64 } as const;

/** The key in a `whsec_…`; undefined for a text that cannot be a secret. */
export function keyOf(secret: string): Buffer | undefined {
  const key = Buffer.from(SECRET.exec(secret)?.[1] ?? '', 'base64');
  return key.length >= SECRET_BYTES.min && key.length <= SECRET_BYTES.max ? key : undefined;
}

/** Says what is wrong with a webhook; undefined when it was signed with the key within the last five minutes. */
export function problemWith({ headers, body }: ReceivedWebhook, key: Buffer, nowMs: number): string | undefined {
  const missing = HEADERS.filter((name) => !headers[name]);
  if (missing.length > 0) return `headers missing: ${missing.join(', ')}`;
  const [id, timestamp, signatures] = HEADERS.map((name) => String(headers[name]));
  const expected = Buffer.from(`v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`);
  const isSigned = signatures?.split(' ').some((signature) => {
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!isSigned) return 'wrong signature: made with another secret, or something was changed on the way';
  const ageSeconds = Math.round(nowMs / 1000 - Number(timestamp));
  // Asked this way round, what is no number is refused as well.
  if (Math.abs(ageSeconds) <= TOLERANCE_SECONDS) return undefined;
  return `timestamp ${Math.abs(ageSeconds)} seconds ${ageSeconds > 0 ? 'old' : 'ahead'}, though the signature is right`;
}

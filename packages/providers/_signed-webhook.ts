/** Webhooks that vendors sign by the Standard Webhooks scheme: HMAC-SHA256 over `id.timestamp.body` with a secret `whsec_<base64>`. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Callback, Clock } from '@claimcheck/core';

/** Older ones may be replays, later ones have a broken clock behind them. */
const TOLERANCE_SECONDS = 300;

/** True for a webhook that says it was sent within the last, or next, five minutes. Proves nothing without its signature. */
export function isFresh({ header }: Callback, clock: Clock, name = 'webhook-timestamp'): boolean {
  const timestamp = header(name) ?? '';
  return /^\d{1,12}$/.test(timestamp) && Math.abs(clock.now() / 1000 - Number(timestamp)) <= TOLERANCE_SECONDS;
}

/** True when one of the signatures is of exactly these bytes, id and timestamp. There are several while a secret is replaced. */
export function isSigned({ header, body }: Callback, secret: string): boolean {
  const id = header('webhook-id');
  const timestamp = header('webhook-timestamp');
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  // With an empty key anyone could sign.
  if (!id || !timestamp || key.length === 0) return false;
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
  return (header('webhook-signature') ?? '').split(' ').some((entry) => {
    const given = Buffer.from(/^v1,([A-Za-z0-9+/]{43}=)$/.exec(entry)?.[1] ?? '', 'base64');
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

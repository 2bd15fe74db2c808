/**
 * WaveSpeed's signatures on webhooks (section 9 of the protocol sheet). They look like Standard Webhooks and are not: the key is the text
 * behind `whsec_` and not what it decodes to, the digest is in hexadecimal, and the version is `v3`.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Callback } from '@claimcheck/core';

const PATTERN = /^v3,([0-9a-f]{64})$/;

/** True when there is one signature that could be of WaveSpeed: a cheap look before anything is fetched to verify it. */
export function looksSigned({ header }: Callback): boolean {
  return PATTERN.test(header('webhook-signature') ?? '') && Boolean(header('webhook-id'));
}

/** True when exactly these bytes, id and timestamp were signed with the secret. There is one signature, not a list of them. */
export function isSignedWith({ header, body }: Callback, secret: string): boolean {
  const key = secret.replace(/^whsec_/, '');
  const given = Buffer.from(PATTERN.exec(header('webhook-signature') ?? '')?.[1] ?? '', 'hex');
  // With an empty key anyone could sign.
  if (key === '') return false;
  const signed = createHmac('sha256', key)
    .update(`${header('webhook-id')}.${header('webhook-timestamp')}.`)
    .update(body)
    .digest();
  return given.length === signed.length && timingSafeEqual(given, signed);
}

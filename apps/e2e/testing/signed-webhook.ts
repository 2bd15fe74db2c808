/** Webhooks as the service would sign them, made by Node's crypto alone so that what checks them is compared with a second opinion. */
import { createHmac, randomBytes } from 'node:crypto';
import { systemClock } from '@claimcheck/core';

export interface SignedWebhook {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Signing {
  readonly secret: string;
  readonly body: string;
  readonly id?: string;
  /** Unix seconds; now unless given. */
  readonly timestamp?: number;
}

export function signWebhook({ secret, body, id = 'msg_1', timestamp = nowSeconds() }: Signing): SignedWebhook {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': `v1,${signature}` };
  return { headers, body };
}

export function newSecret(): string {
  return `whsec_${randomBytes(32).toString('base64')}`;
}

export function nowSeconds(): number {
  return Math.floor(systemClock.now() / 1000);
}

/** The same webhook with some of its headers replaced, or removed where they are undefined. */
export function withHeaders(webhook: SignedWebhook, changes: Readonly<Record<string, string | undefined>>): SignedWebhook {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries({ ...webhook.headers, ...changes })) if (value !== undefined) headers[name] = value;
  return { headers, body: webhook.body };
}

/** What a caller sees of the signatures on its webhooks (Standard Webhooks 1.0.0): the secret, the public keys, and which schemes are on. */
import type { WebhookOptions } from './job.ts';

/** `v1` is HMAC-SHA256 with a shared secret, `v1a` is ed25519, whose public key anyone may have. */
export const SIGNATURE_SCHEMES = ['v1', 'v1a'] as const;
export type SignatureScheme = (typeof SIGNATURE_SCHEMES)[number];

/** Seconds for which a secret goes on signing after it was replaced, unless the caller says otherwise: a day to bring out the new one. */
export const GRACE_SECONDS_DEFAULT = 24 * 3600;
/** A week; 0 is allowed too, and ends the old secret at once. */
export const GRACE_SECONDS_MAX = 7 * 24 * 3600;

/** The secret that signs a caller's webhooks, with those that it replaced and that still sign beside it. */
export interface WebhookSecret {
  readonly callerId: string;
  /** `whsec_` and base64. */
  readonly secret: string;
  readonly createdAt: Date;
  /** Newest first. */
  readonly previous: readonly { readonly createdAt: Date; readonly signsUntil: Date }[];
  /** `whpk_` and base64; present while `v1a` is on. */
  readonly publicKey?: string;
}

/** Public keys of all callers that are told at once. Receivers that know no better try every one of them. */
export const WEBHOOK_KEYS_MAX = 500;

/** A public ed25519 key that a signature may have been made with. */
export interface WebhookKey {
  /** Thumbprint of the key (RFC 7638), so that it names this key and no other. */
  readonly id: string;
  /** The 32 bytes of the key, in base64url. */
  readonly publicKey: string;
}

export interface SignaturePreferences {
  /** Every webhook of the caller carries a signature of each; `v1` is always among them. */
  readonly signatures: readonly SignatureScheme[];
}

/** What a caller has chosen for its webhooks. */
export interface WebhookPreferences extends SignaturePreferences {
  /** For requests that are made with the same API key and say nothing themselves. */
  readonly options: WebhookOptions;
}

/** What is given changes, the rest stays; null returns an option to what holds without it. */
export interface WebhookPreferenceChanges extends Partial<SignaturePreferences> {
  readonly options?: { readonly [Option in keyof WebhookOptions]: WebhookOptions[Option] | null };
}

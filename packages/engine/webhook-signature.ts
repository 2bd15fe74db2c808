/**
 * Signatures of webhooks (Standard Webhooks 1.0.0): `v1` is HMAC-SHA256, `v1a` ed25519, both over `id.timestamp.body` with the body's
 * exact bytes. Keys are KeyObjects from the moment they are read: printed or logged by mistake, those show nothing.
 */
import { createHash, createHmac, createPrivateKey, createPublicKey, createSecretKey, type KeyObject, randomBytes, sign } from 'node:crypto';

/** What one secret signs with. */
export interface WebhookSigner {
  readonly hmac: KeyObject;
  /** Present while the caller wants `v1a`. */
  readonly ed25519?: KeyObject;
}

export interface SignedMessage {
  /** The `webhook-id`: the same for every send of an event. Must not contain a full stop, which is what parts the signed bytes. */
  readonly id: string;
  /** The `webhook-timestamp`: Unix seconds of this send. */
  readonly timestampSeconds: number;
  /** As it is sent, byte for byte; a string stands for its UTF-8. */
  readonly body: Buffer | string;
  /** Newest first; at least one. */
  readonly signers: readonly WebhookSigner[];
}

const SECRET_PREFIX = 'whsec_';
const PRIVATE_PREFIX = 'whsk_';
const PUBLIC_PREFIX = 'whpk_';
const SECRET_BYTES = 32;
const SECRET_BYTES_MIN = 24;
const SECRET_BYTES_MAX = 64;
const ED25519_BYTES = 32;
/** What PKCS #8 and SPKI put before the bytes of an ed25519 key (RFC 8410 section 10). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/**
 * The value of `webhook-signature`: each signer's `v1` and, if it has one, `v1a`, separated by spaces.
 * @throws Error for an id with a full stop, a timestamp that is no whole number, or no signers: what is not signed must not be sent.
 */
export function signatureHeader({ id, timestampSeconds, body, signers }: SignedMessage): string {
  if (id.includes('.')) throw new Error('The id of a signed message contains a full stop.');
  if (!Number.isSafeInteger(timestampSeconds)) throw new Error('The timestamp of a signed message is not a whole number of seconds.');
  if (signers.length === 0) throw new Error('A message cannot be signed without a secret.');
  const head = `${id}.${timestampSeconds}.`;
  return signers.flatMap((signer) => signaturesBy(signer, head, body)).join(' ');
}

function signaturesBy({ hmac, ed25519 }: WebhookSigner, head: string, body: Buffer | string): readonly string[] {
  const v1 = `v1,${createHmac('sha256', hmac).update(head).update(body).digest('base64')}`;
  if (!ed25519) return [v1];
  // Unlike HMAC, ed25519 reads the message twice, so it wants it in one piece.
  const message = Buffer.concat([Buffer.from(head), typeof body === 'string' ? Buffer.from(body) : body]);
  return [v1, `v1a,${sign(null, message, ed25519).toString('base64')}`];
}

/** A fresh secret of 256 random bits, as `whsec_…`. */
export function newSecret(): string {
  return SECRET_PREFIX + randomBytes(SECRET_BYTES).toString('base64');
}

/** A fresh ed25519 pair, as `whsk_…` and `whpk_…`. */
export function newKeyPair(): { readonly privateKey: string; readonly publicKey: string } {
  const seed = randomBytes(ED25519_BYTES);
  const publicBytes = publicBytesOf(privateKeyFrom(seed));
  return { privateKey: PRIVATE_PREFIX + Buffer.concat([seed, publicBytes]).toString('base64'), publicKey: formatPublicKey(publicBytes) };
}

/** The key in a `whsec_…` of 24 to 64 bytes. @throws Error that does not repeat the text. */
export function parseSecret(text: string): KeyObject {
  const bytes = bytesAfter(SECRET_PREFIX, text);
  if (!bytes || bytes.length < SECRET_BYTES_MIN || bytes.length > SECRET_BYTES_MAX) {
    throw new Error(`A webhook secret must be ${SECRET_PREFIX} and the base64 of ${SECRET_BYTES_MIN} to ${SECRET_BYTES_MAX} bytes.`);
  }
  return createSecretKey(bytes);
}

/** The text that {@link parseSecret} has read. It is secret: hand it to nobody but what signs. */
export function formatSecret(key: KeyObject): string {
  return SECRET_PREFIX + key.export().toString('base64');
}

/** The key in a `whsk_…`: the private half, then the public one. @throws Error that does not repeat the text, also when they do not fit. */
export function parsePrivateKey(text: string): KeyObject {
  const bytes = bytesAfter(PRIVATE_PREFIX, text);
  if (bytes?.length === 2 * ED25519_BYTES) {
    const key = privateKeyFrom(bytes.subarray(0, ED25519_BYTES));
    if (publicBytesOf(key).equals(bytes.subarray(ED25519_BYTES))) return key;
  }
  throw new Error(`A private webhook key must be ${PRIVATE_PREFIX} and the base64 of an ed25519 pair.`);
}

/** The key in a `whpk_…`. @throws Error. */
export function parsePublicKey(text: string): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_HEAD, publicBytesIn(text)]), format: 'der', type: 'spki' });
}

/** The 32 bytes in a `whpk_…`, in base64url as JSON Web Keys have them, with the key's thumbprint (RFC 7638). @throws Error. */
export function describePublicKey(text: string): { readonly id: string; readonly publicKey: string } {
  const publicKey = publicBytesIn(text).toString('base64url');
  // The members that RFC 8037 section 2 names, in the order of their names.
  const members = JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x: publicKey });
  return { id: createHash('sha256').update(members).digest('base64url'), publicKey };
}

function publicBytesIn(text: string): Buffer {
  const bytes = bytesAfter(PUBLIC_PREFIX, text);
  if (bytes?.length !== ED25519_BYTES) throw new Error(`A public webhook key must be ${PUBLIC_PREFIX} and the base64 of 32 bytes.`);
  return bytes;
}

function formatPublicKey(bytes: Buffer): string {
  return PUBLIC_PREFIX + bytes.toString('base64');
}

function privateKeyFrom(seed: Buffer): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' });
}

function publicBytesOf(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(SPKI_HEAD.length);
}

/** Node skips what is not base64; such a text was mistyped, and must not become another secret. */
function bytesAfter(prefix: string, text: string): Buffer | undefined {
  if (!text.startsWith(prefix)) return undefined;
  const encoded = text.slice(prefix.length);
  const bytes = Buffer.from(encoded, 'base64');
  return bytes.toString('base64').replace(/=+$/, '') === encoded.replace(/=+$/, '') ? bytes : undefined;
}

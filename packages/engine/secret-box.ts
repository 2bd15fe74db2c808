/**
 * Keeps secrets encrypted at rest, by AES-256-GCM. A sealed text is `1.<id of the key>.<base64url of nonce, tag and ciphertext>`. The id
 * says which key opens it, so that keys can be changed one after the other, and a missing key is told from a damaged text.
 */
import { createCipheriv, createDecipheriv, createHash, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

export interface SecretBox {
  /** Encrypts with the first key. `place` names where the sealed text is kept; it opens there only. */
  seal(secret: string, place: string): string;
  /** What was sealed. @throws SecretBoxError when no key fits, or the text is damaged or from another place; never garbage. */
  open(sealed: string, place: string): string;
}

/** A sealed secret cannot be opened. The message says what to do and names keys by their ids only. */
export class SecretBoxError extends Error {
  override readonly name = 'SecretBoxError';
}

const KEY_BYTES = 32;
/** 96 bits is what GCM is made for. Random ones do up to 2^32 secrets per key. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION = '1';

/** A box with these keys: the first encrypts, all decrypt. None at all makes a box that can do neither, for processes that have no need. */
export function openSecretBox(keys: readonly KeyObject[]): SecretBox {
  const [newest] = keys;
  const byId = new Map(keys.map((key) => [keyIdOf(key), key]));
  return {
    seal(secret, place) {
      if (!newest) throw new SecretBoxError('SECRET_KEY is not set, so no secret can be encrypted.');
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', newest, nonce, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(place));
      const ciphertext = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()]);
      return [VERSION, keyIdOf(newest), Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]).toString('base64url')].join('.');
    },
    open(sealed, place) {
      const [version, keyId = '', encoded = ''] = sealed.split('.');
      if (version !== VERSION) throw new SecretBoxError('A stored secret is not in a form that this version knows.');
      const key = byId.get(keyId);
      if (!key) throw new SecretBoxError(`A stored secret was encrypted with the key ${keyId}, which is not in SECRET_KEY: add it there.`);
      try {
        const bytes = Buffer.from(encoded, 'base64url');
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
          .setAAD(Buffer.from(place))
          .setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
        return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]).toString('utf8');
      } catch (cause) {
        throw new SecretBoxError('A stored secret is damaged, or was moved from where it was stored.', { cause });
      }
    },
  };
}

/** Names a key without telling anything about it. */
export function keyIdOf(key: KeyObject): string {
  return createHash('sha256').update('claimcheck key id').update(key.export()).digest('hex').slice(0, 16);
}

/** The id of the key that opens a sealed text. */
export function keyIdIn(sealed: string): string {
  return sealed.split('.')[1] ?? '';
}

/** The keys of SECRET_KEY: base64 of 32 bytes each, separated by commas. Undefined when it is anything else. */
export function parseSecretKeys(text: string): readonly KeyObject[] | undefined {
  const all = text.split(',').map((part) => keyFrom(part.trim()));
  const keys = all.filter((key) => key !== undefined);
  return keys.length === all.length ? keys : undefined;
}

/** A fresh key, as it is written in SECRET_KEY. */
export function newSecretKey(): string {
  return randomBytes(KEY_BYTES).toString('base64');
}

function keyFrom(encoded: string): KeyObject | undefined {
  const bytes = Buffer.from(encoded, 'base64');
  // Node skips what is not base64, and a key with a typing error would be another key.
  if (bytes.length !== KEY_BYTES || bytes.toString('base64').replace('=', '') !== encoded.replace('=', '')) return undefined;
  return createSecretKey(bytes);
}

/**
 * The secrets that sign webhooks: one per caller, made on first use, and replaced by `rotate` with a time of grace in which both sign.
 * Ed25519 pairs are made only for callers that want them, or whose receivers do, one for each secret, so that both are replaced together.
 */
import type { KeyObject } from 'node:crypto';
import {
  GRACE_SECONDS_DEFAULT,
  GRACE_SECONDS_MAX,
  newId,
  type SignaturePreferences,
  WEBHOOK_KEYS_MAX,
  type WebhookKey,
  type WebhookSecret,
} from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import type { SecretBox } from './secret-box.ts';
import {
  addKeyPairs,
  findNewestPublicKeys,
  findPublicKeys,
  findSecrets,
  insertFirstSecrets,
  type NewSecret,
  replaceSecret,
  type StoredSecret,
} from './storage/webhook-secrets.ts';
import { findWebhookSettings, type StoredWebhookSettings, saveWebhookSettings } from './storage/webhook-settings.ts';
import { describePublicKey, newKeyPair, newSecret, parsePrivateKey, parseSecret, type WebhookSigner } from './webhook-signature.ts';

export interface WebhookSecrets {
  /** The caller's secret, made when it has none. Asked again, the same one. @throws Error for a caller that does not exist. */
  read(callerId: string): Promise<WebhookSecret>;
  /**
   * Makes a new secret. The one before signs on for `graceSeconds`, 0 to GRACE_SECONDS_MAX, and so do earlier ones until their own time
   * is over; of more than ten the oldest ends at once, because a secret that got out must be replaceable at any moment. Called twice, it
   * makes two. @throws RangeError for another grace; Error for a caller that does not exist.
   */
  rotate(callerId: string, options?: { readonly graceSeconds?: number }): Promise<WebhookSecret>;
  /** Public keys that the caller's webhooks may be signed with now, newest first; undefined for a caller that does not exist. */
  keys(callerId: string): Promise<readonly WebhookKey[] | undefined>;
  /** The same of all callers, WEBHOOK_KEYS_MAX at most. */
  allKeys(): Promise<readonly WebhookKey[]>;
  /**
   * What signs the webhooks of these callers now, newest first; missing secrets are made. Remembered for two seconds, unless a change is
   * heard of before, so it may be asked for each send. A caller whose secret cannot be decrypted is not in the answer: nothing of it must
   * be sent until the operator has mended what the log tells. @throws when the database does not answer.
   */
  signersOf(callerIds: readonly string[]): Promise<ReadonlyMap<string, readonly CallerSigner[]>>;
  /**
   * The private key that signs by ed25519 for a dialect, whether or not the caller wants `v1a`; made when there is none. The caller's public
   * keys tell of it from then on. @throws Error for a caller that does not exist or whose secret cannot be decrypted.
   */
  pairOf(callerId: string): Promise<KeyObject>;
  preferences(callerId: string): Promise<SignaturePreferences>;
  /** Changes what is given and leaves the rest. Returns what then holds. */
  prefer(callerId: string, changes: Partial<SignaturePreferences>): Promise<SignaturePreferences>;
}

export interface CallerSigner extends WebhookSigner {
  /** Its ed25519 key, which `ed25519` is only while the caller wants `v1a`. */
  readonly pair?: KeyObject;
}

/** The pair with which dialects sign: the oldest that may, because receivers keep public keys for hours, and may not have seen a newer one. */
export function pairIn(signers: readonly CallerSigner[] = []): KeyObject | undefined {
  return signers.findLast(({ pair }) => pair)?.pair;
}

/** Replaced secrets of a caller that sign at the same time: each makes the header of every webhook longer. */
const PREVIOUS_MAX = 10;
/** Notifications may be lost; a rotation holds after this time at the latest. */
const REMEMBERED_MS = 2_000;
/** Some megabytes. */
const REMEMBERED_CALLERS_MAX = 10_000;

type Signers = readonly CallerSigner[] | undefined;

export function makeWebhookSecrets(
  { database: { sql }, clock, log, signals }: Pick<EngineContext, 'database' | 'clock' | 'log' | 'signals'>,
  box: SecretBox,
): WebhookSecrets {
  const sealSecret = (callerId: string): NewSecret => {
    const id = newId(clock);
    return { id, callerId, sealedSecret: box.seal(newSecret(), placeOf({ id, callerId }, 'secret')) };
  };
  const sealPair = (stored: StoredSecret) => {
    const { privateKey, publicKey } = newKeyPair();
    return { secretId: stored.id, sealedPrivateKey: box.seal(privateKey, placeOf(stored, 'private key')), publicKey };
  };

  /** The live secrets of callers, after what is missing was made. Whoever makes it first, everybody gets the same. */
  const load = async (callerIds: readonly string[]): Promise<ReadonlyMap<string, readonly StoredSecret[]>> => {
    let stored = await findSecrets(sql, callerIds);
    const without = callerIds.filter((callerId) => !stored.has(callerId));
    if (without.length > 0) {
      await insertFirstSecrets(sql, without.map(sealSecret));
      stored = await findSecrets(sql, callerIds);
    }
    // Of a pair that is in use the next one is made known before it signs.
    const withoutPair = Array.from(stored.values()).flatMap(([newest, ...older]) =>
      newest?.publicKey === null && (newest.signsV1a || older.some(({ publicKey }) => publicKey !== null)) ? [newest] : [],
    );
    if (withoutPair.length === 0) return stored;
    await addKeyPairs(sql, withoutPair.map(sealPair));
    return findSecrets(sql, callerIds);
  };

  const signerFrom = (stored: StoredSecret): CallerSigner => {
    const hmac = parseSecret(box.open(stored.sealedSecret, placeOf(stored, 'secret')));
    if (stored.sealedPrivateKey === null) return { hmac };
    const pair = parsePrivateKey(box.open(stored.sealedPrivateKey, placeOf(stored, 'private key')));
    return { hmac, pair, ...(stored.signsV1a && { ed25519: pair }) };
  };
  const signersFrom = (secrets: readonly StoredSecret[] = []): Signers => {
    const signers = secrets.map((secret) => {
      try {
        return signerFrom(secret);
      } catch (error) {
        log.error({ error, callerId: secret.callerId, secretId: secret.id }, 'a webhook secret cannot be decrypted');
        return undefined;
      }
    });
    // Without the newest, receivers could not verify; without an older one, only those who have not taken the newest yet.
    return signers[0] && signers.filter((signer) => signer !== undefined);
  };

  const loadSigners = coalesce(
    async (callerIds: readonly string[]) => {
      const stored = await load(callerIds);
      return callerIds.map((callerId) => signersFrom(stored.get(callerId)));
    },
    { keyOf: (callerId) => callerId },
  );
  const remembered = new Map<string, { readonly sinceMs: number; readonly signers: Promise<Signers> }>();
  signals.on('webhookSecrets', (changed) => {
    if (changed === 'all') remembered.clear();
    else for (const callerId of changed) remembered.delete(callerId);
  });
  const signersOfOne = (callerId: string): Promise<Signers> => {
    const known = remembered.get(callerId);
    const ageMs = known && clock.now() - known.sinceMs;
    // A clock that was set back must not make it last.
    if (known && ageMs !== undefined && ageMs >= 0 && ageMs < REMEMBERED_MS) return known.signers;
    const fresh = { sinceMs: clock.now(), signers: loadSigners(callerId) };
    remembered.delete(callerId);
    for (const oldest of remembered.keys()) {
      if (remembered.size < REMEMBERED_CALLERS_MAX) break;
      remembered.delete(oldest);
    }
    // Before the answer is there, so that a change which is heard of meanwhile makes the next one ask again.
    remembered.set(callerId, fresh);
    fresh.signers.catch(() => {
      if (remembered.get(callerId) === fresh) remembered.delete(callerId);
    });
    return fresh.signers;
  };

  const read = async (callerId: string): Promise<WebhookSecret> => {
    const [newest, ...previous] = (await load([callerId])).get(callerId) ?? [];
    if (!newest) throw unknownCaller(callerId);
    return {
      callerId,
      secret: box.open(newest.sealedSecret, placeOf(newest, 'secret')),
      createdAt: newest.createdAt,
      previous: previous.flatMap(({ createdAt, signsUntil }) => (signsUntil ? [{ createdAt, signsUntil }] : [])),
      ...(newest.signsV1a && newest.publicKey !== null && { publicKey: newest.publicKey }),
    };
  };

  return {
    read,
    async rotate(callerId, { graceSeconds = GRACE_SECONDS_DEFAULT } = {}) {
      if (!Number.isInteger(graceSeconds) || graceSeconds < 0 || graceSeconds > GRACE_SECONDS_MAX) {
        throw new RangeError(`The grace of a rotation must be 0 to ${GRACE_SECONDS_MAX} seconds.`);
      }
      const replaced = await replaceSecret({ sql }, sealSecret(callerId), { graceSeconds, previousMax: PREVIOUS_MAX });
      if (!replaced) throw unknownCaller(callerId);
      // Others hear of it; this process need not wait for that.
      remembered.delete(callerId);
      log.info({ callerId, graceSeconds }, 'webhook secret rotated');
      return read(callerId);
    },
    async keys(callerId) {
      return (await findPublicKeys(sql, callerId))?.map(describePublicKey);
    },
    allKeys: async () => (await findNewestPublicKeys(sql, WEBHOOK_KEYS_MAX)).map(describePublicKey),
    async pairOf(callerId) {
      const [newest, ...older] = (await load([callerId])).get(callerId) ?? [];
      if (!newest) throw unknownCaller(callerId);
      if ([newest, ...older].every(({ publicKey }) => publicKey === null)) await addKeyPairs(sql, [sealPair(newest)]);
      remembered.delete(callerId);
      const pair = pairIn(await signersOfOne(callerId));
      if (!pair) throw new Error(`The ed25519 key of caller ${callerId} cannot be read.`);
      return pair;
    },
    async signersOf(callerIds) {
      const found = await Promise.all(
        Array.from(new Set(callerIds), async (callerId) => [callerId, await signersOfOne(callerId)] as const),
      );
      return new Map(found.flatMap(([callerId, signers]) => (signers ? [[callerId, signers]] : [])));
    },
    preferences: async (callerId) => preferencesFrom(await findWebhookSettings(sql, callerId)),
    async prefer(callerId, { signatures }) {
      const saved = await saveWebhookSettings(sql, callerId, { ...(signatures && { signsV1a: signatures.includes('v1a') }) });
      remembered.delete(callerId);
      // The public key is there as soon as it was asked for: receivers need it before the first webhook.
      if (saved.signsV1a) await load([callerId]);
      return preferencesFrom(saved);
    },
  };
}

/** Bound into what is encrypted there: a text that is copied to another row, or into another column, does not open. */
function placeOf({ id, callerId }: { readonly id: string; readonly callerId: string }, part: 'secret' | 'private key'): string {
  return `${part} of webhook secret ${id} of caller ${callerId}`;
}

function preferencesFrom({ signsV1a }: StoredWebhookSettings): SignaturePreferences {
  return { signatures: signsV1a ? ['v1', 'v1a'] : ['v1'] };
}

function unknownCaller(callerId: string): Error {
  return new Error(`There is no caller ${callerId}.`);
}

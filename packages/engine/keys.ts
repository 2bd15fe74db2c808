/**
 * API keys: `ck_`, 43 characters for 256 random bits, and six characters of checksum, so that a mistyped key is told from a
 * revoked one without the database, and secret scanners can find leaked ones.
 */
import { createHash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { newId, systemClock, type WebhookOptions } from '@claimcheck/core';
import { coalesce } from './coalesce.ts';
import type { EngineContext } from './context.ts';
import { openDatabase } from './storage/connection.ts';
import {
  findOrCreateCaller,
  findOwners,
  hasKeys,
  insertKey,
  type KeyOwner,
  keepOnlyBootstrapKey,
  listKeys,
  revokeKey,
  type StoredKey,
  saveKeyOptions,
} from './storage/keys.ts';

export type { KeyOwner, StoredKey } from './storage/keys.ts';

const PREFIX = 'ck_';
const KEY_PATTERN = /^ck_([A-Za-z0-9_-]{43})([0-9a-z]{6})$/;
/** Caller of the bootstrap key and of keys made without a caller. */
export const DEFAULT_CALLER = 'default';

export interface Keys {
  /** Makes a key for a caller, who is created when the name is new. The text is shown this once; only its hash is kept. */
  create(key: { readonly caller: string; readonly name: string }): Promise<{ readonly id: string; readonly key: string }>;
  list(): Promise<readonly StoredKey[]>;
  /** False when there is no such live key. */
  revoke(id: string): Promise<boolean>;
  /** Makes `key` the one bootstrap key, in the stead of an earlier one. Any text; calling it again changes nothing. */
  bootstrap(key: string): Promise<void>;
  /** True when any key was ever made. */
  exist(): Promise<boolean>;
  /** The caller's id; undefined for a key that is malformed, unknown or revoked. */
  verify(key: string): Promise<string | undefined>;
  /** As `verify`, with what was chosen for the key. */
  identify(key: string): Promise<KeyOwner | undefined>;
  /** Chooses for the webhooks of requests that are made with the key and say nothing themselves. Replaces what was chosen before. */
  choose(keyId: string, options: WebhookOptions): Promise<void>;
}

export function makeKeys({ database, clock }: Pick<EngineContext, 'database' | 'clock'>): Keys {
  const find = coalesce((hashes: readonly Buffer[]) => findOwners(database.sql, hashes));
  const identify = async (key: string) => (isMistyped(key) ? undefined : find(hashOf(key)));
  const insert = async (key: string, caller: string, name: string, origin: 'created' | 'bootstrap') => {
    const callerId = await findOrCreateCaller(database, { id: newId(clock), name: caller });
    const id = newId(clock);
    await insertKey(database, { id, callerId, name, hint: key.slice(0, 7), hash: hashOf(key), origin });
    return id;
  };
  return {
    async create({ caller, name }) {
      const key = newKey();
      return { id: await insert(key, caller, name, 'created'), key };
    },
    list: () => listKeys(database),
    revoke: (id) => revokeKey(database, id),
    async bootstrap(key) {
      await insert(key, DEFAULT_CALLER, 'bootstrap', 'bootstrap');
      await keepOnlyBootstrapKey(database, hashOf(key));
    },
    exist: () => hasKeys(database),
    verify: async (key) => (await identify(key))?.callerId,
    identify,
    choose: (keyId, options) => saveKeyOptions(database.sql, keyId, options),
  };
}

/** Keys alone, for command-line tools: no queue, no signals. */
export function openKeys(databaseUrl: string): Keys & { close(): Promise<void> } {
  const database = openDatabase({ url: databaseUrl, applicationName: 'claimcheck-keys', poolSize: 1 });
  return { ...makeKeys({ database, clock: systemClock }), close: () => database.close() };
}

/** A fresh key; see the top of the file for its form. */
export function newKey(): string {
  const body = randomBytes(32).toString('base64url');
  return `${PREFIX}${body}${checksumOf(body)}`;
}

/** True for a key of our own form whose checksum is wrong. A bootstrap key is any text, and has none. */
function isMistyped(key: string): boolean {
  const match = KEY_PATTERN.exec(key);
  return match?.[1] !== undefined && checksumOf(match[1]) !== match[2];
}

/** CRC-32 in base 36, which fits into seven digits; the last six tell all single typos apart. */
function checksumOf(body: string): string {
  return crc32(body).toString(36).padStart(7, '0').slice(-6);
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

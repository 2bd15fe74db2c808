/** Callers and their API keys. Only hashes are stored. */
import type { WebhookOptions } from '@claimcheck/core';
import type { Database, SqlLike } from './connection.ts';
import { and, asc, eq, sql as expression, isNull } from './drizzle.ts';
import { apiKeys, callers } from './schema.ts';

export interface StoredKey {
  readonly id: string;
  readonly caller: string;
  readonly name: string;
  readonly hint: string;
  readonly createdAt: Date;
  readonly revokedAt: Date | null;
}

const dbNow = expression`db_now()`;

/** The owner's id, made when the name is new. Two processes may ask at once and get the same. */
export async function findOrCreateCaller(database: Database, caller: { readonly id: string; readonly name: string }): Promise<string> {
  const [row] = await database.orm(async (orm) => {
    await orm.insert(callers).values({ id: caller.id, name: caller.name, createdAt: dbNow }).onConflictDoNothing({ target: callers.name });
    return orm.select({ id: callers.id }).from(callers).where(eq(callers.name, caller.name));
  });
  if (!row) throw new Error('a caller that was just made is gone');
  return row.id;
}

export interface NewKey {
  readonly id: string;
  readonly callerId: string;
  readonly name: string;
  readonly hint: string;
  readonly hash: Buffer;
  readonly origin: 'created' | 'bootstrap';
}

/** Inserts a key; one with the same hash stays as it is. */
export async function insertKey(database: Database, key: NewKey): Promise<void> {
  await database.orm((orm) =>
    orm
      .insert(apiKeys)
      .values({ ...key, createdAt: dbNow })
      .onConflictDoNothing({ target: apiKeys.hash }),
  );
}

/** Makes `hash` the only valid bootstrap key: the others of that origin are revoked, it is not. */
export async function keepOnlyBootstrapKey(database: Database, hash: Buffer): Promise<void> {
  await database.orm((orm) =>
    orm
      .update(apiKeys)
      .set({ revokedAt: expression`case when ${apiKeys.hash} = ${hash} then null else coalesce(${apiKeys.revokedAt}, db_now()) end` })
      .where(eq(apiKeys.origin, 'bootstrap')),
  );
}

/** True when any key was ever made. */
export async function hasKeys(database: Database): Promise<boolean> {
  const rows = await database.orm((orm) => orm.select({ id: apiKeys.id }).from(apiKeys).limit(1));
  return rows.length > 0;
}

/** All keys, the oldest first. */
export async function listKeys(database: Database): Promise<readonly StoredKey[]> {
  return database.orm((orm) =>
    orm
      .select({
        id: apiKeys.id,
        caller: callers.name,
        name: apiKeys.name,
        hint: apiKeys.hint,
        createdAt: apiKeys.createdAt,
        revokedAt: apiKeys.revokedAt,
      })
      .from(apiKeys)
      .innerJoin(callers, eq(callers.id, apiKeys.callerId))
      .orderBy(asc(apiKeys.id)),
  );
}

/** Revokes a key; false when there is no such key, or it was revoked before. */
export async function revokeKey(database: Database, id: string): Promise<boolean> {
  const rows = await database.orm((orm) =>
    orm
      .update(apiKeys)
      .set({ revokedAt: dbNow })
      .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
      .returning({ id: apiKeys.id }),
  );
  return rows.length > 0;
}

/** Who a key belongs to, and what was chosen for it. */
export interface KeyOwner {
  readonly callerId: string;
  readonly keyId: string;
  /** For the webhooks of requests that are made with the key and say nothing themselves. */
  readonly webhookOptions?: WebhookOptions;
}

/** Owners of the live keys with these hashes, in the order of `hashes`. */
export async function findOwners(sql: SqlLike, hashes: readonly Buffer[]): Promise<readonly (KeyOwner | undefined)[]> {
  const rows = await sql<{ hash: string; id: string; caller_id: string; webhook_options: string | null }[]>`
    select encode(hash, 'hex') as hash, id, caller_id, webhook_options from api_keys
    where hash in (select decode(hex, 'hex') from unnest(${hashes.map((hash) => hash.toString('hex'))}::text[]) as wanted (hex))
      and revoked_at is null`;
  const byHash = new Map(rows.map((row) => [row.hash, row]));
  return hashes.map((hash) => {
    const row = byHash.get(hash.toString('hex'));
    return row && { callerId: row.caller_id, keyId: row.id, ...optionsFrom(row.webhook_options) };
  });
}

/** Sets what holds for the webhooks of requests made with the key. */
export async function saveKeyOptions(sql: SqlLike, keyId: string, options: WebhookOptions): Promise<void> {
  await sql`update api_keys set webhook_options = ${JSON.stringify(options)}::json where id = ${keyId}`;
}

/** Written by {@link saveKeyOptions} from WebhookOptions, and by nobody else. */
function optionsFrom(text: string | null): { readonly webhookOptions?: WebhookOptions } {
  return text === null ? {} : { webhookOptions: JSON.parse(text) as WebhookOptions };
}

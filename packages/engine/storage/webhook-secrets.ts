/** What signs each caller's webhooks. A caller has one newest secret, and older ones that sign beside it until their time is over. */
import type { Database, SqlLike } from './connection.ts';

/** Payload: the caller whose secrets or preferences changed. */
export const WEBHOOK_SECRETS_CHANNEL = 'claimcheck_webhook_secrets';

export interface StoredSecret {
  readonly id: string;
  readonly callerId: string;
  readonly sealedSecret: string;
  readonly sealedPrivateKey: string | null;
  readonly publicKey: string | null;
  readonly createdAt: Date;
  /** Null for the newest. */
  readonly signsUntil: Date | null;
  /** Whether its caller wants `v1a`; the same for all of a caller. */
  readonly signsV1a: boolean;
}

export interface NewSecret {
  readonly id: string;
  readonly callerId: string;
  readonly sealedSecret: string;
}

/** The secrets that sign now, by caller, newest first. A caller without any is not in it. */
export async function findSecrets(sql: SqlLike, callerIds: readonly string[]): Promise<ReadonlyMap<string, readonly StoredSecret[]>> {
  const rows = await sql<StoredSecret[]>`
    select id, caller_id as "callerId", sealed_secret as "sealedSecret", sealed_private_key as "sealedPrivateKey", public_key as "publicKey",
      webhook_secrets.created_at as "createdAt", signs_until as "signsUntil", coalesce(signs_v1a, false) as "signsV1a"
    from webhook_secrets left join webhook_settings using (caller_id)
    where caller_id = any(${callerIds}::uuid[]) and (signs_until is null or signs_until > db_now())
    order by number desc`;
  return Map.groupBy(rows, ({ callerId }) => callerId);
}

/** Gives callers their first secret. One that has any keeps it; an unknown one gets none. */
export async function insertFirstSecrets(sql: SqlLike, secrets: readonly NewSecret[]): Promise<void> {
  await sql`
    insert into webhook_secrets (id, caller_id, number, sealed_secret)
    select first.id, callers.id, 1, sealed_secret
    from unnest(
      ${secrets.map(({ id }) => id)}::uuid[], ${secrets.map(({ callerId }) => callerId)}::uuid[],
      ${secrets.map(({ sealedSecret }) => sealedSecret)}::text[]
    ) as first (id, caller_id, sealed_secret)
    -- In one order, against deadlocks between batches. A rotation under way is waited for.
    join (select id from callers where id = any(${secrets.map(({ callerId }) => callerId)}::uuid[]) order by id for no key update) as callers
      on callers.id = first.caller_id
    on conflict do nothing`;
}

/** Makes `secret` the newest; false when there is no such caller. The one before signs on for `graceSeconds`, beside `previousMax - 1` others. */
export async function replaceSecret(
  { sql }: Pick<Database, 'sql'>,
  secret: NewSecret,
  options: { readonly graceSeconds: number; readonly previousMax: number },
): Promise<boolean> {
  const { id, callerId, sealedSecret } = secret;
  return sql.begin(async (tx) => {
    // Two rotations at once make two secrets, one after the other.
    const callers = await tx`select id from callers where id = ${callerId} for no key update`;
    if (callers.length === 0) return false;
    await tx`
      update webhook_secrets set signs_until = db_now() + make_interval(secs => ${options.graceSeconds})
      where caller_id = ${callerId} and signs_until is null`;
    await tx`
      delete from webhook_secrets where caller_id = ${callerId} and id not in (
        select id from webhook_secrets where caller_id = ${callerId} and signs_until > db_now() order by number desc limit ${options.previousMax}
      ) and number < (select max(number) from webhook_secrets where caller_id = ${callerId})`;
    await tx`
      insert into webhook_secrets (id, caller_id, number, sealed_secret)
      select ${id}, ${callerId}, coalesce(max(number), 0) + 1, ${sealedSecret} from webhook_secrets where caller_id = ${callerId}`;
    await tx`select pg_notify(${WEBHOOK_SECRETS_CHANNEL}, ${callerId})`;
    return true;
  });
}

export interface NewKeyPair {
  readonly secretId: string;
  readonly sealedPrivateKey: string;
  readonly publicKey: string;
}

/** Adds pairs to secrets. One that has a pair keeps it. */
export async function addKeyPairs(sql: SqlLike, pairs: readonly NewKeyPair[]): Promise<void> {
  await sql`
    with pairs as (
      select * from unnest(
        ${pairs.map(({ secretId }) => secretId)}::uuid[], ${pairs.map(({ sealedPrivateKey }) => sealedPrivateKey)}::text[],
        ${pairs.map(({ publicKey }) => publicKey)}::text[]
      ) as pairs (secret_id, sealed_private_key, public_key)
    ), locked as materialized (
      select id from webhook_secrets where id in (select secret_id from pairs) order by id for no key update
    )
    update webhook_secrets set sealed_private_key = pairs.sealed_private_key, public_key = pairs.public_key
    from locked, pairs where webhook_secrets.id = locked.id and pairs.secret_id = locked.id and webhook_secrets.public_key is null`;
}

/** Public keys of a caller's secrets that sign now, newest first; undefined when there is no such caller. */
export async function findPublicKeys(sql: SqlLike, callerId: string): Promise<readonly string[] | undefined> {
  const [row] = await sql<{ keys: readonly string[] }[]>`
    select coalesce((
      select array_agg(public_key order by number desc) from webhook_secrets
      where caller_id = callers.id and public_key is not null and (signs_until is null or signs_until > db_now())
    ), '{}') as keys
    from callers where id = ${callerId}`;
  return row?.keys;
}

/** Public keys of all callers' secrets that sign now, those of the newest secrets first. */
export async function findNewestPublicKeys(sql: SqlLike, limit: number): Promise<readonly string[]> {
  const rows = await sql<{ publicKey: string }[]>`
    select public_key as "publicKey" from webhook_secrets
    where public_key is not null and (signs_until is null or signs_until > db_now())
    order by id desc limit ${limit}`;
  return rows.map(({ publicKey }) => publicKey);
}

/** One sealed text for each key that secrets which sign now are encrypted with. */
export async function findSealedSamples(sql: SqlLike): Promise<readonly string[]> {
  const rows = await sql<{ sealed: string }[]>`
    select min(sealed) as sealed from (
      select sealed_secret as sealed from webhook_secrets where signs_until is null or signs_until > db_now()
      union all select sealed_private_key from webhook_secrets where sealed_private_key is not null and (signs_until is null or signs_until > db_now())
    ) as every group by split_part(sealed, '.', 2)`;
  return rows.map(({ sealed }) => sealed);
}

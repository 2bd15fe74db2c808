/** What callers have chosen for their webhooks. A caller without a row has chosen nothing, and gets the defaults. */
import type { SqlLike } from './connection.ts';
import { WEBHOOK_SECRETS_CHANNEL } from './webhook-secrets.ts';

export interface StoredWebhookSettings {
  readonly signsV1a: boolean;
}

export async function findWebhookSettings(sql: SqlLike, callerId: string): Promise<StoredWebhookSettings> {
  const [row] = await sql<StoredWebhookSettings[]>`select signs_v1a as "signsV1a" from webhook_settings where caller_id = ${callerId}`;
  return row ?? { signsV1a: false };
}

/** Writes what is given; the rest stays as it is. Returns what then holds. */
export async function saveWebhookSettings(
  sql: SqlLike,
  callerId: string,
  { signsV1a = null }: { readonly signsV1a?: boolean | null },
): Promise<StoredWebhookSettings> {
  const [row] = await sql<StoredWebhookSettings[]>`
    with saved as (
      insert into webhook_settings (caller_id, signs_v1a) values (${callerId}, coalesce(${signsV1a}::boolean, false))
      on conflict (caller_id) do update set signs_v1a = coalesce(${signsV1a}::boolean, webhook_settings.signs_v1a), updated_at = db_now()
      returning caller_id, signs_v1a
    )
    select signs_v1a as "signsV1a", pg_notify(${WEBHOOK_SECRETS_CHANNEL}, caller_id::text) from saved`;
  if (!row) throw new Error('an upsert returned no row');
  return row;
}

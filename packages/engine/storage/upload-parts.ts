/** Rows of the parts in which large files come. Their bytes are assets of the upload, which go with it at the latest. */
import type { WholeAsset } from './assets.ts';
import type { SqlLike } from './connection.ts';

export interface StoredPart {
  readonly part: number;
  readonly token: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Says that a part is whole. False when its upload is whole already, or is gone or has expired meanwhile. */
export async function finishPart(sql: SqlLike, { token, bytes, sha256 }: WholeAsset): Promise<boolean> {
  const rows = await sql`
    update assets set bytes = ${bytes}, sha256 = ${sha256} from uploads
    where assets.token = ${token} and uploads.id = assets.upload_id and asset_token is null and expires_at > db_now()
    returning assets.token`;
  return rows.length > 0;
}

/** The parts of an upload that are whole, by number. */
export async function listParts(sql: SqlLike, uploadId: string): Promise<readonly StoredPart[]> {
  const rows = await sql<(Omit<StoredPart, 'bytes'> & { readonly bytes: string })[]>`
    select part, token, bytes, sha256 from assets where upload_id = ${uploadId} and part is not null and bytes is not null
    order by part`;
  return rows.map((row) => ({ ...row, bytes: Number(row.bytes) }));
}

/** Bytes of all parts of an upload that are whole, but those of one number. */
export async function sumOtherParts(sql: SqlLike, uploadId: string, part: number): Promise<number> {
  const [row] = await sql<{ bytes: number }[]>`
    select coalesce(sum(bytes), 0)::double precision as bytes from assets where upload_id = ${uploadId} and part <> ${part}`;
  return row?.bytes ?? 0;
}

/** Tokens of what came for the same number before: an older one never outlives a newer one, also when both come at once. */
export async function listReplacedParts(sql: SqlLike, token: string): Promise<readonly string[]> {
  const rows = await sql<{ token: string }[]>`
    select older.token from assets newest join assets older on older.upload_id = newest.upload_id and older.part = newest.part
    where newest.token = ${token} and older.bytes is not null and (older.created_at, older.token) < (newest.created_at, newest.token)`;
  return rows.map((row) => row.token);
}

/** Tokens of all parts of an upload, whole or not. */
export async function listPartTokens(sql: SqlLike, uploadId: string): Promise<readonly string[]> {
  const rows = await sql<{ token: string }[]>`select token from assets where upload_id = ${uploadId} and part is not null`;
  return rows.map(({ token }) => token);
}

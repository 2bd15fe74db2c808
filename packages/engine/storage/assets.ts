/** Rows of files that jobs produce and clients upload; the bytes are on disk or in a bucket. */

import type { Database, SqlLike } from './connection.ts';
import { eq, inArray } from './drizzle.ts';
import { assets } from './schema.ts';

export interface Asset {
  /** Of its bytes. Of an upload's file another one than that of its address. */
  readonly token: string;
  readonly contentType: string;
  readonly fileName: string;
  readonly bytes: number;
  /** SHA-256 of the content in hex. */
  readonly sha256: string;
}

/** What is known of a file before its last byte. */
export interface BegunAsset extends Pick<Asset, 'token' | 'contentType' | 'fileName'> {
  readonly owner: AssetOwner;
}

/** Whose file it is, and with whom it goes. */
export type AssetOwner = { readonly jobId: string } | { readonly uploadId: string; readonly part?: number };

/** False when there is no such upload any more; a job that is not there is an error. */
export async function insertAsset(sql: SqlLike, { token, owner, contentType, fileName }: BegunAsset): Promise<boolean> {
  const rows =
    'jobId' in owner
      ? await sql`
          insert into assets (token, job_id, content_type, file_name, created_at)
          values (${token}, ${owner.jobId}, ${contentType}, ${fileName}, db_now()) returning token`
      : await sql`
          -- Locked, so that it cannot go before its file is there.
          with upload as (select id from uploads where id = ${owner.uploadId} for key share)
          insert into assets (token, upload_id, part, content_type, file_name, created_at)
          select ${token}, id, ${owner.part ?? null}::integer, ${contentType}, ${fileName}, db_now() from upload returning token`;
  return rows.length > 0;
}

export type WholeAsset = Pick<Asset, 'token' | 'bytes' | 'sha256'>;

/** Says that a job's file is whole. False when its job is gone or has expired meanwhile. */
export async function finishAsset(sql: SqlLike, { token, bytes, sha256 }: WholeAsset): Promise<boolean> {
  const rows = await sql`
    update assets set bytes = ${bytes}, sha256 = ${sha256} from jobs
    where token = ${token} and jobs.id = assets.job_id and (expires_at is null or expires_at > db_now())
    returning token`;
  return rows.length > 0;
}

/** Forgets files that never became whole, or that nobody wants any more. */
export async function deleteAssets(sql: SqlLike, tokens: readonly string[]): Promise<void> {
  await sql`delete from assets where token = any(${tokens}::text[])`;
}

/** The asset of a job or the file of an upload, by the token of either, unless it is not whole or that has expired. */
export async function findAsset(sql: SqlLike, token: string): Promise<Asset | undefined> {
  const [row] = await sql<{ token: string; content_type: string; file_name: string; bytes: string; sha256: string }[]>`
    select token, content_type, file_name, bytes, sha256 from assets join jobs on jobs.id = assets.job_id
    where token = ${token} and bytes is not null and (expires_at is null or expires_at > db_now())
    union all
    select assets.token, assets.content_type, assets.file_name, bytes, sha256 from uploads join assets on assets.token = asset_token
    where uploads.token = ${token} and expires_at > db_now()`;
  return row && { token: row.token, contentType: row.content_type, fileName: row.file_name, bytes: Number(row.bytes), sha256: row.sha256 };
}

/** Tokens of all files that these jobs produced, whole or not. */
export async function listAssetTokens(database: Database, jobIds: readonly string[]): Promise<readonly string[]> {
  const rows = await database.orm((orm) =>
    orm
      .select({ token: assets.token })
      .from(assets)
      .where(jobIds.length === 1 && jobIds[0] !== undefined ? eq(assets.jobId, jobIds[0]) : inArray(assets.jobId, [...jobIds])),
  );
  return rows.map(({ token }) => token);
}

/** Tokens of all files that came for these uploads, whole or not. */
export async function listUploadedTokens(sql: SqlLike, uploadIds: readonly string[]): Promise<readonly string[]> {
  const rows = await sql<{ token: string }[]>`select token from assets where upload_id = any(${uploadIds}::uuid[])`;
  return rows.map(({ token }) => token);
}

/** Those of the tokens whose files were begun and are not whole. */
export async function listBegun(sql: SqlLike, tokens: readonly string[]): Promise<readonly string[]> {
  const rows = await sql<{ token: string }[]>`select token from assets where token = any(${tokens}::text[]) and bytes is null`;
  return rows.map(({ token }) => token);
}

/** Rows of produced files; the bytes are on disk. */
import { eq, inArray } from 'drizzle-orm';
import type { Database, SqlLike } from './connection.ts';
import { assets } from './schema.ts';

export interface Asset {
  readonly token: string;
  readonly contentType: string;
  readonly fileName: string;
  readonly bytes: number;
  /** SHA-256 of the content in hex. */
  readonly sha256: string;
}

export async function insertAsset(sql: SqlLike, asset: Asset & { readonly jobId: string }): Promise<void> {
  await sql`
    insert into assets (token, job_id, content_type, file_name, bytes, sha256, created_at)
    values (${asset.token}, ${asset.jobId}, ${asset.contentType}, ${asset.fileName}, ${asset.bytes}, ${asset.sha256}, db_now())`;
}

/** The asset, unless its job has expired. */
export async function findAsset(sql: SqlLike, token: string): Promise<Asset | undefined> {
  const [row] = await sql<{ content_type: string; file_name: string; bytes: string; sha256: string }[]>`
    select content_type, file_name, bytes, sha256 from assets join jobs on jobs.id = assets.job_id
    where token = ${token} and (expires_at is null or expires_at > db_now())`;
  return row && { token, contentType: row.content_type, fileName: row.file_name, bytes: Number(row.bytes), sha256: row.sha256 };
}

/** Tokens of all files that these jobs produced. */
export async function listAssetTokens(database: Database, jobIds: readonly string[]): Promise<readonly string[]> {
  const rows = await database.orm((orm) =>
    orm
      .select({ token: assets.token })
      .from(assets)
      .where(jobIds.length === 1 && jobIds[0] !== undefined ? eq(assets.jobId, jobIds[0]) : inArray(assets.jobId, [...jobIds])),
  );
  return rows.map(({ token }) => token);
}

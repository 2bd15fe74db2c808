/** Files that clients hand in: rows that name them. Their bytes are assets, see `assets.ts`. */
import type { Upload } from '@claimcheck/core';
import type { WholeAsset } from './assets.ts';
import type { SqlLike } from './connection.ts';

/** No id is as high: ours begin with the time. */
const BEHIND_ALL_IDS = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

export interface UploadReference {
  readonly callerId: string;
  readonly id: string;
}

export type NewUpload = Pick<Upload, 'id' | 'token' | 'fileName' | 'contentType'>;

interface UploadRow {
  readonly id: string;
  readonly token: string;
  readonly fileName: string;
  readonly contentType: string;
  readonly bytes: string | null;
  readonly sha256: string | null;
  readonly createdAt: Date;
  readonly expiresAt: Date;
}

/** Announces files, or none of them when the caller would then have more than `awaitedMax` without bytes. In their order. */
export async function insertUploads(
  sql: SqlLike,
  uploads: readonly NewUpload[],
  options: { readonly callerId: string; readonly awaitSeconds: number; readonly awaitedMax: number },
): Promise<readonly Upload[]> {
  const { callerId, awaitSeconds, awaitedMax } = options;
  const rows = await sql<UploadRow[]>`
    with awaited as (
      select count(*) as count from uploads where caller_id = ${callerId} and asset_token is null and expires_at > db_now()
    )
    insert into uploads (id, caller_id, token, file_name, content_type, created_at, expires_at)
    select id, ${callerId}, token, file_name, content_type, db_now(), db_now() + make_interval(secs => ${awaitSeconds})
    from unnest(
      ${uploads.map(({ id }) => id)}::uuid[], ${uploads.map(({ token }) => token)}::text[],
      ${uploads.map(({ fileName }) => fileName)}::text[], ${uploads.map(({ contentType }) => contentType)}::text[]
    ) as given (id, token, file_name, content_type), awaited
    where awaited.count + ${uploads.length} <= ${awaitedMax}
    returning id, token, file_name as "fileName", content_type as "contentType", null as bytes, null as sha256,
      created_at as "createdAt", expires_at as "expiresAt"`;
  const byId = new Map(rows.map((row) => [row.id, toUpload(row)]));
  return uploads.flatMap(({ id }) => byId.get(id) ?? []);
}

/** By its token, unless it has expired. */
export async function findUpload(sql: SqlLike, token: string): Promise<Upload | undefined> {
  const [row] = await sql<UploadRow[]>`
    select uploads.id, uploads.token, uploads.file_name as "fileName", coalesce(assets.content_type, uploads.content_type) as "contentType",
      bytes, sha256, uploads.created_at as "createdAt", expires_at as "expiresAt"
    from uploads left join assets on assets.token = asset_token
    where uploads.token = ${token} and expires_at > db_now()`;
  return row && toUpload(row);
}

/** One of a caller, unless it has expired. */
export async function readUpload(sql: SqlLike, { id, callerId }: UploadReference): Promise<Upload | undefined> {
  const [row] = await sql<UploadRow[]>`
    select uploads.id, uploads.token, uploads.file_name as "fileName", coalesce(assets.content_type, uploads.content_type) as "contentType",
      bytes, sha256, uploads.created_at as "createdAt", expires_at as "expiresAt"
    from uploads left join assets on assets.token = asset_token
    where uploads.id = ${id} and caller_id = ${callerId} and expires_at > db_now()`;
  return row && toUpload(row);
}

/** Those of a caller that have not expired, newest first, with lower ids than `before`. */
export async function listUploads(
  sql: SqlLike,
  { callerId, before = BEHIND_ALL_IDS, limit }: { readonly callerId: string; readonly before?: string | undefined; readonly limit: number },
): Promise<readonly Upload[]> {
  const rows = await sql<UploadRow[]>`
    select uploads.id, uploads.token, uploads.file_name as "fileName", coalesce(assets.content_type, uploads.content_type) as "contentType",
      bytes, sha256, uploads.created_at as "createdAt", expires_at as "expiresAt"
    from uploads left join assets on assets.token = asset_token
    where caller_id = ${callerId} and uploads.id < ${before} and expires_at > db_now()
    order by uploads.id desc limit ${limit}`;
  return rows.map(toUpload);
}

function toUpload({ bytes, sha256, ...row }: UploadRow): Upload {
  return { ...row, ...(bytes !== null && { bytes: Number(bytes) }), ...(sha256 !== null && { sha256 }) };
}

/** Says that a file is whole, and the one of its upload. False when the upload has one already, or is gone or has expired meanwhile. */
export async function finishUpload(
  sql: SqlLike,
  { uploadId, token, bytes, sha256, ttlSeconds }: WholeAsset & { readonly uploadId: string; readonly ttlSeconds: number },
): Promise<boolean> {
  const rows = await sql`
    with upload as (
      update uploads set asset_token = ${token}, expires_at = db_now() + make_interval(secs => ${ttlSeconds})
      where id = ${uploadId} and asset_token is null and expires_at > db_now()
      returning id
    )
    update assets set bytes = ${bytes}, sha256 = ${sha256} from upload where token = ${token} and upload_id = upload.id returning token`;
  return rows.length > 0;
}

/** Uploads that a job needs, by their tokens. */
export interface JobUploads {
  readonly jobId: string;
  /** All of them; those of other callers are passed over. */
  readonly tokens: readonly string[];
  /** Those of them that came with its request. */
  readonly brought: readonly string[];
}

/** Keeps uploads until the deadline of a job that needs them, at least. Those that its request brought go with it. */
export async function bindUploads(sql: SqlLike, { jobId, tokens, brought }: JobUploads): Promise<void> {
  await sql`
    with needed as materialized (
      select uploads.id, deadline_at from uploads join jobs on jobs.caller_id = uploads.caller_id
      where jobs.id = ${jobId} and token = any(${tokens}::text[]) and uploads.expires_at > db_now()
      -- In one order, against deadlocks between requests that need the same ones.
      order by uploads.id for no key update of uploads
    )
    update uploads
    set expires_at = greatest(expires_at, deadline_at), job_id = case when token = any(${brought}::text[]) then ${jobId} else job_id end
    from needed where uploads.id = needed.id`;
}

/** Makes a caller's uploads unreadable at once; what is left of them is purged later. Returns the ids of those that were not. */
export async function expireUploads(sql: SqlLike, callerId: string, ids: readonly string[]): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    with locked as materialized (
      select id from uploads where id = any(${ids}::uuid[]) and caller_id = ${callerId} and expires_at > db_now() order by id for no key update
    )
    update uploads set expires_at = db_now() from locked where uploads.id = locked.id returning uploads.id`;
  return rows.map(({ id }) => id);
}

/** The same for what the requests of these jobs brought. Returns the ids of all. */
export async function expireUploadsOfJobs(sql: SqlLike, jobIds: readonly string[]): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    with locked as materialized (
      select id from uploads where job_id = any(${jobIds}::uuid[]) order by id for no key update
    )
    update uploads set expires_at = least(expires_at, db_now()) from locked where uploads.id = locked.id returning uploads.id`;
  return rows.map(({ id }) => id);
}

/** Ids of uploads whose time is over, the longest expired first. */
export async function listExpiredUploads(sql: SqlLike, limit: number): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`select id from uploads where expires_at <= db_now() order by expires_at limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** Deletes expired uploads with the rows of their files. */
export async function deleteUploads(sql: SqlLike, ids: readonly string[]): Promise<void> {
  await sql`
    delete from uploads where id in (
      select id from uploads where id = any(${ids}::uuid[]) and expires_at <= db_now() order by id for update
    )`;
}

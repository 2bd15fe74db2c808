-- Files that clients hand in. Their bytes are files like those of jobs; several may be on their way for one upload, and one of them wins.

create table uploads (
  id uuid primary key,
  caller_id uuid not null references callers (id),
  -- 256 random bits in base64url: who knows it may send the bytes once, and read them.
  token text not null,
  file_name text not null,
  -- As the client said; what the bytes are stands with their file.
  content_type text not null,
  -- The file with its bytes, once they came. No reference, because the file has one to this.
  asset_token text,
  -- The job whose request brought it, and with which it goes. No reference: jobs are deleted when their uploads are gone.
  job_id uuid,
  created_at timestamptz not null default db_now(),
  expires_at timestamptz not null,
  constraint uploads_token_unique unique (token)
);
create index uploads_of_caller on uploads (caller_id, id);
create index uploads_awaited on uploads (caller_id) where asset_token is null;
create index uploads_of_job on uploads (job_id) where job_id is not null;
create index uploads_expiring on uploads (expires_at);

alter table assets alter column job_id drop not null;
alter table assets add column upload_id uuid references uploads (id) on delete cascade;
alter table assets add constraint assets_of_one_owner check (num_nonnulls(job_id, upload_id) = 1);
create index assets_of_upload on assets (upload_id) where upload_id is not null;

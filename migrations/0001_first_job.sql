-- Everything the first job needs: callers and their keys, jobs with their attempts and events, the files they
-- produce, and the webhooks they owe. Runs in one transaction, once, in numbered order; never edited after release.

-- The one clock that processes compare instants by. A function, so that a test can shift time for a whole database.
create function db_now() returns timestamptz language sql stable as $$ select now() $$;

create table callers (
  id uuid primary key,
  name text not null,
  created_at timestamptz not null default db_now(),
  constraint callers_name_unique unique (name),
  constraint callers_name_present check (name <> '')
);

create table api_keys (
  id uuid primary key,
  caller_id uuid not null references callers (id),
  name text not null,
  -- The first characters of the key: enough to recognise it in a list, useless to log in with.
  hint text not null,
  -- SHA-256 of the whole key. Keys are 256 random bits, so a slow hash would add nothing.
  hash bytea not null,
  origin text not null,
  created_at timestamptz not null default db_now(),
  revoked_at timestamptz,
  constraint api_keys_hash_unique unique (hash),
  constraint api_keys_hash_is_sha256 check (octet_length(hash) = 32),
  constraint api_keys_origin_known check (origin in ('created', 'bootstrap'))
);

create table jobs (
  id uuid primary key,
  caller_id uuid not null references callers (id),
  dialect text not null,
  model text not null,
  provider text not null,
  -- json, not jsonb: the client's numbers and key order are kept as they came.
  input json not null,
  state text not null default 'QUEUED',
  progress real not null default 0,
  -- Number of the newest attempt, and the fencing number of its owner.
  attempt integer not null default 0,
  failed_attempts integer not null default 0,
  -- Attempts whose worker vanished; a job that keeps killing workers is taken out of the queue.
  crashed_attempts integer not null default 0,
  event_count integer not null default 1,
  output json,
  failure_code text,
  failure_message text,
  webhook_url text,
  base_url text not null,
  session_id text,
  created_at timestamptz not null default db_now(),
  updated_at timestamptz not null default db_now(),
  -- Not to be claimed before this instant.
  available_at timestamptz not null default db_now(),
  -- When its doorbell was last rung; the sweep rings again what stays silent.
  rung_at timestamptz not null default db_now(),
  started_at timestamptz,
  attempt_started_at timestamptz,
  lease_until timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  constraint jobs_state_known check (state in ('QUEUED', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
  constraint jobs_progress_is_fraction check (progress between 0 and 1),
  constraint jobs_finished_iff_terminal check ((state in ('COMPLETED', 'FAILED', 'CANCELLED')) = (finished_at is not null)),
  constraint jobs_expires_iff_finished check ((finished_at is null) = (expires_at is null)),
  constraint jobs_leased_iff_processing check ((state = 'PROCESSING') = (lease_until is not null)),
  constraint jobs_output_iff_completed check ((state = 'COMPLETED') = (output is not null)),
  constraint jobs_failure_iff_unsuccessful check (
    (state in ('FAILED', 'CANCELLED')) = (failure_code is not null) and (failure_code is null) = (failure_message is null)
  )
) with (fillfactor = 80);

create index jobs_queued on jobs (provider, id) where state = 'QUEUED';
-- lease_until is deliberately not indexed: leases are renewed all the time, and an update that touches no index is cheap.
create index jobs_processing on jobs (id) where state = 'PROCESSING';
create index jobs_of_caller on jobs (caller_id, id);
create index jobs_expiring on jobs (expires_at) where expires_at is not null;

create table attempts (
  job_id uuid not null references jobs (id) on delete cascade,
  number integer not null,
  provider text not null,
  worker_id text not null,
  -- The intent: from here on the upstream may have been asked to work.
  started_at timestamptz not null default db_now(),
  -- The provider's reference to the started run; a later attempt resumes by it.
  handle json,
  finished_at timestamptz,
  outcome text,
  failure_code text,
  failure_message text,
  primary key (job_id, number),
  constraint attempts_outcome_known check (outcome in ('succeeded', 'failed', 'cancelled', 'released', 'lost')),
  constraint attempts_finished_iff_outcome check ((finished_at is null) = (outcome is null))
);

create table job_events (
  job_id uuid not null references jobs (id) on delete cascade,
  sequence integer not null,
  type text not null,
  state text not null,
  progress real not null,
  data json,
  created_at timestamptz not null default db_now(),
  primary key (job_id, sequence),
  constraint job_events_type_known check (type in ('status', 'progress', 'partial'))
);

create table assets (
  -- 256 random bits in base64url: the address is the permission.
  token text primary key,
  job_id uuid not null references jobs (id) on delete cascade,
  content_type text not null,
  file_name text not null,
  bytes bigint not null,
  sha256 text not null,
  created_at timestamptz not null default db_now()
);
create index assets_of_job on assets (job_id);

-- No reference to jobs: a delivery is owed for longer than the job's result is kept.
create table deliveries (
  id uuid primary key,
  caller_id uuid not null references callers (id),
  job_id uuid not null,
  url text not null,
  content_type text not null,
  -- Stored once, sent byte for byte on every try.
  body text not null,
  state text not null default 'PENDING',
  -- Seconds to wait before each send; its length is the number of sends.
  schedule integer[] not null,
  send_count integer not null default 0,
  -- Rises with every claim; only the newest claim may record.
  claim integer not null default 0,
  next_send_at timestamptz not null default db_now(),
  created_at timestamptz not null default db_now(),
  finished_at timestamptz,
  constraint deliveries_one_per_job_and_webhook unique (job_id, url),
  constraint deliveries_state_known check (state in ('PENDING', 'DELIVERED', 'FAILED')),
  constraint deliveries_finished_iff_ended check ((state = 'PENDING') = (finished_at is null))
);
create index deliveries_due on deliveries (next_send_at) where state = 'PENDING';
create index deliveries_ended on deliveries (finished_at) where finished_at is not null;

create table sends (
  delivery_id uuid not null references deliveries (id) on delete cascade,
  number integer not null,
  started_at timestamptz not null,
  duration_ms integer not null,
  -- HTTP status of the receiver's answer; null when there was none.
  status integer,
  -- Stable code of what went wrong; null when it was delivered.
  error_code text,
  error_message text,
  primary key (delivery_id, number)
);

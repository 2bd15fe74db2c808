-- Webhooks for more than the end of a job, a line per host, endpoints that went bad, the whole story of each send, and replays.

-- What the client asked of its webhook: format, schedule, events. Null: nothing but the ordinary.
alter table jobs add column webhook_options json;
-- The same for every request that is made with the key, unless the request says otherwise.
alter table api_keys add column webhook_options json;

alter table deliveries
  -- A test send belongs to no job.
  alter column job_id drop not null,
  -- Null once an ended job's content has to be gone; a delivery without its message cannot be sent again.
  alter column body drop not null,
  add column event text not null default 'request.completed',
  -- Number of the job's event: a receiver drops what is older than what it has seen.
  add column sequence integer not null default 0,
  add column progress real,
  -- What the client wants sent along, besides our own.
  add column headers json,
  -- Whose concurrency and circuit breaker it counts for. Total for any text, so that no URL can keep a job from ending.
  add column host text not null generated always as (coalesce(lower(substring(url from '^[^:]+:[/\\]*([^/\\?#]+)')), '')) stored,
  -- The URL without its query, which many clients change with each request.
  add column endpoint text not null generated always as (md5(regexp_replace(url, '[?#].*$', ''))) stored,
  -- It is due, but its host had no room: it stepped out of the due-index into the line of its host.
  add column waits_in_line boolean not null default false,
  -- Since when a dispatcher has it; null once it told what came of it. Found set when the claim has run out, it may or may not have been sent.
  add column claimed_at timestamptz,
  -- What the next send is made for.
  add column trigger text not null default 'auto',
  -- Where an ended delivery returns when its resend fails.
  add column falls_back_to text,
  -- Stable code of why it ended other than DELIVERED.
  add column failure_code text,
  drop constraint deliveries_one_per_job_and_webhook,
  drop constraint deliveries_state_known,
  add constraint deliveries_state_known check (state in ('PENDING', 'DELIVERED', 'FAILED', 'HELD')),
  add constraint deliveries_trigger_known check (trigger in ('auto', 'manual', 'replay', 'test')),
  add constraint deliveries_falls_back_to_ended check (falls_back_to is null or (falls_back_to in ('DELIVERED', 'FAILED', 'HELD') and state = 'PENDING')),
  add constraint deliveries_message_until_ended check (state <> 'PENDING' or body is not null);
update deliveries set failure_code = 'http_error' where state = 'FAILED';
alter table deliveries add constraint deliveries_failure_iff_undelivered check ((state in ('FAILED', 'HELD')) = (failure_code is not null));

-- One for each event, and one for the end. By digest: a URL may be longer than an index entry.
create unique index deliveries_one_per_event on deliveries (job_id, md5(url), sequence);
create unique index deliveries_one_per_end on deliveries (job_id, md5(url))
  where event in ('request.completed', 'request.failed', 'request.cancelled');

drop index deliveries_due;
create index deliveries_due on deliveries (next_send_at) where state = 'PENDING' and not waits_in_line;
create index deliveries_in_line on deliveries (caller_id, host, next_send_at) where state = 'PENDING' and waits_in_line;
create index deliveries_of_caller on deliveries (caller_id, id);
create index deliveries_with_message on deliveries (created_at) where state = 'DELIVERED' and body is not null;

alter table sends
  add column trigger text not null default 'auto',
  -- Milliseconds; null where the step was not taken, as on a connection that was used before.
  add column dns_ms real,
  add column connect_ms real,
  add column tls_ms real,
  -- From the start of the send.
  add column first_byte_ms real,
  -- The address that the name led to.
  add column address text,
  -- Without anything secret.
  add column request_headers json,
  add column response_headers json,
  -- The first 16 kB at most.
  add column response_body text,
  -- When the next one was due as decided after this one, and why then.
  add column next_send_at timestamptz,
  add column next_reason text,
  add constraint sends_trigger_known check (trigger in ('auto', 'manual', 'replay', 'test'));

-- Endpoints that have failed since they last succeeded; healthy ones have no row.
create table webhook_endpoints (
  caller_id uuid not null references callers (id),
  endpoint text not null,
  url text not null,
  failing_since timestamptz not null default db_now(),
  failures integer not null default 0,
  -- Nothing is sent by itself any more; a send that is asked for and succeeds ends it.
  disabled_at timestamptz,
  disabled_reason text,
  updated_at timestamptz not null default db_now(),
  primary key (caller_id, endpoint),
  constraint webhook_endpoints_reason_known check (disabled_reason in ('gone', 'asked', 'failing')),
  constraint webhook_endpoints_disabled_with_reason check ((disabled_at is null) = (disabled_reason is null))
);
create index webhook_endpoints_stale on webhook_endpoints (updated_at);

-- Sending a range of deliveries again. Its progress is here, so that a restart goes on where it was.
create table replays (
  id uuid primary key,
  caller_id uuid not null references callers (id),
  states text[] not null,
  -- Deliveries made in [made_since, made_before).
  made_since timestamptz not null,
  made_before timestamptz not null,
  per_second integer not null,
  -- Deliveries up to this id are done.
  position uuid not null,
  queued integer not null default 0,
  next_step_at timestamptz not null default db_now(),
  created_at timestamptz not null default db_now(),
  finished_at timestamptz,
  constraint replays_range_not_empty check (made_since < made_before),
  constraint replays_rate_positive check (per_second between 1 and 1000)
);
create index replays_unfinished on replays (next_step_at) where finished_at is null;
create index replays_of_caller on replays (caller_id, id);

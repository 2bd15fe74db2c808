-- Deadlines, priorities, scheduled starts and idempotency keys.

alter table jobs
  add column priority smallint not null default 1,
  -- Past it a job that has not ended fails with code `timeout`.
  add column deadline_at timestamptz not null default db_now() + interval '15 minutes',
  -- Attempts that had to start a run anew without knowing whether an earlier one had already done so.
  add column resubmits integer not null default 0,
  add constraint jobs_priority_known check (priority in (0, 1, 2));
alter table jobs alter column deadline_at drop default;

drop index jobs_queued;
create index jobs_queued on jobs (provider, priority, id) where state = 'QUEUED';
-- Jobs whose time has come since their doorbell was last rung: scheduled starts and retries. The database's clock decides, not the queue's.
create index jobs_scheduled on jobs (available_at) where state = 'QUEUED' and rung_at < available_at;
create index jobs_unfinished on jobs (deadline_at) where finished_at is null;

create table idempotency_keys (
  caller_id uuid not null references callers (id),
  -- SHA-256 of method, path and key.
  key_hash text not null,
  -- SHA-256 of query and body: another request under the same key is a mistake of the client.
  request_hash text not null,
  -- No reference to jobs: the key outlives the result.
  job_id uuid not null,
  queue_position integer not null,
  created_at timestamptz not null default db_now(),
  expires_at timestamptz not null,
  primary key (caller_id, key_hash)
);
create index idempotency_keys_expiring on idempotency_keys (expires_at);

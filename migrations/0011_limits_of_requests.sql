-- What a client may set for one request: how long it may wait for its first attempt, and how often it may be tried.

-- No more attempts than these, where the model allows more.
alter table jobs add column attempts_max integer;
alter table jobs add constraint jobs_attempts_max_is_positive check (attempts_max >= 1);
-- It fails unless its first attempt has begun by then.
alter table jobs add column start_by timestamptz;
-- Most jobs have none.
create index jobs_to_start_by on jobs (start_by) where start_by is not null and state = 'QUEUED';

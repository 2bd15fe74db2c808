-- Number of the newest event that tells what a run of the job printed or wrote, 0 before the first. Whoever tells more says behind which one,
-- so that a worker and a callback of its upstream, which may know the same lines, do not both tell them.
alter table jobs add column told_sequence integer not null default 0;

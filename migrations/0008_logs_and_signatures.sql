-- What clients of several wire formats are told: what runs print, and webhooks signed as their vendor would.

alter table job_events drop constraint job_events_type_known;
alter table job_events add constraint job_events_type_known check (type in ('status', 'progress', 'log', 'partial'));

-- The dialect whose signature the receiver expects; without one the service's own alone.
alter table deliveries add column dialect text;

-- Clients that set a time limit are told of the deadline, and of its passing in other words than of the model's own.
alter table jobs add column has_own_deadline boolean not null default false;

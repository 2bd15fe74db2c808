-- Several providers may serve one job: which it may use, what each attempt cost, which providers are sick, and how fast their routes are.

-- True when the client insists on the provider.
alter table jobs add column is_pinned boolean not null default false;

-- The provider's own id of the model.
alter table attempts add column model text;
alter table attempts add column cost_usd double precision;
-- The secret part of the address at which the upstream may tell of the run; an attempt that goes on with a run inherits it.
alter table attempts add column callback_token text;
create index attempts_callback on attempts (callback_token) where callback_token is not null;

-- One row per provider that has failed or asked for a pause, kept by its workers for all processes.
create table provider_health (
  provider text primary key,
  -- Without a success in between.
  failures integer not null default 0,
  -- Not to be asked before this instant. Once it has passed, a failing one is asked by one attempt at a time until that has succeeded.
  out_until timestamptz,
  -- How long it was shut out last; the next time is longer.
  out_seconds integer not null default 0,
  -- Why: it kept failing, or it asked to be left alone.
  out_reason text,
  -- Until then the attempt that tries a failing one is waited for.
  probe_until timestamptz,
  updated_at timestamptz not null default db_now(),
  constraint provider_health_reason_known check (out_reason in ('failing', 'asked')),
  constraint provider_health_out_for_a_reason check ((out_until is null) = (out_reason is null))
);

-- How long runs of a model take at a provider, lately: a moving average, for models that prefer the fastest route.
create table route_times (
  model text not null,
  provider text not null,
  seconds double precision not null,
  updated_at timestamptz not null default db_now(),
  primary key (model, provider)
);

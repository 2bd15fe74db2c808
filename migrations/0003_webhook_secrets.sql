-- What signs a caller's webhooks, and what the caller has chosen for them.

create table webhook_secrets (
  id uuid primary key,
  caller_id uuid not null references callers (id),
  -- 1 for the first of a caller, one more with each rotation: instants of two transactions say nothing about their order.
  number integer not null,
  -- The HMAC secret, encrypted: `1.<id of the key>.<base64url>`, see secret-box.ts.
  sealed_secret text not null,
  -- An ed25519 pair, made when the caller wants such signatures. The public half is public, so it is not encrypted.
  sealed_private_key text,
  public_key text,
  created_at timestamptz not null default db_now(),
  -- Null for the newest; one that was replaced signs beside it until then.
  signs_until timestamptz,
  constraint webhook_secrets_number_unique unique (caller_id, number),
  constraint webhook_secrets_pair_is_whole check ((sealed_private_key is null) = (public_key is null))
);
-- Two processes that both make the first secret of a caller end with one.
create unique index webhook_secrets_one_newest on webhook_secrets (caller_id) where signs_until is null;

create table webhook_settings (
  caller_id uuid primary key references callers (id),
  -- Whether webhooks also carry a signature by ed25519.
  signs_v1a boolean not null default false,
  created_at timestamptz not null default db_now(),
  updated_at timestamptz not null default db_now()
);

-- Public keys of all callers are told to receivers that know one address, newest first; most secrets have none.
create index webhook_secrets_published on webhook_secrets (id) where public_key is not null;

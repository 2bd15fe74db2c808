-- A caller looks for the few deliveries that did not arrive among all that did. Those that did are not in it, so they pay nothing for it.
create index deliveries_undelivered on deliveries (caller_id, state, id) where state in ('FAILED', 'HELD');

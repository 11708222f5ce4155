-- migrate:up
-- GET /account shows the plan, and who may call what of billing.

drop function backend.get_account(uuid);
create function backend.get_account(
  p_user uuid, out available numeric, out reserved numeric, out owed numeric, out grants jsonb, out plan jsonb,
  out has_billing boolean
)
  language sql stable security definer set search_path = ''
as $$
  select
    coalesce((select b.available from public.credit_balances b where b.user_id = p_user), 0),
    coalesce((
      select sum(r.amount) from public.credit_reservations r where r.user_id = p_user and r.charged is null), 0),
    coalesce((select b.owed from public.credit_balances b where b.user_id = p_user), 0),
    coalesce((
      select jsonb_agg(jsonb_build_object(
               'source', g.source, 'amount', g.amount::text, 'remaining', g.remaining::text,
               'expires_at', case when g.expires_at < 'infinity' then g.expires_at end,
               'description', g.description, 'created_at', g.created_at)
             order by g.expires_at, g.priority, g.id)
        from public.credit_grants g where g.user_id = p_user and g.is_open), '[]'),
    (select jsonb_build_object(
              'plan_id', s.plan_id, 'interval', s.interval, 'status', s.status,
              'current_period_end', s.current_period_end, 'cancel_at_period_end', s.cancel_at_period_end)
       from public.subscriptions s where s.id = backend.live_subscription(p_user)),
    exists (select from backend.customers c where c.user_id = p_user and c.stripe_customer_id is not null)
$$;
comment on function backend.get_account(uuid) is 'A user''s balance, the grants that have something left in spending order, and the plan; the plan is null without a subscription. has_billing says whether the billing portal has something to show.';

revoke execute on all functions in schema backend from public, anon, authenticated, service_role;
grant execute on function
  backend.take_ticket(),
  backend.claim_parked(integer, integer),
  backend.give_up_parked(text),
  backend.parked_older_than(integer),
  backend.claim_reconciliation(text, integer, integer),
  backend.advance_reconciliation(text, timestamptz),
  backend.finish_reconciliation(text, timestamptz),
  backend.list_unfinished(integer, integer),
  backend.get_customer(uuid),
  backend.link_customer(uuid, integer, text),
  backend.forget_customer(text, jsonb),
  backend.record_product(jsonb, bigint, text, text, boolean, boolean),
  backend.record_price(jsonb, bigint, jsonb),
  backend.list_catalog(),
  backend.find_price(text),
  backend.record_checkout(jsonb, jsonb),
  backend.record_subscription(jsonb, bigint, jsonb),
  backend.record_invoice(jsonb, jsonb),
  backend.record_invoice_payment(jsonb, text, text, bigint, text),
  backend.record_reversal(jsonb, bigint, jsonb),
  backend.unmatched_reversals(integer, integer),
  backend.drip_due(integer),
  backend.get_account(uuid)
to holdfast_backend;

-- migrate:down

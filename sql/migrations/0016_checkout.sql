-- migrate:up
-- What a payment session says. A pack is granted as its purchase says; a plan is only linked: its invoices grant.

create function backend.record_checkout(p_event jsonb, p_session jsonb) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  s record;
  v_purchase public.purchases;
  v_outcome text;
begin
  -- all but the purchase's id is compared as text: client_reference_id and metadata are anybody's
  select * into s from jsonb_to_record(p_session) as r (
    id text, mode text, state text, purchase_id text, user_id text, amount_minor bigint, currency text,
    payment_intent_id text, customer_id text, subscription_id text);
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  -- only what a uuid prints as was ever sent by us
  if s.purchase_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    select * into v_purchase from public.purchases where id = s.purchase_id::uuid for update;
    v_outcome := case
      when s.mode not in ('payment', 'subscription') or s.state not in ('pending', 'paid', 'failed', 'expired')
        then 'ignored'
      when not found then 'parked'
      when coalesce(v_purchase.stripe_session_id, s.id) <> s.id then 'session_mismatch'
      when s.mode <> case v_purchase.kind when 'pack' then 'payment' else 'subscription' end then 'session_mismatch'
      when s.user_id is distinct from v_purchase.user_id::text then 'user_mismatch'
      when v_purchase.kind = 'pack' and s.state = 'paid' and s.currency is distinct from v_purchase.currency
        then 'currency_mismatch'
      when v_purchase.kind = 'pack' and s.state = 'paid' and s.amount_minor is distinct from v_purchase.amount_minor
        then 'amount_mismatch'
      when v_purchase.status = 'paid' then 'already_granted'
      when s.state = 'paid' then case v_purchase.kind when 'pack' then 'granted' else 'subscribed' end
      when s.state = 'pending' then 'pending'
      else 'closed'
    end;
  end if;

  if v_outcome in ('granted', 'subscribed')
     or v_outcome = 'pending' and v_purchase.status in ('created', 'open')
     or v_outcome = 'closed' and v_purchase.status in ('created', 'open', 'pending') then
    update public.purchases
       set status = s.state,
           stripe_session_id = s.id,
           stripe_payment_intent_id = coalesce(s.payment_intent_id, stripe_payment_intent_id),
           stripe_subscription_id = coalesce(s.subscription_id, stripe_subscription_id),
           paid_at = case s.state when 'paid' then ledger.clock() end
     where id = v_purchase.id;
  end if;
  if v_outcome in ('granted', 'subscribed', 'pending') then
    perform backend.adopt_customer(v_purchase.user_id, s.customer_id);
  end if;
  if v_outcome = 'granted' then
    perform backend.lock('payment', array[s.payment_intent_id]);
    perform ledger.grant(
      v_purchase.user_id, 'pack', 'cs:' || s.id, v_purchase.credits,
      p_expires_at => ledger.clock() + v_purchase.expires_days * interval '1 day',
      p_priority => v_purchase.priority,
      p_description => 'pack ' || v_purchase.item_id);
    insert into backend.payments as p
        (payment_intent_id, purchase_id, user_id, amount_minor, currency, created_at)
      select s.payment_intent_id, v_purchase.id, v_purchase.user_id, s.amount_minor, s.currency, ledger.clock()
       where s.payment_intent_id is not null
      -- Stripe may have made an invoice of the session as well: the purchase is what was paid
      on conflict (payment_intent_id) do update
        set purchase_id = excluded.purchase_id, invoice_id = null, user_id = excluded.user_id
        where p.purchase_id is null;
    perform backend.reverse_payment(s.payment_intent_id);
  end if;
  return backend.close_gate(p_event, coalesce(v_outcome, 'ignored'));
end $$;
comment on function backend.record_checkout(jsonb, jsonb) is 'Applies what is known of a Checkout Session, once: {id, mode, state (pending, paid, failed, expired, other), purchase_id, user_id, amount_minor, currency, payment_intent_id, customer_id, subscription_id}. Outcomes: granted, subscribed, duplicate, already_granted, pending, closed, ignored, parked, session_mismatch, user_mismatch, amount_mismatch, currency_mismatch.';

-- migrate:down

-- migrate:up
-- One Stripe customer for each user, and Stripe's products and prices as they are there.

create function backend.get_customer(p_user uuid, out stripe_customer_id text, out number integer)
  language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  insert into backend.customers (user_id, created_at) values (p_user, ledger.clock()) on conflict do nothing;
  select c.stripe_customer_id, c.number into stripe_customer_id, number
    from backend.customers c where c.user_id = p_user;
end $$;
comment on function backend.get_customer(uuid) is 'A user''s customer, or null and the number to create one with.';

create function backend.link_customer(p_user uuid, p_number integer, p_customer_id text) returns text
  language plpgsql security definer set search_path = ''
as $$
declare
  v_customer_id text;
begin
  update backend.customers set stripe_customer_id = p_customer_id
   where user_id = p_user and number = p_number and stripe_customer_id is null;
  select stripe_customer_id into v_customer_id from backend.customers where user_id = p_user;
  return v_customer_id;
end $$;
comment on function backend.link_customer(uuid, integer, text) is 'Notes a user''s new customer and returns the one that counts: of two, the first. Null when that number''s customer was deleted meanwhile: get_customer again.';

create function backend.adopt_customer(p_user uuid, p_customer_id text) returns void
  language plpgsql security definer set search_path = ''
as $$
begin
  if p_customer_id is null or backend.user_of_customer(p_customer_id) is not null then
    return;
  end if;
  insert into backend.customers as c (user_id, stripe_customer_id, created_at)
    values (p_user, p_customer_id, ledger.clock())
    on conflict (user_id) do update set stripe_customer_id = excluded.stripe_customer_id
      where c.stripe_customer_id is null;
end $$;
comment on function backend.adopt_customer(uuid, text) is 'Notes the customer of a user''s own paid session, unless there is one or it is somebody''s.';

create function backend.forget_customer(p_customer_id text, p_event jsonb) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  update backend.customers
     set stripe_customer_id = null, number = number + 1, forgotten = forgotten || p_customer_id
   where stripe_customer_id = p_customer_id;
  return backend.close_gate(p_event, case when found then 'forgotten' else 'unknown' end);
end $$;
comment on function backend.forget_customer(text, jsonb) is 'A customer was deleted at Stripe: the user''s next one gets a new number. Outcomes: forgotten, unknown, duplicate.';

create function backend.user_of_customer(p_customer_id text) returns uuid
  language sql stable security definer set search_path = ''
as $$
  select coalesce(
    (select user_id from backend.customers where stripe_customer_id = p_customer_id),
    (select (array_agg(user_id))[1] from backend.customers where forgotten @> array[p_customer_id]))
$$;
comment on function backend.user_of_customer(text) is 'Whose customer it is or was; null of an unknown one.';

create function backend.record_product(
  p_event jsonb, p_ticket bigint, p_product_id text, p_name text, p_active boolean, p_deleted boolean
) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  insert into backend.products as p (id, name, active, deleted, ticket, updated_at)
    values (p_product_id, p_name, p_active, p_deleted, p_ticket, ledger.clock())
    on conflict (id) do update
      set name = coalesce(excluded.name, p.name), active = excluded.active, deleted = excluded.deleted,
          ticket = excluded.ticket, updated_at = excluded.updated_at
      where excluded.ticket > p.ticket and not p.deleted;
  return backend.close_gate(p_event, case when found then 'recorded' else 'stale' end);
end $$;
comment on function backend.record_product(jsonb, bigint, text, text, boolean, boolean) is 'Mirrors a product as just read. Outcomes: recorded, stale, duplicate.';

create function backend.record_price(p_event jsonb, p_ticket bigint, p_price jsonb) returns text
  language plpgsql security definer set search_path = ''
as $$
begin
  if not backend.open_gate(p_event) then
    return 'duplicate';
  end if;
  insert into backend.prices as p
      (id, product_id, lookup_key, active, deleted, currency, amount_minor, interval, kind, item_id, credits, months,
       terms, ticket, updated_at)
    select n.id, n.product_id, n.lookup_key, coalesce(n.active, false), coalesce(n.deleted, false),
           n.currency, n.amount_minor, n.interval, n.kind, n.item_id, n.credits, n.months,
           coalesce(n.terms, '{}'), p_ticket, ledger.clock()
      from jsonb_to_record(p_price) as n (
        id text, product_id text, lookup_key text, active boolean, deleted boolean, currency text,
        amount_minor bigint, interval text, kind text, item_id text, credits numeric, months integer, terms jsonb)
    on conflict (id) do update
      set product_id = coalesce(excluded.product_id, p.product_id),
          lookup_key = excluded.lookup_key,
          active = excluded.active,
          deleted = excluded.deleted,
          ticket = excluded.ticket,
          updated_at = excluded.updated_at
      where excluded.ticket > p.ticket;
  if not found then
    return backend.close_gate(p_event, 'stale');
  end if;
  -- what it grants is the catalogue's word, taken when it says something, and final once it granted: amount, currency
  -- and interval of a price never change at Stripe either
  update backend.prices p
     set kind = n.kind, item_id = n.item_id, credits = n.credits, months = n.months, terms = coalesce(n.terms, '{}')
    from jsonb_to_record(p_price) as n (
      id text, kind text, item_id text, credits numeric, months integer, terms jsonb)
   where p.id = n.id and n.kind is not null
     and not exists (select from public.plan_periods g where g.price_id = p.id);
  return backend.close_gate(p_event, 'recorded');
end $$;
comment on function backend.record_price(jsonb, bigint, jsonb) is 'Mirrors a price as just read, with what the catalogue says it grants: {id, product_id, lookup_key, active, deleted, currency, amount_minor, interval, kind, item_id, credits, months, terms}. Outcomes: recorded, stale, duplicate.';

create function backend.list_catalog()
  returns table (
    price_id text,
    kind text,
    item_id text,
    "interval" text,  -- noqa: RF06
    credits numeric,
    amount_minor bigint,
    currency text,
    lookup_key text
  )
  language sql stable security definer set search_path = ''
as $$
  select p.id, p.kind, p.item_id, p.interval, p.credits, p.amount_minor, p.currency, p.lookup_key
    from backend.prices p left join backend.products o on o.id = p.product_id
   where p.active and not p.deleted and p.kind is not null
     and p.lookup_key is not null  -- the key moves on to the price that replaces this one
     and (o.id is null or o.active and not o.deleted)
   order by p.kind, p.item_id, p.interval, p.id
$$;
comment on function backend.list_catalog() is 'The prices that can be bought now.';

create function backend.find_price(p_lookup_key text)
  returns table (price_id text, credits numeric, amount_minor bigint, currency text)
  language sql stable security definer set search_path = ''
as $$
  select p.id, p.credits, p.amount_minor, p.currency
    from backend.prices p left join backend.products o on o.id = p.product_id
   where p.lookup_key = p_lookup_key and p.active and not p.deleted and p.kind is not null
     and (o.id is null or o.active and not o.deleted)
   order by p.ticket desc
   limit 1
$$;
comment on function backend.find_price(text) is 'The price to sell under a lookup key, if there is one.';

-- migrate:down

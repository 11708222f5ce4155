-- migrate:up
-- What an operator asks. Views for the owner of the database (`make ops`, or any SQL client); no role of the API or of
-- the functions may read them.

create view backend.report_jobs with (security_invoker = true) as
  select
    g.status,
    g.kind,
    count(*) as jobs,
    min(g.created_at) as oldest,
    max(g.created_at) as newest
    from public.generations as g
   group by g.status, g.kind
   order by g.status, g.kind;
comment on view backend.report_jobs is 'Jobs by state and kind.';

create view backend.report_failures with (security_invoker = true) as
  select
    g.model,
    g.error_code,
    count(*) as jobs,
    max(g.finished_at) as newest
    from public.generations as g
   where g.status = 'failed' and g.finished_at > ledger.clock() - interval '7 days'
   group by g.model, g.error_code
   order by count(*) desc;
comment on view backend.report_failures is 'Jobs that failed in the last 7 days, by model and code.';

create view backend.report_purchases with (security_invoker = true) as
  with recent as (
    select
      p.status,
      p.currency,
      p.amount_minor,
      p.credits,
      (p.created_at at time zone 'UTC')::date as day
      from public.purchases as p
     where p.created_at > ledger.clock() - interval '31 days'
  )

  select
    r.day,
    r.status,
    r.currency,
    count(*) as purchases,
    sum(r.amount_minor) as amount_minor,
    sum(r.credits) as credits
    from recent as r
   group by r.day, r.status, r.currency
   order by r.day desc, r.status asc, r.currency asc;
comment on view backend.report_purchases is 'Purchases of the last 31 days by day (UTC) and state; amounts in the currency''s minor unit.';

create view backend.report_models with (security_invoker = true) as
  with finished as (
    select
      g.model,
      g.charged_credits,
      g.cost_credits - g.charged_credits as refunded_credits,
      -- the provider bills what it delivered, whether or not it could be stored here
      case when d.output_urls is null then 0
        else (d.price ->> 'unit_credits')::numeric * (d.price ->> 'units_per_output')::numeric
          * (d.price ->> 'output_count')::numeric
      end as provider_credits
      from public.generations as g inner join backend.dispatches as d on g.id = d.generation_id
     where g.finished_at > ledger.clock() - interval '31 days'
  )

  select
    f.model,
    count(*) as jobs,
    sum(f.charged_credits) as charged_credits,
    sum(f.provider_credits) as provider_credits,
    sum(f.refunded_credits) as refunded_credits,
    round(avg((f.refunded_credits > 0)::integer), 3) as refund_rate
    from finished as f
   group by f.model
   order by sum(f.charged_credits) desc nulls last;
comment on view backend.report_models is 'By model, 31 days: credits charged against what the provider billed for what it delivered, and the share of jobs refunded at least in part.';

create view backend.report_reservations with (security_invoker = true) as
  select
    r.user_id,
    r.id as reservation_id,
    r.amount,
    r.reserved_at,
    g.status,
    d.provider_generation_id,
    d.attempts
    from public.credit_reservations as r
    left join public.generations as g on r.id = g.reservation_id
    left join backend.dispatches as d on g.id = d.generation_id
   where r.charged is null
   order by r.reserved_at;
comment on view backend.report_reservations is 'Open reservations, oldest first: the first row is the oldest.';

revoke all on backend.report_jobs, backend.report_failures, backend.report_purchases, backend.report_models,
  backend.report_reservations from public, anon, authenticated, service_role, holdfast_backend;

-- migrate:down

-- A render farm uses the schema `ledger` without the rest: a job is any uuid, a user any uuid.
\pset footer off
\set alice '''aaaaaaaa-0000-4000-8000-000000000001'''
\set job_1 '''bbbbbbbb-0000-4000-8000-000000000001'''
\set job_2 '''bbbbbbbb-0000-4000-8000-000000000002'''

-- Alice buys 10 credits. The key is the payment's: a second delivery of the same payment grants nothing.
select ledger.grant(:alice, 'pack', 'invoice:1001', 10) as outcome;
select ledger.grant(:alice, 'pack', 'invoice:1001', 10) as outcome;

-- A job of 4 credits is reserved before it starts, and charged when its 4 frames are there.
select ledger.reserve(:alice, :job_1, 4) as outcome;
select ledger.settle(:job_1, 4) as outcome;

-- The next one wants more than there is. Nothing is kept: the same id works after a top-up.
select ledger.reserve(:alice, :job_2, 8) as outcome;
select ledger.grant(:alice, 'pack', 'invoice:1002', 5) as outcome;
select ledger.reserve(:alice, :job_2, 8) as outcome;

-- It delivers 5 of 8 frames: charged for 5, refunded for 3. Settling again changes nothing.
select ledger.settle(:job_2, 5) as outcome;
select ledger.settle(:job_2, 8) as outcome;

select type, available_delta, reserved_delta, available_after
  from public.credit_ledger where user_id = :alice order by id;
select * from ledger.audit(:alice);

-- A payment is disputed after its credits were spent, and the dispute is won.
\pset footer off
\set bob '''aaaaaaaa-0000-4000-8000-000000000002'''
\set job '''bbbbbbbb-0000-4000-8000-000000000003'''

select ledger.grant(:bob, 'pack', 'invoice:2001', 10) as outcome;
select ledger.reserve(:bob, :job, 7) as reserve, ledger.settle(:job, 7) as settle;

-- Dispute: all 10 are to be taken back. 3 are left, 7 become debt, and a debtor cannot reserve.
select ledger.reverse('invoice:2001', 'dispute:1:open', 10) as outcome;
select available, owed from public.credit_balances where user_id = :bob;
select ledger.reserve(:bob, gen_random_uuid(), 1) as outcome;

-- A new pack pays the debt first.
select ledger.grant(:bob, 'pack', 'invoice:2002', 10) as outcome;
select available, owed from public.credit_balances where user_id = :bob;

-- The dispute is won: nothing of the first pack is reversed any more.
select ledger.reverse('invoice:2001', 'dispute:1:won', 0) as outcome;
-- The opening, delivered late once more, does not undo that.
select ledger.reverse('invoice:2001', 'dispute:1:open', 10) as outcome;

select type, available_delta, reserved_delta, owed_delta, available_after, owed_after
  from public.credit_ledger where user_id = :bob order by id;
select * from ledger.audit(:bob);

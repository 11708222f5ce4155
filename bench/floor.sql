-- The floor: the same number of commits, each the least that moves credits and notes it.
create schema floor;
create table floor.balances (user_id uuid primary key, balance numeric(14, 3) not null) with (fillfactor = 50);
create table floor.entries (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  amount numeric(14, 3) not null,
  job_id uuid not null
);
grant usage on schema floor to holdfast_backend;
grant select, insert, update on all tables in schema floor to holdfast_backend;

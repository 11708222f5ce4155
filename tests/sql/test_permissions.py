"""Who may do what: every table and every function, tried as every role, under both default privileges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.billing import Stripe
from tests.database import Connection, TestDatabase
from tests.factories import Backend, new_key, new_user, sign_up
from tests.raising import raises_sqlstate

READABLE = {
    "public.assets",
    "public.credit_balances",
    "public.credit_grants",
    "public.credit_ledger",
    "public.credit_reservations",
    "public.generation_events",
    "public.generations",
    "public.payment_reversals",
    "public.plan_periods",
    "public.purchases",
    "public.subscriptions",
    "public.alerts",
    "public.profiles",
}
CLOSED = {
    "backend.account_settings",
    "backend.admin_actions",
    "backend.alert_outbox",
    "backend.customers",
    "backend.removal_leases",
    "backend.welcome_gifts",
    "backend.dispatches",
    "backend.payments",
    "backend.prices",
    "backend.products",
    "backend.prorations",
    "backend.reconciliations",
    "ledger.seals",
    "ledger.seal_horizon",
    "backend.inbox",
    "backend.intake",
    "backend.stripe_events",
    "public.credit_reversals",
}
REPORTS = {
    "backend.report_failures",
    "backend.report_jobs",
    "backend.report_models",
    "backend.report_purchases",
    "backend.report_reservations",
}
ROLES = ("anon", "authenticated", "service_role", "holdfast_backend")

# what the functions on AWS call; every other function is the database's own
CALLABLE = {
    "backend.adjust_credits_as_admin(uuid,text,uuid,numeric,text)",
    "backend.claim_alerts(integer,integer)",
    "backend.claim_removals(integer,integer,integer)",
    "backend.ensure_account(uuid)",
    "backend.finish_alerts(bigint[])",
    "backend.finish_removal(text,uuid)",
    "backend.has_role(uuid,text)",
    "backend.list_alerts(uuid,integer)",
    "backend.mark_unused_assets(integer,integer,boolean)",
    "backend.remove_asset(uuid,uuid)",
    "backend.remove_generation(uuid,uuid)",
    "backend.remove_old_events(integer,integer,boolean)",
    "backend.set_low_balance(uuid,numeric)",
    "backend.abandon(uuid,text)",
    "backend.attach_checkout_session(uuid,text)",
    "backend.claim_parked(integer,integer)",
    "backend.claim_reconciliation(text,integer,integer)",
    "backend.begin_dispatch(uuid)",
    "backend.begin_settlement(uuid,text,integer)",
    "backend.claim_stuck(integer,integer,integer)",
    "backend.close_intake(uuid)",
    "backend.complete_generation(uuid,jsonb,text)",
    "backend.count_poisoned()",
    "backend.create_asset(uuid,text,bigint,integer)",
    "backend.create_purchase(uuid,text,text,text,numeric,bigint,text,integer,integer,integer)",
    "backend.drip_due(integer)",
    "backend.find_price(text)",
    "backend.advance_reconciliation(text,timestamp with time zone)",
    "backend.finish_reconciliation(text,timestamp with time zone)",
    "backend.list_unfinished(integer,integer)",
    "backend.forget_customer(text,jsonb)",
    "backend.create_generation(uuid,text,text,text,text,text,jsonb,text,jsonb,numeric,integer,integer,integer,numeric,numeric)",
    "backend.end_settlement(uuid,text,text,boolean)",
    "backend.find_generation(uuid,text)",
    "backend.get_account(uuid)",
    "backend.lend_assets(uuid,uuid[])",
    "backend.list_assets(uuid,integer)",
    "backend.list_generation_events(uuid,uuid)",
    "backend.get_profile(uuid)",
    "backend.get_checkout(uuid,text)",
    "backend.get_customer(uuid)",
    "backend.get_generation(uuid,uuid)",
    "backend.get_intake()",
    "backend.get_settlement(uuid)",
    "backend.give_up_parked(text)",
    "backend.link_customer(uuid,integer,text)",
    "backend.list_catalog()",
    "backend.list_generations(uuid,text,text,timestamp with time zone,uuid,integer)",
    "backend.list_ledger(uuid,bigint,integer)",
    "backend.mark_refused(uuid,text,text)",
    "backend.mark_submitted(uuid,text)",
    "backend.parked_older_than(integer)",
    "backend.mark_unsent(uuid,integer,text)",
    "backend.open_intake()",
    "backend.postpone(uuid,integer,text,boolean)",
    "backend.record_callback(text,text,text,jsonb)",
    "backend.record_checkout(jsonb,jsonb)",
    "backend.record_invoice(jsonb,jsonb)",
    "backend.record_invoice_payment(jsonb,text,text,bigint,text)",
    "backend.record_price(jsonb,bigint,jsonb)",
    "backend.record_product(jsonb,bigint,text,text,boolean,boolean)",
    "backend.record_provider_state(uuid,text,jsonb,text,text)",
    "backend.record_reversal(jsonb,bigint,jsonb)",
    "backend.record_subscription(jsonb,bigint,jsonb)",
    "backend.take_ticket()",
    "backend.unmatched_reversals(integer,integer)",
    "backend.request_cancel(uuid,uuid)",
    "backend.request_stop(uuid,text)",
    "ledger.audit(uuid)",
    "ledger.expire_due(integer)",
    "ledger.newest_seal()",
    "ledger.seal()",
    "ledger.verify(bigint,text)",
    'ledger."grant"(uuid,text,text,numeric,timestamp with time zone,integer,text)',
    "ledger.reserve(uuid,uuid,numeric)",
    "ledger.reverse(text,text,numeric)",
    "ledger.settle(uuid,numeric)",
}
INTERNAL = {
    "backend.adopt_customer(uuid,text)",
    "backend.adjust_credits(text,text,uuid,numeric,text)",
    "backend.open_account(uuid,text,boolean)",
    "backend.open_account_on_sign_up()",
    "backend.raise_low_balance()",
    "backend.set_role(text,text,uuid,text,text)",
    "backend.set_welcome(text,text,numeric,boolean,text)",
    "backend.apply_result(uuid,text,jsonb,text,text,text)",
    "backend.at(text)",
    "backend.close_gate(jsonb,text)",
    "backend.count_prorations(text[])",
    "backend.counts(text,text,boolean)",
    "backend.grant_months(text)",
    "backend.invoice_lines(jsonb)",
    "backend.link_payment(text,text,bigint,text)",
    "backend.live_subscription(uuid)",
    "backend.lock(text,text[])",
    "backend.mailbox(text)",
    "backend.month_key(plan_periods,integer)",
    "backend.open_gate(jsonb)",
    "backend.payer(text,text)",
    "backend.reverse_payment(text)",
    "backend.reverse_period(text)",
    "backend.set_reversed(text,numeric,numeric)",
    "backend.user_of_customer(text)",
    "backend.end_canceled(generations,text,text)",
    "backend.give_up(generations,text,text,text,text)",
    "backend.list_stuck(integer,integer)",
    "backend.move(uuid,text,text,text,text)",
    "backend.poison_after()",
    "backend.refund_generation(uuid)",
    "backend.retry_generation(uuid)",
    "ledger.batch_hash(bytea,bigint[],bytea[])",
    "ledger.clock()",
    "ledger.entry_hash(credit_ledger)",
    "ledger.expire_account(uuid)",
    "ledger.is_amount(numeric)",
    "ledger.refund(credit_reservations)",
    "ledger.refuse_change()",
    "ledger.refuse_row()",
    "ledger.reservation_outcome(uuid,uuid,numeric)",
    "ledger.restore_as_grant(uuid,text,numeric,timestamp with time zone)",
    "ledger.take_from_grants(uuid,numeric)",
}


@dataclass(frozen=True)
class Place:
    """A migrated database in which two users have rows in every table."""

    db: TestDatabase
    user: UUID
    neighbour: UUID


@pytest.fixture(name="place", scope="module", params=[False, True], ids=["closed", "exposing"])
def _place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Return a furnished database under each of the platform's default privileges."""
    with request.getfixturevalue("templates").copy(auto_expose=request.param) as db:
        place = Place(db, new_user(), new_user())
        for user in (place.user, place.neighbour):
            sign_up(db, user=user)
            _furnish(Backend(db), user)
            db.connection("holdfast_backend").execute("select ledger.seal()")
        yield place


def _furnish(backend: Backend, user: UUID) -> None:
    generation, _ = backend.storing(user, 3)
    backend.complete(generation, 1)
    backend.ledger.reverse(backend.ledger.grant(user, 10), 2)
    backend.checkout_event(backend.open_purchase(user))
    backend.calls.execute("select backend.create_asset(%s, 'image/png', 1, 9)", (user,))
    backend.db.value("select backend.set_role('op', %s, %s, 'user', 'test')", new_key(), user)
    backend.ledger.reserve(user, backend.ledger.balance(user).available)  # alerts
    backend.remove(user, generation)
    backend.calls.execute("select backend.claim_removals(1, 0, 60)")
    _furnish_billing(Stripe(backend, user))
    backend.calls.execute("select backend.claim_reconciliation('events', 900, 60)")


def _furnish_billing(stripe: Stripe) -> None:
    price = stripe.price()
    stripe.call("select backend.record_product(null, 1, %s, 'Pro', true, false)", stripe.id("prod"))
    stripe.subscribe(price)
    credited = stripe.line(price, -100, 2, proration=True)
    stripe.invoice(stripe.line(price), credited, payments={stripe.id("pi"): 2900})
    stripe.reversal(stripe.id("pi"), 100)


# one statement of each kind, none of which needs to know the table
VERBS = {
    "select": "select count(*) from {table}",
    "insert": "insert into {table} default values",
    "update": "update {table} set {column} = {column}",
    "delete": "delete from {table}",
    "truncate": "truncate {table}",
}
REFUSED = [
    (table, role, verb)
    for table in sorted(READABLE | CLOSED)
    for role in ROLES
    for verb in VERBS
    if (role, verb) != ("authenticated", "select") or table in CLOSED
]


def _compose(db: TestDatabase, table: str, verb: str) -> sql.Composed:
    # not the first column: an identity may refuse the update before the missing right does
    column = db.value(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum = 2", table
    )
    return sql.SQL(VERBS[verb]).format(table=_name(table), column=sql.Identifier(column))


def _name(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


class TestTables:
    """Every table, every role, every kind of statement."""

    def test_list_is_complete(self, place: Place) -> None:
        """Every table is in the matrix below."""
        tables = place.db.rows(
            "select n.nspname || '.' || c.relname as name"
            " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname in ('public', 'ledger', 'backend')"
            " and c.relkind in ('r', 'p', 'v', 'm', 'f')"
        )

        assert {row["name"] for row in tables} == READABLE | CLOSED | REPORTS

    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("report", sorted(REPORTS))
    def test_reports_are_the_operators(self, place: Place, report: str, role: str) -> None:
        """No role of the API or of the functions reads a report."""
        with _acting_as(place, role) as connection, raises_sqlstate("42501"):
            connection.execute(_compose(place.db, report, "select"))

    def test_both_users_have_rows_everywhere(self, place: Place) -> None:
        """The matrix means something: there are rows to be seen and to be hidden."""
        owner = place.db.connection("postgres")
        for table in READABLE:
            assert {place.user, place.neighbour} <= _owners(owner, table).keys(), table
        for table in CLOSED:
            rows = owner.execute(_compose(place.db, table, "select")).fetchall()
            assert rows != [{"count": 0}], table

    @pytest.mark.parametrize("table", sorted(READABLE))
    def test_own_rows(self, place: Place, table: str) -> None:
        """A signed-in user reads all of their own rows and none of another's."""
        everything = _owners(place.db.connection("postgres"), table)

        with place.db.acting_as("authenticated", place.user) as connection:
            seen = _owners(connection, table)

        assert seen == {place.user: everything[place.user]}

    @pytest.mark.parametrize("table", sorted(READABLE))
    @pytest.mark.parametrize("sub", [None, "stranger"])
    def test_no_rows_of_others(self, place: Place, table: str, sub: str | None) -> None:
        """A token without a subject, or of a user without rows, reads nothing."""
        user = new_user() if sub else None

        with place.db.acting_as("authenticated", user) as connection:
            assert _owners(connection, table) == {}

    @pytest.mark.parametrize("claim", ["user_metadata", "app_metadata", "email", "user_id"])
    def test_other_claims_open_nothing(self, place: Place, claim: str) -> None:
        """Only the subject counts; what else a token claims of a neighbour does not."""
        claims = {claim: {"sub": str(place.neighbour), "user_id": str(place.neighbour)}}

        with place.db.acting_as("authenticated", place.user, claims) as connection:
            seen = _owners(connection, "public.credit_balances")

        assert seen.keys() == {place.user}

    @pytest.mark.parametrize(("table", "role", "verb"), REFUSED)
    def test_everything_else_is_refused(
        self, place: Place, table: str, role: str, verb: str
    ) -> None:
        """But for a user's reading of readable tables no role may do anything to any table."""
        with _acting_as(place, role) as connection, raises_sqlstate("42501"):
            connection.execute(_compose(place.db, table, verb))

    @pytest.mark.parametrize("table", sorted(READABLE))
    @pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
    def test_forged_owner(self, place: Place, role: str, table: str) -> None:
        """A new row fails under a neighbour's name and under one's own."""
        for user in (place.user, place.neighbour):
            forged = sql.SQL("insert into {} (user_id) values ({})").format(_name(table), user)
            with place.db.acting_as(role, place.user) as connection, raises_sqlstate("42501"):
                connection.execute(forged)

    def test_sequences(self, place: Place) -> None:
        """Nobody but the owner may draw or read the numbers of rows."""
        found = place.db.rows(
            "select c.oid::regclass::text as name, r.rolname from pg_class c, pg_roles r"
            " where c.relkind = 'S'"
            " and c.relnamespace in ('public'::regnamespace, 'backend'::regnamespace)"
            " and r.rolname = any (%s)"
            " and has_sequence_privilege(r.oid, c.oid, 'usage, select, update')",
            list(ROLES),
        )

        assert found == []


class TestFunctions:
    """Every function, every role."""

    def test_list_is_complete(self, place: Place) -> None:
        """Every function is either callable by the backend or internal, and none lives in public."""
        assert set(_functions(place.db)) == CALLABLE | INTERNAL

    @pytest.mark.parametrize("role", [*ROLES, "public", "authenticator"])
    def test_privileges(self, place: Place, role: str) -> None:
        """Only the backend's role may execute anything, and exactly its list."""
        allowed = {
            name
            for name, oid in _functions(place.db).items()
            if place.db.value("select has_function_privilege(%s, %s::oid, 'execute')", role, oid)
        }

        assert allowed == (CALLABLE if role == "holdfast_backend" else set())

    @pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
    @pytest.mark.parametrize("function", sorted(CALLABLE | INTERNAL))
    def test_call_is_refused(self, place: Place, role: str, function: str) -> None:
        """A call by an API role, over whatever way, ends in 42501."""
        with place.db.acting_as(role, place.user) as connection, raises_sqlstate("42501"):
            connection.execute(_call(function))

    @pytest.mark.parametrize("function", sorted(INTERNAL))
    def test_backend_cannot_call_internals(self, place: Place, function: str) -> None:
        """The backend's role cannot reach past the functions meant for it."""
        with raises_sqlstate("42501"):
            place.db.connection("holdfast_backend").execute(_call(function))

    def test_schema_usage(self, place: Place) -> None:
        """API roles do not even see into the private schemas."""
        for schema in ("ledger", "backend"):
            for role in ("anon", "authenticated", "service_role", "public"):
                assert not place.db.value(
                    "select has_schema_privilege(%s, %s, 'usage, create')", role, schema
                )
        for schema in ("ledger", "backend", "public"):
            assert not place.db.value(
                "select has_schema_privilege('holdfast_backend', %s, 'create')", schema
            )

    @pytest.mark.parametrize("schema", ["ledger", "backend"])
    def test_new_function_is_closed(self, place: Place, schema: str) -> None:
        """A function a later migration adds is nobody's until it is granted."""
        owner = place.db.connection("postgres")
        name = sql.Identifier(schema, "newcomer")
        with owner.transaction(force_rollback=True):
            owner.execute(sql.SQL("create function {}() returns int return 1").format(name))
            for role in [*ROLES, "public"]:
                allowed = owner.execute(
                    "select has_function_privilege(%s, %s, 'execute') as may",
                    (role, f"{schema}.newcomer()"),
                ).fetchone()
                assert allowed == {"may": False}

    def test_shadowing_schema(self, place: Place) -> None:
        """A caller's temporary tables and search path do not lead a function astray."""
        with place.db.connect("holdfast_backend") as connection:
            connection.execute(
                "create temp table credit_balances (user_id uuid, available numeric)"
            )
            connection.execute("create temp table credit_grants (id int)")
            connection.execute("set search_path = pg_temp, public")
            outcome = connection.execute(
                "select ledger.grant(%s, 'pack', %s, 1) as outcome", (new_user(), new_key())
            ).fetchone()

        assert outcome == {"outcome": "granted"}


def test_user_cannot_act_as_somebody_else(place: Place) -> None:
    """An API role has no way to another role from inside the database."""
    with place.db.acting_as("anon") as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute("set role holdfast_backend")
    assert caught.value.sqlstate == "42501"


@contextlib.contextmanager
def _acting_as(place: Place, role: str) -> Iterator[Connection]:
    if role != "holdfast_backend":  # that one logs in, the others are taken on
        with place.db.acting_as(role, place.user) as connection:
            yield connection
        return
    connection = place.db.connection(role)
    with connection.transaction(force_rollback=True):
        yield connection


def _owners(connection: Connection, table: str) -> dict[UUID, int]:
    found = connection.execute(
        sql.SQL("select user_id, count(*) as rows from {} group by 1").format(_name(table))
    ).fetchall()
    return {row["user_id"]: row["rows"] for row in found}


def _functions(db: TestDatabase) -> dict[str, int]:
    found = db.rows(
        "select p.oid, p.oid::regprocedure::text as name from pg_proc p"
        " where p.pronamespace in"
        " ('ledger'::regnamespace, 'backend'::regnamespace, 'public'::regnamespace)"
    )
    return {row["name"]: row["oid"] for row in found}


def _call(function: str) -> bytes:
    """Write a call with nulls of the right types: it is the right to call that is asked."""
    name, _, rest = function.partition("(")
    types = [each for each in rest.removesuffix(")").split(",") if each]
    nulls = ", ".join(f"null::{_qualified(each)}" for each in types)
    return f"select {name}({nulls})".encode()


def _qualified(type_name: str) -> str:
    rows = {"generations", "credit_reservations", "plan_periods"}
    return f"public.{type_name}" if type_name in rows else type_name

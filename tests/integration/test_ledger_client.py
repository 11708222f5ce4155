"""The ledger's client in Python, for this product and any other job, against the real ledger as its real role."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from holdfast.database import Database
from holdfast.errors import (
    ChargeExceedsReservationError,
    GrantKeyReusedError,
    InvalidAmountError,
    ReservationReusedError,
    ReversalKeyReusedError,
    TotalOutOfRangeError,
)
from holdfast.ledger import (
    GrantOutcome,
    LedgerClient,
    ReserveOutcome,
    ReverseOutcome,
    Seal,
    SettleOutcome,
    Violation,
)
from holdfast.vocabulary import GrantSource
from tests.clock import NOON, Clock
from tests.database import NEVER, Connection, TestDatabase
from tests.factories import Balance, Ledger, new_key, new_user

TEN = Decimal(10)


@pytest.fixture(name="client")
def _client(db: TestDatabase) -> Iterator[LedgerClient]:
    database = Database(SecretStr(db.url("holdfast_backend")))
    yield LedgerClient(database)
    database.close()


@pytest.fixture(name="user")
def _user(client: LedgerClient) -> UUID:
    """Return somebody with ten credits."""
    user = new_user()
    client.grant(user, GrantSource.PACK, f"pack:{user}", TEN)
    return user


def reserved(client: LedgerClient, user: UUID, amount: Decimal) -> UUID:
    """Set credits aside and return the reservation."""
    job = uuid4()
    assert client.reserve(user, job, amount) is ReserveOutcome.RESERVED
    return job


def balance(available: str, reserved: str = "0", owed: str = "0") -> Balance:
    """Return a balance."""
    return Balance(Decimal(available), Decimal(reserved), Decimal(owed))


class TestGrant:
    """Credits that come in."""

    def test_granted_once(self, client: LedgerClient, ledger: Ledger) -> None:
        """The first call grants, the same call again is a duplicate and grants nothing."""
        user, key = new_user(), new_key("render-credits")

        outcomes = [client.grant(user, GrantSource.PACK, key, Decimal("2.500")) for _ in range(2)]

        assert outcomes == [GrantOutcome.GRANTED, GrantOutcome.DUPLICATE]
        assert ledger.balance(user) == balance("2.5")
        (grant,) = ledger.grants(user).values()
        assert (grant["expires_at"], grant["priority"], grant["description"]) == (NEVER, 100, None)

    def test_terms(self, client: LedgerClient, ledger: Ledger) -> None:
        """End, priority and description are the grant's."""
        user, end = new_user(), datetime(2040, 1, 1, tzinfo=UTC)

        client.grant(
            user,
            GrantSource.PLAN,
            new_key(),
            TEN,
            expires_at=end,
            priority=7,
            description="January",
        )

        (grant,) = ledger.grants(user).values()
        assert (grant["source"], grant["expires_at"], grant["priority"], grant["description"]) == (
            "plan",
            end,
            7,
            "January",
        )

    def test_key_of_something_else(self, client: LedgerClient, user: UUID) -> None:
        """A key that granted another amount, or to another user, is refused as a bug."""
        for other, amount in ((user, Decimal(11)), (new_user(), TEN)):
            with pytest.raises(GrantKeyReusedError):
                client.grant(other, GrantSource.PACK, f"pack:{user}", amount)

    @pytest.mark.parametrize("amount", ["0", "-1", "0.0001", "NaN"])
    def test_no_amount(self, client: LedgerClient, ledger: Ledger, amount: str) -> None:
        """What is no amount of credits is refused as a bug, and nothing is written."""
        user = new_user()

        with pytest.raises(InvalidAmountError):
            client.grant(user, GrantSource.PACK, new_key(), Decimal(amount))

        assert ledger.grants(user) == {}


class TestReserveAndSettle:
    """One job, from its price to its end."""

    def test_charged_in_part(self, client: LedgerClient, ledger: Ledger, user: UUID) -> None:
        """Three of four delivered: three quarters are charged, the rest is back."""
        job = reserved(client, user, Decimal(4))
        assert ledger.balance(user) == balance("6", "4")

        assert client.settle(job, Decimal(3)) is SettleOutcome.SETTLED

        assert ledger.balance(user) == balance("7")
        assert ledger.kinds(user) == ["grant", "reserve", "charge", "refund"]

    def test_again(self, client: LedgerClient, ledger: Ledger, user: UUID) -> None:
        """Repeating either call is told so and moves nothing, whatever was asked the second time."""
        job = reserved(client, user, Decimal(4))

        assert client.reserve(user, job, Decimal(4)) is ReserveOutcome.DUPLICATE
        assert client.settle(job, Decimal(0)) is SettleOutcome.SETTLED
        assert client.settle(job, Decimal(4)) is SettleOutcome.ALREADY_SETTLED
        assert client.reserve(user, job, Decimal(4)) is ReserveOutcome.ALREADY_SETTLED

        assert ledger.balance(user) == balance("10")

    def test_too_dear(self, client: LedgerClient, ledger: Ledger, user: UUID) -> None:
        """More than there is reserves nothing, and the id is still free."""
        job = uuid4()

        assert client.reserve(user, job, Decimal(11)) is ReserveOutcome.INSUFFICIENT_CREDITS
        assert client.reserve(user, job, TEN) is ReserveOutcome.RESERVED

        assert ledger.balance(user) == balance("0", "10")

    def test_nothing_was_reserved(self, client: LedgerClient) -> None:
        """A job that the ledger does not know is not settled."""
        assert client.settle(uuid4(), TEN) is SettleOutcome.NOT_FOUND

    def test_refused(self, client: LedgerClient, user: UUID) -> None:
        """Another amount under the id, more than was reserved, and what is no amount are bugs."""
        job = reserved(client, user, Decimal(4))

        with pytest.raises(ReservationReusedError):
            client.reserve(user, job, Decimal(5))
        with pytest.raises(ChargeExceedsReservationError):
            client.settle(job, Decimal(5))
        with pytest.raises(InvalidAmountError):
            client.reserve(user, uuid4(), Decimal(-1))
        with pytest.raises(InvalidAmountError):
            client.settle(job, Decimal(-1))


class TestReverse:
    """Credits that are taken back."""

    def test_back_and_forth(self, client: LedgerClient, ledger: Ledger, user: UUID) -> None:
        """The total counts: up takes credits, the same does nothing, down gives them back."""
        steps = [("refund:1", 6), ("refund:1", 6), ("refund:2", 6), ("refund:3", 2)]

        outcomes = [
            client.reverse(f"pack:{user}", f"{key}:{user}", Decimal(total)) for key, total in steps
        ]

        assert outcomes == [
            ReverseOutcome.CLAWED_BACK,
            ReverseOutcome.DUPLICATE,
            ReverseOutcome.UNCHANGED,
            ReverseOutcome.RESTORED,
        ]
        assert ledger.balance(user) == balance("8")

    def test_spent(self, client: LedgerClient, ledger: Ledger, user: UUID) -> None:
        """What was spent is owed."""
        client.settle(reserved(client, user, TEN), TEN)

        assert client.reverse(f"pack:{user}", new_key("dispute"), TEN) is ReverseOutcome.CLAWED_BACK

        assert ledger.balance(user) == balance("0", owed="10")

    def test_unknown_grant(self, client: LedgerClient) -> None:
        """A key that granted nothing is not found."""
        found = client.reverse(new_key("pack"), new_key("refund"), TEN)

        assert found is ReverseOutcome.NOT_FOUND

    def test_refused(self, client: LedgerClient, user: UUID) -> None:
        """More than was granted, another total under the key, and what is no amount are bugs."""
        key = new_key("refund")
        client.reverse(f"pack:{user}", key, Decimal(1))

        with pytest.raises(TotalOutOfRangeError):
            client.reverse(f"pack:{user}", new_key("refund"), Decimal(11))
        with pytest.raises(ReversalKeyReusedError):
            client.reverse(f"pack:{user}", key, Decimal(2))
        with pytest.raises(InvalidAmountError):
            client.reverse(f"pack:{user}", new_key("refund"), Decimal("0.0001"))


@pytest.mark.own_database
def test_expiry(client: LedgerClient, ledger: Ledger, clock: Clock) -> None:
    """Grants whose time is over go, as many users as were asked for at a time."""
    users = [new_user() for _ in range(3)]
    for user in users:
        client.grant(user, GrantSource.PLAN, new_key(), TEN, expires_at=NOON + timedelta(days=1))
    assert client.expire_due() == 0
    clock.advance(days=1)

    assert [client.expire_due(2), client.expire_due(), client.expire_due()] == [2, 1, 0]

    assert {ledger.balance(user) for user in users} == {balance("0")}


@pytest.mark.own_database
def test_seal(client: LedgerClient, user: UUID) -> None:
    """What was complete at the call before is sealed, and the newest seal can be noted elsewhere."""
    assert client.seal() == Seal(sealed=0, seal_id=None, seal_hash=None)

    sealed = client.seal()

    assert (sealed.sealed, sealed.seal_id) == (1, 1)
    assert len(sealed.seal_hash or "") == 64
    assert client.seal() == Seal(0, sealed.seal_id, sealed.seal_hash)
    assert client.audit(user) == []


@pytest.mark.own_database
def test_audit(client: LedgerClient, user: UUID, superuser: Connection) -> None:
    """Right books are an empty list; wrong ones name the invariant, the user and both amounts."""
    assert client.audit() == []
    superuser.execute("set session_replication_role = replica")  # past every guard
    superuser.execute("update public.credit_grants set remaining = 9 where user_id = %s", (user,))

    (violation,) = client.audit()

    invariant = "available is what remains of the grants"
    assert violation == Violation(user, invariant, None, expected=Decimal(9), found=TEN)
    assert client.audit(user) == [violation]
    assert client.audit(new_user()) == []

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.errors import ProviderError, UnavailableError
from holdfast.stripe_events import EVENT_KINDS
from holdfast.stripe_reader import StripeReader, Window
from tests.unit.stripe_support import Transport, client, error, listing, unreachable
from tests.unit.test_stripe_objects import INVOICE, LINE

WINDOW = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))


def reading(*answers: Any) -> tuple[StripeReader, Transport]:
    """Return a reader of a list of answers."""
    made, transport = client(*answers)
    return StripeReader(made), transport


@pytest.mark.parametrize(
    "kind", ["session", "subscription", "paid_invoice", "refund", "dispute", "price", "product"]
)
def test_what_stripe_does_not_have_is_none(kind: str) -> None:
    """A missing object is an answer; a refusal is not."""
    reader, _ = reading(error(404, "resource_missing"))
    assert getattr(reader, kind)("x_1") is None

    reader, _ = reading(error(401))
    with pytest.raises(ProviderError):
        getattr(reader, kind)("x_1")


def test_an_invoice_that_is_not_paid_is_none() -> None:
    """Only a paid one is a fact to grant by."""
    reader, _ = reading((200, {**INVOICE, "object": "invoice", "status": "open"}))

    assert reader.paid_invoice("in_1") is None


def test_all_lines_of_a_long_invoice_are_read() -> None:
    """An invoice shows its first lines only; the plan's own may be on a later page."""
    first = {**INVOICE, "object": "invoice", "lines": {"data": [LINE], "has_more": True}}
    lines = [{**LINE, "object": "line_item", "id": f"il_{n}"} for n in range(3)]
    reader, transport = reading((200, first), listing(*lines[:2], has_more=True), listing(lines[2]))

    invoice = reader.paid_invoice("in_1")

    assert invoice is not None
    assert [line.id for line in invoice.lines] == ["il_0", "il_1", "il_2"]
    assert "/v1/invoices/in_1/lines" in transport.requests[1][1]


def test_undelivered_events_are_asked_for_in_full() -> None:
    """Stripe takes 20 types a call: every type is asked for, in as many calls as that takes."""
    reader, transport = reading(listing())

    assert list(reader.undelivered_events(WINDOW)) == []

    asked = "&".join(url for _, url, _, _ in transport.requests)
    assert all(f"={event_type}" in asked for event_type in EVENT_KINDS)
    assert all("delivery_success=false" in url for _, url, _, _ in transport.requests)
    assert all(url.count("types[") <= 20 for _, url, _, _ in transport.requests)


def test_a_list_that_breaks_off_is_unavailability() -> None:
    """What came before it stays; the caller learns that there is more."""
    refund = {"object": "refund", "id": "re_1", "amount": 5, "currency": "usd"}
    reader, _ = reading(listing(refund, has_more=True), unreachable())
    found = reader.refunds(WINDOW)

    assert next(found).id == "re_1"
    with pytest.raises(UnavailableError):
        next(found)


def test_a_window_excludes_its_end() -> None:
    """Windows that touch do not overlap."""
    assert WINDOW.filter == {"gte": 1793491200, "lt": 1793577600}

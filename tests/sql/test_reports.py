"""What an operator reads: each report against books whose figures are known."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.factories import Backend, Order, new_key, new_user

pytestmark = pytest.mark.own_database

PRICE = {"unit_credits": "0.5", "units_per_output": 1, "output_count": 2}


def order(backend: Backend, model: str) -> Order:
    """Return an affordable order of two outputs for 3 credits that cost the operator 1."""
    user = new_user()
    backend.ledger.grant(user, 3)
    return Order(user, 3, 2, model=model)


def test_models(backend: Backend) -> None:
    """Per model: what was charged, what the provider billed for what it delivered, how often money went back."""
    for delivered in (2, 1):
        created = backend.create(order(backend, "baby/one"))
        generation, provider_id = created["generation_id"], new_key("gen")
        backend.db.connection("postgres").execute(
            "update backend.dispatches set price = %s where generation_id = %s",
            (json.dumps(PRICE), generation),
        )
        backend.submit(generation, provider_id)
        backend.callback(provider_id, "succeeded", urls=["https://m.test/0", "https://m.test/1"])
        backend.complete(generation, delivered)
    backend.refuse(backend.create(order(backend, "baby/two"))["generation_id"])

    reports = backend.db.rows("select * from backend.report_models")

    assert reports == [
        {
            "model": "baby/one",
            "jobs": 2,
            "charged_credits": Decimal("4.5"),
            "provider_credits": Decimal(2),
            "refunded_credits": Decimal("1.5"),
            "refund_rate": Decimal("0.5"),
        },
        {
            "model": "baby/two",
            "jobs": 1,
            "charged_credits": 0,
            "provider_credits": 0,
            "refunded_credits": Decimal(3),
            "refund_rate": Decimal(1),
        },
    ]


def test_jobs_and_failures(backend: Backend) -> None:
    """Jobs are counted by state and kind, failures by model and code."""
    backend.queued()
    for _ in range(2):
        backend.refuse(backend.queued(), "content_rejected")

    jobs = backend.db.rows("select status, kind, jobs from backend.report_jobs")
    failures = backend.db.rows("select model, error_code, jobs from backend.report_failures")

    assert jobs == [
        {"status": "failed", "kind": "image", "jobs": 2},
        {"status": "queued", "kind": "image", "jobs": 1},
    ]
    assert failures == [{"model": "baby/one", "error_code": "content_rejected", "jobs": 2}]


def test_purchases(backend: Backend) -> None:
    """Purchases are summed by day, state and currency."""
    for _ in range(2):
        backend.checkout_event(backend.open_purchase(credits_=10, amount_minor=1000))
    backend.open_purchase(credits_=25, amount_minor=2500)

    found = backend.db.rows(
        "select status, purchases, amount_minor, credits from backend.report_purchases"
    )

    assert found == [
        {"status": "open", "purchases": 1, "amount_minor": 2500, "credits": 25},
        {"status": "paid", "purchases": 2, "amount_minor": 2000, "credits": 20},
    ]


def test_oldest_reservation(backend: Backend) -> None:
    """Open reservations come oldest first, settled ones not at all."""
    first = backend.queued()
    second = backend.queued()
    backend.refuse(backend.queued())

    found = backend.db.rows(
        "select reservation_id, status from backend.report_reservations order by reserved_at"
    )

    assert found == [
        {"reservation_id": first, "status": "queued"},
        {"reservation_id": second, "status": "queued"},
    ]

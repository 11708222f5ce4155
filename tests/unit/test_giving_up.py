"""Giving up on the provider: whoever learns that nothing can arrive any more refunds, and tells the operator once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from holdfast.babysea import BabySeaClient
from holdfast.observability import metrics
from holdfast.usecases.ask_provider import ProviderInquiry

GENERATION = UUID("22222222-2222-4222-8222-222222222222")
NOT_FOUND = {
    "status": "error",
    "error": {"code": "BSE3001", "type": "not_found", "message": "gone", "retryable": False},
}


class Database:
    """Refunds what is still open."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.asked: list[tuple[UUID, str]] = []

    def abandon(self, generation_id: UUID, code: str) -> bool:
        """Refund, unless it has ended meanwhile."""
        self.asked.append((generation_id, code))
        return self.is_open


@pytest.fixture(autouse=True)
def _no_metrics() -> Iterator[None]:
    metrics().metric_set.clear()
    yield
    metrics().metric_set.clear()


def inquiry(database: Database) -> ProviderInquiry:
    """Return an inquiry at a provider that knows of nothing."""
    nothing = httpx.MockTransport(lambda _: httpx.Response(404, json=NOT_FOUND))
    client = BabySeaClient(
        "bye_test_key", "https://api.example.com", http=httpx.Client(transport=nothing)
    )
    unused: Any = None
    stands_in: Any = database
    return ProviderInquiry(unused, stands_in, client, unused)


@pytest.mark.parametrize("ask", ["look", "stop", "try_stop"])
def test_what_the_provider_has_forgotten_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture, ask: str
) -> None:
    """However it was asked: one refund, one error line that the runbook names, one count that the alarms hear."""
    database = Database(is_open=True)

    assert getattr(inquiry(database), ask)(GENERATION, "job-1") is None

    assert database.asked == [(GENERATION, "unknown_to_provider")]
    assert metrics().metric_set["GivenUp"]["Value"] == [1.0]
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.getMessage() == "generation given up"


@pytest.mark.parametrize("ask", ["look", "stop", "try_stop"])
def test_what_has_ended_meanwhile_wakes_nobody(caplog: pytest.LogCaptureFixture, ask: str) -> None:
    """Nothing was refunded by this call, so nothing was given up."""
    database = Database(is_open=False)

    assert getattr(inquiry(database), ask)(GENERATION, "job-1") is None

    assert len(database.asked) == 1
    assert "GivenUp" not in metrics().metric_set
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]

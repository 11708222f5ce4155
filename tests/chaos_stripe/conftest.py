from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.postgres import PostgresServer
from tests.chaos_stripe.campaign import Campaign


@pytest.fixture(name="campaign", scope="session")
def _campaign(postgres: PostgresServer) -> Iterator[Campaign]:
    """Return a campaign that all tests of the process share: each run has a database of its own."""
    with Campaign(postgres) as campaign:
        yield campaign

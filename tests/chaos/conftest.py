from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from local.postgres import PostgresServer
from tests.chaos.campaign import Campaign
from tests.chaos.defects import defective

Campaigns = Callable[..., AbstractContextManager[Campaign]]


@pytest.fixture(name="campaigns")
def _campaigns(postgres: PostgresServer) -> Campaigns:
    """Return a function that starts a campaign, on a product with the named defect if there is one."""

    @contextmanager
    def start(defect: str | None = None) -> Iterator[Campaign]:
        with defective(defect) as sql, Campaign(postgres, defect=sql) as campaign:
            yield campaign

    return start

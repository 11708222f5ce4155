"""Fixtures of the BabySea tests: the stand-in at a quick pace, a client, a callback receiver."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from local.standins.babysea import BabySea
from local.standins.babysea_behaviour import Behaviour
from tests.contract.babysea_support import API_KEY, SECRET, Api, Receiver


@pytest.fixture(scope="module")
def receiver_server() -> Iterator[Receiver]:
    """Yield the running receiver of one module."""
    with Receiver() as running:
        yield running


@pytest.fixture
def receiver(receiver_server: Receiver) -> Receiver:
    """Return a callback receiver that has seen nothing yet."""
    receiver_server.callbacks.clear()
    receiver_server.answers.clear()
    return receiver_server


@pytest.fixture
def babysea(receiver: Receiver) -> Iterator[BabySea]:
    """Yield a stand-in whose steps take hundredths of a second."""
    quick = Behaviour(
        pending=0.02,
        processing=0.03,
        webhook_waits=(0, 0.01, 0.01, 0.01, 0.01),
        webhook_late=0.3,
        file_slow=0.3,
    )
    with BabySea(API_KEY, receiver.hook, SECRET, behaviour=quick) as running:
        yield running


@pytest.fixture
def api(babysea: BabySea) -> Iterator[Api]:
    """Yield a client that has the key."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    # loading certificates takes longer than most of these tests
    with httpx.Client(base_url=babysea.url, headers=headers, trust_env=False, verify=False) as http:
        yield Api(http)

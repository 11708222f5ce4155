"""The sweep's time: what it begins ends before Lambda ends it."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from holdfast.babysea import BabySeaClient
from holdfast.errors import ProviderUnavailableError
from holdfast.usecases.ask_provider import SEARCH_SECONDS, ProviderInquiry
from holdfast.usecases.recover import Patience
from local.database import ROOT
from local.intrinsics import load

VARIABLES = {
    "STAGE": "test",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
    "BABYSEA_API_KEY": "bye_test_key_of_a_test",
    "BABYSEA_BASE_URL": "https://api.example.com",
    "STRIPE_API_KEY": "sk_test_key_of_a_test",
    "SWEEP_AFTER_SECONDS": "61",
    "DEADLINE_IMAGE_SECONDS": "62",
    "DEADLINE_VIDEO_SECONDS": "163",
    "GIVE_UP_AFTER_SECONDS": "86464",
    "SETTLE_QUEUE_URL": "https://queue.example.com/settle",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "POWERTOOLS_METRICS_NAMESPACE": "Holdfast",
    "POWERTOOLS_SERVICE_NAME": "recovery_sweep",
}


@pytest.fixture(name="sweep", scope="module")
def _sweep() -> ModuleType:
    """Return the function as Lambda loads it; it calls nobody by that."""
    path = ROOT / "functions" / "recovery_sweep" / "app.py"
    found = importlib.util.spec_from_file_location("recovery_sweep_app", path)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    with patch.dict("os.environ", VARIABLES):
        found.loader.exec_module(module)
    return module


class SlowProvider:
    """Takes all the time that a call may, and its list never ends."""

    def __init__(self, client: BabySeaClient) -> None:
        self.now = 0.0
        self.timeouts: list[Any] = []
        client._http = httpx.Client(transport=httpx.MockTransport(self._answer))
        client._clock = lambda: self.now
        self.client = client

    def _answer(self, request: httpx.Request) -> httpx.Response:
        timeout = request.extensions["timeout"]
        self.timeouts.append(timeout)
        self.now += timeout["connect"] + timeout["read"]
        rows = [{"generation_id": str(n), "generation_status": "failed"} for n in range(100)]
        page = {"generations": rows}
        return httpx.Response(
            200,
            json={
                "status": "success",
                "request_id": "r",
                "data": page,
                "total": 9999,
                "limit": 100,
                "offset": 0,
            },
        )


def test_the_longest_step_fits_into_the_reserve(sweep: ModuleType) -> None:
    """Send, search and look, each as slow as it may be, end within what is kept back; so do four calls of Stripe."""
    provider = SlowProvider(sweep.provider)
    inquiry = ProviderInquiry(*4 * [None], clock=lambda: provider.now)  # type: ignore[arg-type]
    inquiry._provider = provider.client

    provider.client.list_generations(limit=1)  # one call, as sending or looking is
    one_call = provider.now
    with pytest.raises(ProviderUnavailableError):
        inquiry.find("{}", "baby/one", 90_000)
    search = provider.now - one_call

    assert one_call <= sweep.PROVIDER_SECONDS
    assert search < SEARCH_SECONDS + sweep.PROVIDER_SECONDS
    assert 2 * one_call + search + 3 <= sweep.STOP_BEFORE_MILLISECONDS / 1000
    stripe = sweep.reader._v1._requestor._get_http_client()._timeout
    assert 4 * sum(stripe) + 3 <= sweep.STOP_BEFORE_MILLISECONDS / 1000


def test_a_list_without_an_end_proves_nothing(sweep: ModuleType) -> None:
    """However fast its pages come, what was not found in 2,000 records may be in the next one."""
    provider = SlowProvider(sweep.provider)
    inquiry = ProviderInquiry(*4 * [None], clock=lambda: 0.0)  # type: ignore[arg-type]
    inquiry._provider = provider.client

    with pytest.raises(ProviderUnavailableError, match="too long"):
        inquiry.find("{}", "baby/one", 90_000)


def test_its_patience_is_what_is_configured(sweep: ModuleType) -> None:
    """Each of the four waits has its own variable, and none stands for another."""
    assert sweep.sweep._patience == Patience(idle=61, image=62, video=163, give_up=86_464)


def test_there_is_time_to_work(sweep: ModuleType) -> None:
    """What is kept back leaves a third of the function's timeout to begin something in."""
    function = load(ROOT / "template.yaml")["Resources"]["RecoverySweepFunction"]
    timeout = function["Properties"]["Timeout"]

    assert timeout * 2 / 3 >= sweep.STOP_BEFORE_MILLISECONDS / 1000

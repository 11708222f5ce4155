"""The sweep's time: what it begins ends before Lambda ends it."""

from __future__ import annotations

import re

from local.database import ROOT
from local.intrinsics import load

SWEEP = (ROOT / "functions" / "recovery_sweep" / "app.py").read_text()
CONNECT_SECONDS = 2
QUERIES_AND_QUEUE_SECONDS = 3


def constant(name: str) -> int:
    """Return a constant of the function."""
    (found,) = re.findall(rf"^{name} = ([\d_]+)$", SWEEP, re.MULTILINE)
    return int(found)


def test_the_longest_step_fits_into_the_reserve() -> None:
    """Three calls of the provider, or four of Stripe, each as slow as it may be, end within what is kept back."""
    reserve = constant("STOP_BEFORE_MILLISECONDS") / 1000 - QUERIES_AND_QUEUE_SECONDS

    assert 3 * constant("PROVIDER_SECONDS") <= reserve
    assert 4 * (constant("STRIPE_READ_SECONDS") + CONNECT_SECONDS) <= reserve


def test_there_is_time_to_work() -> None:
    """What is kept back leaves a third of the function's timeout to begin something in."""
    function = load(ROOT / "template.yaml")["Resources"]["RecoverySweepFunction"]
    timeout = function["Properties"]["Timeout"]

    assert constant("STOP_BEFORE_MILLISECONDS") / 1000 <= timeout * 2 / 3

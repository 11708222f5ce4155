"""`make doctor` against the local cloud: a deployment that is well, and one defect after another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from local.database import ROOT
from tests.e2e.world import World

Doctor = Callable[..., tuple[int, str]]


@pytest.fixture(name="doctor")
def _doctor(world: World) -> Doctor:
    """Return a call that runs the doctor: its exit status and what it printed."""

    def run(**environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tools.doctor"],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/shared'}",
                "COLUMNS": "400",
                "DATABASE_URL": world.stack.secrets["DATABASE_URL"],
                "STRIPE_API_KEY": world.stack.secrets["STRIPE_API_KEY"],
                "STRIPE_API_BASE": world.stack.stripe.url,
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_local_cloud_is_well(doctor: Doctor) -> None:
    """Nothing is to be done on a fresh deployment, and what was looked at is named."""
    status, said = doctor()

    assert status == 0, said
    assert "Stripe's products and prices are those of catalog.toml" in said
    assert "sends every event that is acted on" in said
    assert "7 can be bought" in said


def test_drift_is_found_and_mended(world: World, doctor: Doctor) -> None:
    """A price archived by hand is named, with the command that mends it."""
    stripe = world.stack.stripe
    (price,) = (
        p for p in stripe.state.newest("price") if p["lookup_key"] == "holdfast_pack_builder"
    )
    price["active"] = False

    try:
        status, said = doctor()
    finally:
        price["active"] = True

    assert status == 1
    assert "create price holdfast_pack_builder" in said
    assert "make stripe-catalog" in said


def test_a_webhook_that_leaves_events_out(world: World, doctor: Doctor) -> None:
    """The event types that the endpoint does not send are named."""
    webhooks = world.stack.stripe.webhooks
    kept = webhooks.enabled_events
    webhooks.enabled_events = ("checkout.session.completed",)

    try:
        status, said = doctor()
    finally:
        webhooks.enabled_events = kept

    assert status == 1
    assert "not sent:" in said
    assert "invoice.paid" in said


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"STRIPE_API_KEY": "sk_test_of_somebody_else"}, "check STRIPE_API_KEY"),
        ({"STRIPE_LIVEMODE": "true"}, "livemode is False"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "check DATABASE_URL"),
        ({"DATABASE_URL": ""}, "set DATABASE_URL"),
        ({"STRIPE_API_KEY": ""}, "set STRIPE_API_KEY"),
    ],
)
def test_wrong_settings(doctor: Doctor, environment: dict[str, str], words: str) -> None:
    """A setting that is missing or wrong is said in a sentence, without its value."""
    status, said = doctor(**environment)

    assert status == 1
    assert words in said
    assert "sk_test_" not in said

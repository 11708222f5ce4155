"""Every sample event against what `sam build` packed, each function in its own bare process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from local.samples import freshened
from local.stack import Stack
from tests.template.support import event_files, read_event

pytestmark = pytest.mark.timeout(900)  # the first build fetches its tools

AS_SHIPPED = {
    "http.catalog.json": 200,
    "http.models.json": 200,
    "babysea.generation-completed.base64.json": 400,
    "babysea.generation-completed.json": 400,
    "babysea.generation-failed.json": 400,
    "stripe.checkout-session-completed.json": 400,
    "stripe.checkout-session-completed.unpaid.json": 400,
    "stripe.invoice-paid.json": 400,
    "stripe.refund-created.json": 400,
}
"""Where it is not 401: the webhooks' signatures are too old, two routes need no user."""

FRESHENED = {
    "http.account.json": (200, "available"),
    "http.adjust-credits.json": (403, "code"),
    "http.alerts.json": (200, "alerts"),
    "http.change-account.json": (204, ""),
    "http.delete-generation.json": (404, "code"),
    "http.delete-upload.json": (404, "code"),
    "http.generation-events.json": (404, "code"),
    "http.uploads.json": (200, "uploads"),
    "http.catalog.json": (200, "packs"),
    "http.create-checkout.json": (201, "checkout_url"),
    "http.create-checkout.plan.json": (201, "checkout_url"),
    "http.open-billing-portal.json": (404, "code"),
    "http.create-generation.json": (202, "id"),
    "http.create-upload.json": (201, "upload_url"),
    "http.estimate.json": (200, "can_afford"),
    "http.get-checkout.json": (404, "code"),
    "http.get-generation.json": (404, "code"),
    "http.cancel-generation.json": (404, "code"),
    "http.ledger.json": (200, "entries"),
    "http.list-generations.json": (200, "generations"),
    "http.models.json": (200, "models"),
    "stripe.checkout-session-completed.json": (200, "outcome"),
    "stripe.checkout-session-completed.unpaid.json": (200, "outcome"),
    "stripe.invoice-paid.json": (200, "outcome"),
    "stripe.refund-created.json": (502, "code"),
    "babysea.generation-completed.json": (200, "outcome"),
    "babysea.generation-completed.base64.json": (200, "outcome"),
    "babysea.generation-failed.json": (200, "outcome"),
}
"""The status and one field of the answer once token and signature are good."""

NOTHING_CLEANED = {
    "dry_run": False,
    "unused_assets": 0,
    "removals": 0,
    "failed": 0,
    "events": {"generation_events": 0, "inbox": 0, "stripe_events": 0},
}
BACKGROUND = {
    "sqs.settle.json": {"batchItemFailures": []},
    "scheduler.sweep.json": {
        "claimed": 0,
        "failed": 0,
        "poisoned": 0,
        "expired_grants": 0,
        "sealed_entries": 0,
        "repaired": 0,
        "months_granted": 0,
        "is_complete": True,
        "alerts_sent": 0,
    },
    "scheduler.clean-up.json": NOTHING_CLEANED,
    "scheduler.clean-up.dry-run.json": NOTHING_CLEANED | {"dry_run": True},
}

EVENTS = {path.name: path for path in event_files()}


@pytest.fixture(scope="module")
def stack(local_bundle: Path) -> Iterator[Stack]:
    """Return the built bundle as a running product."""
    with Stack(
        template=local_bundle / "template.yaml",
        mode="artifact",
        poll_queues=False,
        run_schedules=False,
    ) as running:
        yield running


@pytest.fixture
def token(stack: Stack) -> str:
    """Return the token of a fresh user with 10 credits, who never bought anything."""
    name = uuid4().hex
    user_id, access_token = stack.supabase.create_user(f"{name}@example.com", "correct horse")
    with psycopg.connect(stack.admin_database_url) as admin:
        admin.execute("select ledger.grant(%s, 'pack', %s, 10)", (UUID(str(user_id)), name))
    return access_token


def invoke(stack: Stack, event: dict[str, Any], logical_id: str) -> Any:
    """Return the function's answer; a crash fails the test with the log."""
    invocation = stack.cloud.invoke(logical_id, event)
    assert not invocation.is_error, invocation.log
    return json.loads(invocation.payload)


def function_of(stack: Stack, event: dict[str, Any]) -> str:
    """Return the function a sample is for, by its route, its source or what it asks for."""
    if "Records" in event:
        return "SettleGenerationFunction"
    if "dry_run" in event:
        return "CleanUpFunction"
    if "routeKey" not in event:
        (schedule,) = event["resources"]
        return "CleanUpFunction" if "CleanUp" in schedule else "RecoverySweepFunction"
    return next(
        logical_id
        for logical_id, function in stack.cloud.functions.items()
        if any(f"{r.method} {r.path}" == event["routeKey"] for r in function.spec.routes)
    )


def test_every_sample_is_covered() -> None:
    """A sample nobody invokes would rot."""
    assert set(EVENTS) == set(FRESHENED) | set(BACKGROUND)


@pytest.mark.parametrize("name", sorted(FRESHENED))
def test_a_sample_as_shipped_is_refused_politely(stack: Stack, name: str) -> None:
    """The function starts with only its own packages, reads the event and answers as events/README.md says."""
    event = read_event(EVENTS[name])

    answer = invoke(stack, event, function_of(stack, event))

    assert answer["statusCode"] == AS_SHIPPED.get(name, 401), answer["body"]


@pytest.mark.parametrize("name", sorted(FRESHENED))
def test_a_sample_with_good_credentials_is_served(stack: Stack, token: str, name: str) -> None:
    """With a real token or a fresh signature the same body is accepted."""
    event = freshened(read_event(EVENTS[name]), stack, token)
    status, field = FRESHENED[name]

    answer = invoke(stack, event, function_of(stack, event))

    assert answer["statusCode"] == status, answer["body"]
    assert not field or field in json.loads(answer["body"])


@pytest.mark.parametrize("name", sorted(BACKGROUND))
def test_a_background_sample_is_worked_off(stack: Stack, name: str) -> None:
    """A settlement that is none comes not back; a sweep with nothing to do says so."""
    event = read_event(EVENTS[name])

    answer = invoke(stack, event, function_of(stack, event))

    answer.pop("retried", None)  # the sample of an invoice may have been here, and waits parked
    assert answer == BACKGROUND[name]

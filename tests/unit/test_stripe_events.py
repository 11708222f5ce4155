from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigurationError, InvalidSignatureError, MalformedRequestError
from holdfast.stripe_events import EVENT_KINDS, ObjectKind, verify_event
from tests.unit.stripe_support import SESSION

SECRET = "whsec_of_the_endpoint"


def event_body(event_type: str, session: dict[str, Any] | None = None, **envelope: Any) -> bytes:
    """Return an event as Stripe sends it."""
    return json.dumps(
        {
            "id": "evt_1",
            "object": "event",
            "api_version": stripe.api_version,
            "created": 1795000001,
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": event_type,
            "data": {"object": {**SESSION, **(session or {})}},
            **envelope,
        }
    ).encode()


def signed(body: bytes, secret: str = SECRET, timestamp: int | None = None) -> str:
    """Return the signature header for a body."""
    header: str = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, timestamp
    )
    return header


def parse(body: bytes, header: str | None = None, secrets: tuple[str, ...] = (SECRET,)) -> Any:
    """Verify a delivery, by default a well signed one in test mode."""
    return verify_event(body, signed(body) if header is None else header, secrets, livemode=False)


def test_a_genuine_event_carries_its_object_as_it_was() -> None:
    """The envelope's id, type and time, and the object's id and snapshot, unknown fields included."""
    event = parse(event_body("checkout.session.completed"))

    assert (event.id, event.type, event.created) == (
        "evt_1",
        "checkout.session.completed",
        1795000001,
    )
    assert (event.kind, event.object_id) == (ObjectKind.CHECKOUT_SESSION, "cs_test_1")
    assert event.snapshot == SESSION


@pytest.mark.parametrize("event_type", ["invoice.payment_failed", "charge.refunded", "new.thing"])
def test_other_events_are_of_no_kind(event_type: str) -> None:
    """Types that are not acted on are recognised and left alone."""
    assert parse(event_body(event_type)).kind is None


def test_each_kind_of_object_has_its_events() -> None:
    """Every kind is listened to by at least one type of event."""
    assert set(EVENT_KINDS.values()) == set(ObjectKind)


BODY = event_body("checkout.session.completed")
V1 = signed(BODY).split("v1=")[1]
NOW = int(datetime.now(tz=UTC).timestamp())


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (BODY, ""),
        (BODY, "nonsense"),
        (BODY, f"t={NOW}"),
        (BODY, f"v1={V1}"),
        (BODY, f"t={NOW},v0={V1}"),
        (BODY, f"t={NOW},v1={'0' * 64}"),
        (BODY, f"t={NOW},v1=é"),
        (BODY, f"t=abc,v1={V1}"),
        (BODY, signed(BODY, "whsec_of_somebody_else")),
        (BODY, signed(BODY, timestamp=NOW - 302)),
        (BODY + b" ", signed(BODY)),
        (b"\xff\xfe", f"t={NOW},v1={V1}"),
        (b"", f"t={NOW},v1={V1}"),
        (b"no json", signed(b"no json")),
        (b"[]", signed(b"[]")),
        (b"null", signed(b"null")),
        (b'{"object": "v2.core.event"}', signed(b'{"object": "v2.core.event"}')),
    ],
    ids=itertools.count(),  # the time is in the headers, and names must be the same in every worker
)
def test_what_is_not_a_signed_event_is_refused(body: bytes, header: Any) -> None:
    """Every kind of bad delivery is one refusal, never an error of ours."""
    with pytest.raises(InvalidSignatureError):
        parse(body, header)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 127))
def test_one_changed_byte_is_noticed(position: Any, change: Any) -> None:
    """A body that differs in a single byte is refused."""
    changed = bytearray(BODY)
    changed[position] ^= change

    with pytest.raises(InvalidSignatureError):
        parse(bytes(changed), signed(BODY))


def test_two_secrets_let_a_rotation_overlap() -> None:
    """Either secret may have signed."""
    header = signed(BODY, "whsec_the_old_secret")

    assert parse(BODY, header, (SECRET, "whsec_the_old_secret")).id == "evt_1"
    assert parse(BODY, signed(BODY), (SECRET, "whsec_the_old_secret")).id == "evt_1"


@pytest.mark.parametrize("secrets", [(), ("",), (" ",), (SECRET, "")])
def test_empty_secrets_are_our_fault(secrets: tuple[str, ...]) -> None:
    """Stripe's own check takes an empty secret; this one does not."""
    with pytest.raises(ConfigurationError):
        parse(BODY, signed(BODY, ""), secrets)


def test_events_of_the_other_mode_are_refused() -> None:
    """A live stage takes no test money, nor the other way round."""
    for livemode in (True, False):
        body = event_body("checkout.session.completed", livemode=not livemode)

        with pytest.raises(MalformedRequestError) as caught:
            verify_event(body, signed(body), (SECRET,), livemode=livemode)
        assert not isinstance(caught.value, InvalidSignatureError)


def test_an_event_of_another_api_version_has_no_snapshot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its fields may lie elsewhere: its object is read again, and somebody is told."""
    event = parse(event_body("checkout.session.completed", api_version="2020-08-27"))

    assert (event.object_id, event.snapshot) == ("cs_test_1", None)
    assert "another API version" in caplog.text

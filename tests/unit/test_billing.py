import itertools
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from holdfast.billing import (
    CheckoutEvent,
    CheckoutSession,
    CheckoutState,
    OtherEvent,
    PackPurchase,
    StripeBilling,
    parse_event,
)
from holdfast.errors import (
    ConfigurationError,
    InvalidSignatureError,
    MalformedRequestError,
    ProviderError,
    UnavailableError,
)

SECRET = "whsec_of_the_endpoint"
PURCHASE = PackPurchase(
    id=UUID("66666666-6666-4666-8666-666666666666"),
    user_id=UUID("33333333-3333-4333-8333-333333333333"),
    name="500 credits",
    amount_minor=999,
    currency="usd",
)
SESSION: dict[str, Any] = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "mode": "payment",
    "status": "complete",
    "payment_status": "paid",
    "client_reference_id": str(PURCHASE.id),
    "currency": "usd",
    "amount_subtotal": 999,
    "amount_total": 999,
    "payment_intent": "pi_1",
    "metadata": {"user_id": str(PURCHASE.user_id)},
    "url": None,
    "created": 1795000000,
    "expires_at": 1795086400,
    "livemode": False,
    "a_field_of_the_future": {"x": [1]},
}


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
    """Parse a delivery, by default a well signed one in test mode."""
    return parse_event(body, signed(body) if header is None else header, secrets, livemode=False)


def test_a_paid_session_is_told_with_everything_the_purchase_is_compared_with() -> None:
    """A completed, paid Checkout becomes a frozen event with ids, money and claims."""
    assert parse(event_body("checkout.session.completed")) == CheckoutEvent(
        id="evt_1",
        type="checkout.session.completed",
        created=1795000001,
        session_id="cs_test_1",
        mode="payment",
        state=CheckoutState.PAID,
        purchase_id=str(PURCHASE.id),
        user_id=str(PURCHASE.user_id),
        amount_minor=999,
        currency="usd",
        payment_intent_id="pi_1",
        customer_id=None,
        subscription_id=None,
    )


@pytest.mark.parametrize(
    ("event_type", "changes", "state"),
    [
        ("completed", {"payment_status": "unpaid"}, CheckoutState.PENDING),
        ("completed", {"payment_status": "no_payment_required"}, CheckoutState.PAID),
        ("completed", {"mode": "subscription"}, CheckoutState.PAID),
        ("completed", {"mode": "setup"}, CheckoutState.OTHER),
        ("async_payment_succeeded", {}, CheckoutState.PAID),
        ("async_payment_succeeded", {"payment_status": "unpaid"}, CheckoutState.PENDING),
        ("async_payment_failed", {"payment_status": "unpaid"}, CheckoutState.FAILED),
        ("expired", {"status": "expired", "payment_status": "unpaid"}, CheckoutState.EXPIRED),
    ],
)
def test_money_counts_only_when_the_session_says_paid(
    event_type: Any, changes: Any, state: Any
) -> None:
    """Each event and payment status has one state; only a paid session is paid."""
    event = parse(event_body(f"checkout.session.{event_type}", changes))

    assert event.state is state


def test_bare_sessions_and_expanded_ids_are_read() -> None:
    """A session without metadata, or with its payment intent expanded, is understood."""
    bare = parse(
        event_body(
            "checkout.session.completed",
            {"metadata": None, "client_reference_id": None, "payment_intent": {"id": "pi_2"}},
        )
    )

    assert (bare.user_id, bare.purchase_id, bare.payment_intent_id) == (None, None, "pi_2")


@pytest.mark.parametrize("event_type", ["invoice.paid", "charge.refunded", "something.new"])
def test_other_events_are_named_and_nothing_else(event_type: Any) -> None:
    """Types that move no credits here are recognised and left alone."""
    assert parse(event_body(event_type)) == OtherEvent(
        id="evt_1", type=event_type, created=1795000001
    )


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
            parse_event(body, signed(body), (SECRET,), livemode=livemode)
        assert not isinstance(caught.value, InvalidSignatureError)


def test_another_api_version_is_served_and_alarmed(capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint made with another version still works, and somebody is told."""
    event = parse(event_body("checkout.session.completed", api_version="2020-08-27"))

    assert event.state is CheckoutState.PAID


class Transport(stripe.HTTPClient):
    """Answers Stripe's SDK from a list; an exception in it is raised. The last one repeats."""

    name = "test"

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, **_: Any) -> Any:
        """Note the request and return `(body, status, headers)`."""
        self.requests.append((method, url, dict(headers), parse_qs(post_data or "")))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return json.dumps(body), status, {"request-id": "req_1"}

    def _sleep_time_seconds(self, *_: Any, **__: Any) -> float:
        return 0


def error(status: int, code: str | None = None, kind: str = "invalid_request_error") -> Any:
    """Return an error answer of Stripe."""
    return status, {"error": {"type": kind, "code": code, "message": "secret words"}}


def unreachable() -> Exception:
    """Return what a transport raises for a network fault."""
    return stripe.APIConnectionError("reset", should_retry=True)  # type: ignore[no-untyped-call]


def billing(*answers: Any) -> tuple[StripeBilling, Transport]:
    """Return billing that talks to a list of answers."""
    transport = Transport(*answers)
    return StripeBilling("sk_test_1", "http://127.0.0.1:12111", http=transport), transport


def test_a_session_is_made_from_the_purchase_and_nothing_else() -> None:
    """Price, reference and claims travel inline, under a key of the purchase's own."""
    client, transport = billing((200, {**SESSION, "url": "https://pay.example.com/1"}))

    made = client.create_pack_session(
        PURCHASE,
        "cus_1",
        "https://s.example.com/ok?s={CHECKOUT_SESSION_ID}",
        "https://s.example.com/",
    )

    assert made == CheckoutSession(
        "cs_test_1", "https://pay.example.com/1", datetime.fromtimestamp(1795086400, UTC)
    )
    [(method, url, headers, form)] = transport.requests
    assert (method, url) == ("post", "http://127.0.0.1:12111/v1/checkout/sessions")
    assert headers["Idempotency-Key"] == f"checkout:{PURCHASE.id}"
    assert headers["Authorization"] == "Bearer sk_test_1"
    assert {name: value[0] for name, value in form.items()} == {
        "mode": "payment",
        "client_reference_id": str(PURCHASE.id),
        "customer": "cus_1",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": "999",
        "line_items[0][price_data][product_data][name]": "500 credits",
        "metadata[user_id]": str(PURCHASE.user_id),
        "metadata[purchase_id]": str(PURCHASE.id),
        "payment_intent_data[metadata][user_id]": str(PURCHASE.user_id),
        "payment_intent_data[metadata][purchase_id]": str(PURCHASE.id),
        "success_url": "https://s.example.com/ok?s={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://s.example.com/",
    }


def test_a_customer_is_made_once_a_user() -> None:
    """Only what never changes is sent, under a key of the user's own."""
    client, transport = billing((200, {"id": "cus_9", "object": "customer"}))

    assert client.create_customer(PURCHASE.user_id) == "cus_9"
    [(_, _, headers, form)] = transport.requests
    assert headers["Idempotency-Key"] == f"cust:{PURCHASE.user_id}"
    assert form == {"metadata[user_id]": [str(PURCHASE.user_id)]}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, CheckoutState.PAID),
        ({"payment_status": "unpaid"}, CheckoutState.PENDING),
        ({"payment_status": "unpaid", "status": "open"}, CheckoutState.OPEN),
        ({"payment_status": "unpaid", "status": "expired"}, CheckoutState.EXPIRED),
    ],
)
def test_a_session_can_be_asked_for(changes: Any, state: Any) -> None:
    """The state of a session is read by the same rules as an event."""
    client, _ = billing((200, {**SESSION, **changes}))

    found = client.get_session("cs_test_1")

    assert found is not None
    assert (found.state, found.purchase_id) == (state, str(PURCHASE.id))


def test_an_unknown_session_is_none() -> None:
    """A session Stripe does not know is no error."""
    client, _ = billing(error(404, "resource_missing"))

    assert client.get_session("cs_test_0") is None


@pytest.mark.parametrize(
    "answer",
    [
        unreachable(),
        error(500, kind="api_error"),
        error(409, kind="api_error"),
        error(429, "rate_limit"),
        error(400, "rate_limit"),
    ],
)
def test_an_unknown_outcome_is_unavailability(answer: Any) -> None:
    """Nothing answered, a conflict, a limit or a server error: come back with the same key."""
    client, transport = billing(answer)

    with pytest.raises(UnavailableError) as caught:
        client.create_customer(PURCHASE.user_id)
    assert "secret words" not in str(caught.value)
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in transport.requests}) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error(400, "parameter_unknown"), "parameter_unknown"),
        (error(400, kind="idempotency_error"), "IdempotencyError"),
        (error(401), "AuthenticationError"),
        (error(403), "PermissionError"),
        (error(402, "card_declined", "card_error"), "card_declined"),
    ],
)
def test_a_refusal_is_the_providers_error(answer: Any, code: Any) -> None:
    """A definite no names Stripe's code for us and tells the client nothing of it."""
    client, transport = billing(answer)

    with pytest.raises(ProviderError) as caught:
        client.create_customer(PURCHASE.user_id)
    assert caught.value.provider_code == code
    assert "secret words" not in f"{caught.value}{caught.value.detail}"
    assert len(transport.requests) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    """The SDK's own repetition keeps our key."""
    client, transport = billing(
        unreachable(),
        (200, {"id": "cus_9", "object": "customer"}),
    )

    assert client.create_customer(PURCHASE.user_id) == "cus_9"
    assert len(transport.requests) == 2
    assert stripe.enable_telemetry is False

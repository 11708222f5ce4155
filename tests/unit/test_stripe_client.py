from typing import Any

import pytest
import stripe

from holdfast.errors import ProviderError, UnavailableError
from holdfast.stripe_client import (
    CheckoutOrder,
    CheckoutSession,
    CustomerGoneError,
    StripeBilling,
)
from tests.unit.stripe_support import PURCHASE, SESSION, USER, Transport, client, error, unreachable

ORDER = CheckoutOrder(PURCHASE, USER, "price_1", is_plan=False)
PAGES = ("https://s.example.com/ok?s={CHECKOUT_SESSION_ID}", "https://s.example.com/")


def billing(*answers: Any) -> tuple[StripeBilling, Transport]:
    """Return billing that talks to a list of answers."""
    made, transport = client(*answers)
    return StripeBilling(made), transport


def form_of(transport: Transport) -> dict[str, str]:
    """Return the form of the one request."""
    [(_, _, _, form)] = transport.requests
    return {name: value[0] for name, value in form.items()}


def test_a_session_is_made_from_the_purchase_and_nothing_else() -> None:
    """Price, customer, reference and claims travel under a key of the purchase's and the customer's own."""
    stripe_, transport = billing((200, {**SESSION, "url": "https://pay.example.com/1"}))

    made = stripe_.create_session(ORDER, "cus_1", *PAGES)

    assert made == CheckoutSession("cs_test_1", "https://pay.example.com/1")
    [(method, url, headers, _)] = transport.requests
    assert (method, url) == ("post", "http://127.0.0.1:12111/v1/checkout/sessions")
    assert headers["Idempotency-Key"] == f"checkout:{PURCHASE}:cus_1"
    assert headers["Authorization"] == "Bearer sk_test_1"
    assert form_of(transport) == {
        "mode": "payment",
        "client_reference_id": str(PURCHASE),
        "customer": "cus_1",
        "line_items[0][quantity]": "1",
        "line_items[0][price]": "price_1",
        "metadata[user_id]": str(USER),
        "metadata[purchase_id]": str(PURCHASE),
        "payment_intent_data[metadata][user_id]": str(USER),
        "payment_intent_data[metadata][purchase_id]": str(PURCHASE),
        "success_url": PAGES[0],
        "cancel_url": PAGES[1],
    }


def test_a_plans_session_makes_a_subscription_that_names_its_user() -> None:
    """The claims are on the subscription, from which each of its invoices copies them; a trial only if there is one."""
    for trial_days, trial in ((0, None), (14, "14")):
        stripe_, transport = billing((200, {**SESSION, "url": "https://pay.example.com/1"}))

        stripe_.create_session(
            CheckoutOrder(PURCHASE, USER, "price_1", is_plan=True, trial_days=trial_days),
            "cus_1",
            *PAGES,
        )

        form = form_of(transport)
        assert form["mode"] == "subscription"
        assert form["subscription_data[metadata][user_id]"] == str(USER)
        assert form["subscription_data[metadata][purchase_id]"] == str(PURCHASE)
        assert form.get("subscription_data[trial_period_days]") == trial
        assert not [name for name in form if name.startswith("payment_intent_data")]


def test_a_customer_is_made_once_a_user_and_number() -> None:
    """Only what never changes is sent, under a key of the user's own."""
    stripe_, transport = billing((200, {"id": "cus_9", "object": "customer"}))

    assert stripe_.create_customer(USER, 2) == "cus_9"
    [(_, _, headers, form)] = transport.requests
    assert headers["Idempotency-Key"] == f"cust:{USER}:2"
    assert form == {"metadata[user_id]": [str(USER)]}


def test_a_portal_page_is_of_one_customer() -> None:
    """The page is made for the customer and leads back to the given URL."""
    stripe_, transport = billing(
        (200, {"object": "billing_portal.session", "url": "https://portal.example.com/1"})
    )

    url = stripe_.create_portal_session("cus_1", PAGES[1])

    assert url == "https://portal.example.com/1"
    assert form_of(transport) == {"customer": "cus_1", "return_url": PAGES[1]}


def test_a_page_is_closed_by_its_id() -> None:
    """The session is named in the path; one that is not open is refused."""
    stripe_, transport = billing((200, SESSION), error(400))

    stripe_.expire_session("cs_test_1")

    [(method, url, _, _)] = transport.requests
    assert (method, url) == (
        "post",
        "http://127.0.0.1:12111/v1/checkout/sessions/cs_test_1/expire",
    )
    with pytest.raises(ProviderError):
        stripe_.expire_session("cs_test_1")


def test_a_deleted_customer_is_told_apart_from_other_refusals() -> None:
    """Only a missing customer is gone; a missing price stays a refusal."""
    gone = {"type": "invalid_request_error", "code": "resource_missing", "message": "no"}
    stripe_, _ = billing((400, {"error": {**gone, "param": "customer"}}))
    with pytest.raises(CustomerGoneError):
        stripe_.create_session(ORDER, "cus_1", *PAGES)
    with pytest.raises(CustomerGoneError):
        stripe_.create_portal_session("cus_1", PAGES[1])

    stripe_, _ = billing((400, {"error": {**gone, "param": "line_items[0][price]"}}))
    with pytest.raises(ProviderError):
        stripe_.create_session(ORDER, "cus_1", *PAGES)


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
    stripe_, transport = billing(answer)

    with pytest.raises(UnavailableError) as caught:
        stripe_.create_customer(USER, 1)
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
    stripe_, transport = billing(answer)

    with pytest.raises(ProviderError) as caught:
        stripe_.create_customer(USER, 1)
    assert caught.value.provider_code == code
    assert "secret words" not in f"{caught.value}{caught.value.detail}"
    assert len(transport.requests) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    """The SDK's own repetition keeps our key."""
    stripe_, transport = billing(
        unreachable(),
        (200, {"id": "cus_9", "object": "customer"}),
    )

    assert stripe_.create_customer(USER, 1) == "cus_9"
    assert len(transport.requests) == 2
    assert stripe.enable_telemetry is False

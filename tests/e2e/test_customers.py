"""Who a user is at Stripe: one customer, also when many pages are opened at once, and the portal for it."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.buyers import Buyer
from tests.e2e.people import at_once, problem
from tests.e2e.world import World

CREATE = "POST /v1/customers"


@pytest.fixture(name="buyer")
def _buyer(world: World) -> Buyer:
    """Return a fresh user."""
    return Buyer(world)


def test_twenty_first_checkouts_make_one_customer(world: World, buyer: Buyer) -> None:
    """Twenty pages opened at once by a new user are of one customer, and each can be paid."""
    stripe = world.stack.stripe
    stripe.hang_next(2.5, times=20, match=CREATE)  # so that others come meanwhile
    before = len(stripe.requests)

    sessions = at_once(20, lambda _: buyer.checkout(pack_id="starter"))

    asked = [f"{request.method} {request.path}" for request in stripe.requests[before:]]
    assert asked.count(CREATE) > 1
    assert len(set(sessions)) == 20
    (customer,) = buyer.customers
    assert {
        world.stack.stripe.state.get("checkout.session", session)["customer"]
        for session in sessions
    } == {customer}
    buyer.pay(sessions[0])
    buyer.pay(sessions[-1])
    assert buyer.available == "20.000"


def test_lost_answers_make_one_customer(world: World, buyer: Buyer) -> None:
    """Although Stripe's answers to the first creations are lost, one customer is all there is."""
    world.stack.stripe.lose_next(times=5, match=CREATE)

    at_once(3, lambda _: buyer.person.http.post("/checkout", json={"pack_id": "starter"}))

    world.stack.stripe.faults.clear()
    buyer.checkout(pack_id="starter")
    assert len(buyer.customers) == 1


def test_the_customer_stays_the_same(buyer: Buyer) -> None:
    """A pack, a plan and another pack are bought by one customer."""
    buyer.buy()
    buyer.subscribe()
    buyer.buy("builder")

    assert len(buyer.customers) == 1


def test_two_users_are_two_customers(world: World, buyer: Buyer) -> None:
    """Nobody pays as somebody else."""
    other = Buyer(world)

    at_once(2, lambda n: (buyer, other)[n].checkout(pack_id="starter"))

    assert len(buyer.customers) == len(other.customers) == 1
    assert buyer.customers != other.customers


@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
def test_a_deleted_customer_buys_again(world: World, buyer: Buyer, *, told: bool) -> None:
    """Deleted at Stripe, whether the event came or not: the next page is of a new customer, old credits stay."""
    buyer.buy()
    (first,) = buyer.customers
    if not told:
        world.stack.stripe.webhook_faults.drop = ("customer.deleted",)

    buyer.happens("delete_customer", first)
    buyer.buy()

    (second,) = buyer.customers
    assert second != first
    assert buyer.available == "20.000"


def test_a_customer_deleted_between_twenty_checkouts_is_replaced_by_one(
    world: World, buyer: Buyer
) -> None:
    """All pages that find the customer gone agree on the next one."""
    buyer.buy()
    world.stack.stripe.webhook_faults.drop = ("customer.deleted",)
    buyer.happens("delete_customer", *buyer.customers)

    at_once(20, lambda _: buyer.checkout(pack_id="starter"))

    assert len(buyer.customers) == 1


def test_deleting_a_customer_ends_the_plan(buyer: Buyer) -> None:
    """Its plan ends with it, the credits stay, and a new plan can be bought."""
    buyer.subscribe()

    buyer.happens("delete_customer", *buyer.customers)

    assert buyer.plan is None
    assert buyer.available == "30.000"
    buyer.subscribe("business")
    assert buyer.available == "90.000"


# --- the billing portal ---


def test_the_portal_is_of_the_buyer(buyer: Buyer) -> None:
    """Whoever bought is told of a page, which shows the plan and leads back to the frontend."""
    buyer.subscribe()

    assert buyer.person.get("/account")["has_billing"]
    answer = buyer.person.http.post("/billing-portal", json={"return_path": "/account?tab=plan"})

    assert answer.status_code == 201
    assert list(answer.json()) == ["url"]
    page = httpx.get(answer.json()["url"])
    assert page.status_code == 200
    assert "Pro" in page.text
    back = httpx.post(answer.json()["url"], data={"action": "back"})
    assert back.headers["location"] == "http://localhost:8000/account?tab=plan"


def test_there_is_no_portal_without_a_purchase(buyer: Buyer) -> None:
    """A user who never opened a payment page has nothing to manage: 404, and no customer is made."""
    assert not buyer.person.get("/account")["has_billing"]
    problem(buyer.person.http.post("/billing-portal", json={}), 404, "not_found")

    assert buyer.customers == []


def test_there_is_no_portal_of_a_deleted_customer(world: World, buyer: Buyer) -> None:
    """Deleted at Stripe without our being told: 404 as if there had been none, and buying works."""
    buyer.buy()
    world.stack.stripe.webhook_faults.drop = ("customer.deleted",)
    buyer.happens("delete_customer", *buyer.customers)

    problem(buyer.person.http.post("/billing-portal", json={}), 404, "not_found")

    assert not buyer.person.get("/account")["has_billing"]
    buyer.buy()
    assert buyer.person.http.post("/billing-portal", json={}).status_code == 201


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "account", "/\\evil.example", "/a#b", ""]
)
def test_the_portal_leads_back_to_the_frontend_only(buyer: Buyer, path: str) -> None:
    """What is no path of the frontend is refused, and the field is named."""
    buyer.checkout(pack_id="starter")

    answer = buyer.person.http.post("/billing-portal", json={"return_path": path})

    found = problem(answer, 422, "invalid_request")
    assert [field["field"] for field in found["errors"]] == ["return_path"]


def test_the_portal_needs_a_token(world: World) -> None:
    """Nobody's page is shown to nobody."""
    problem(world.http.post("/billing-portal", json={}), 401, "unauthenticated")


def test_a_portal_that_stripe_refuses_is_our_problem(world: World, buyer: Buyer) -> None:
    """Without a portal configuration at Stripe the user is told that it does not work now, not why."""
    buyer.checkout(pack_id="starter")
    state = world.stack.stripe.state
    kept, state.portal_configuration = state.portal_configuration, None
    try:
        answer = buyer.person.http.post("/billing-portal", json={})
    finally:
        state.portal_configuration = kept

    found = problem(answer, 502, "provider_error")
    assert "configuration" not in found["detail"]


def test_a_session_is_shown_to_its_own_user_only(world: World, buyer: Buyer) -> None:
    """Another user's session, and one that does not exist, are both 404."""
    session = buyer.checkout(plan_id="pro", interval="month")
    other = world.person()

    problem(other.http.get(f"/checkout/{session}"), 404, "not_found")
    problem(buyer.person.http.get("/checkout/cs_test_nothing"), 404, "not_found")
    problem(world.http.get(f"/checkout/{session}"), 401, "unauthenticated")

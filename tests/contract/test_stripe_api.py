from __future__ import annotations

import http.client
import time
from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_wire import API_VERSION, StripeError, decode
from tests.contract.stripe_support import API_KEY, SECRET, new_pack, new_session, sdk_client

pytest_plugins = ["tests.contract.stripe_fixtures"]


def _raw(standin: Stripe, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", int(standin.url.rsplit(":", 1)[1]))
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {API_KEY}", **headers})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


@pytest.mark.parametrize("key", ["sk_live_contract", "sk_test_other", "rk_test_contract"])
def test_another_key_is_refused(standin: Stripe, key: str) -> None:
    """A live, foreign or restricted key is answered 401 and not repeated in the message."""
    with (
        sdk_client(standin, key) as client,
        pytest.raises(stripe.AuthenticationError) as refused,
    ):
        client.v1.customers.list()

    assert refused.value.http_status == 401
    assert key not in str(refused.value)


def test_a_live_key_is_not_even_configured() -> None:
    """The stand-in does not start with a key that is no test key."""
    with pytest.raises(ValueError, match="test keys only"):
        Stripe("sk_live_contract", None, SECRET)


def test_another_api_version_is_refused(standin: Stripe) -> None:
    """A caller that pins another version is told so; the SDK's own version is the stand-in's."""
    assert stripe.api_version == API_VERSION
    with (
        sdk_client(standin, stripe_version="2026-09-30.endive") as client,
        pytest.raises(stripe.InvalidRequestError, match="2026-09-30"),
    ):
        client.v1.customers.list()


def test_another_host_is_refused(standin: Stripe) -> None:
    """A page elsewhere that resolves its name to loopback reaches neither API nor pay page."""
    assert _raw(standin, "GET", "/v1/customers", Host="evil.example").status == 403
    assert _raw(standin, "GET", "/c/pay/cs_test_1", Host="evil.example:80").status == 403
    assert _raw(standin, "GET", "/v1/customers", Host="localhost:1").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/subscription_items"),
        ("DELETE", "/v1/customers"),
        ("GET", "/v2/customers"),
        ("GET", "/"),
    ],
)
def test_an_unknown_path_is_named(standin: Stripe, method: str, path: str) -> None:
    """What the stand-in does not serve is a 404 in Stripe's shape that names method and path."""
    with sdk_client(standin) as client, pytest.raises(stripe.InvalidRequestError) as refused:
        client.raw_request(method.lower(), path)

    assert refused.value.http_status == 404
    assert f"{method}: {path}" in str(refused.value)


def test_every_answer_names_its_request(standin: Stripe) -> None:
    """Answers, errors too, carry a request id of their own and the API version."""
    answers = [_raw(standin, "GET", path) for path in ("/v1/customers", "/v1/nothing")]

    assert len({answer.headers["Request-Id"] for answer in answers}) == 2
    assert {answer.headers["Stripe-Version"] for answer in answers} == {API_VERSION}


_LINE = {"price_data": {"currency": "usd", "unit_amount": 999, "product_data": {"name": "Pack"}}}
_GOOD: dict[str, Any] = {
    "mode": "payment",
    "line_items": [{**_LINE, "quantity": 1}],
    "success_url": "http://127.0.0.1:9/ok",
}


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"payment_method_types": ["card"]}, "parameter_unknown", "payment_method_types"),
        ({"mod": "payment"}, "parameter_unknown", "mod"),
        ({"payment_intent_data": {"meta": {}}}, None, None),
        (
            {"payment_intent_data": {"meta": "x"}},
            "parameter_unknown",
            "payment_intent_data[meta]",
        ),
        (
            {"line_items": [{**_LINE, "quantity": 1, "amount": 5}]},
            "parameter_unknown",
            "line_items[0][amount]",
        ),
        ({"mode": None}, "parameter_missing", "mode"),
        ({"success_url": None}, "parameter_missing", "success_url"),
        ({"line_items": None}, "parameter_missing", "line_items"),
        ({"line_items": [_LINE]}, "parameter_missing", "line_items[0][quantity]"),
        ({"line_items": [{"quantity": 1}]}, "parameter_missing", "line_items[0][price]"),
        (
            {"line_items": [{"price": "price_none", "quantity": 1}]},
            "resource_missing",
            "line_items[0][price]",
        ),
        (
            {"line_items": [{**_LINE, "quantity": 0}]},
            "parameter_invalid_integer",
            "line_items[0][quantity]",
        ),
        (
            {"line_items": [{**_LINE, "quantity": "two"}]},
            "parameter_invalid_integer",
            "line_items[0][quantity]",
        ),
        ({"mode": "setup"}, None, "mode"),
        ({"success_url": "/relative"}, "url_invalid", "success_url"),
        ({"cancel_url": "javascript:alert(1)"}, "url_invalid", "cancel_url"),
        ({"cancel_url": "http://h/\r\nSet-Cookie: a=b"}, "url_invalid", "cancel_url"),
        ({"client_reference_id": "x" * 201}, "parameter_invalid_string", "client_reference_id"),
        ({"client_reference_id": ""}, "parameter_invalid_empty", "client_reference_id"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {f"k{i}": "v" for i in range(51)}}, None, "metadata"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"expires_at": 1}, None, "expires_at"),
        ({"expires_at": 99_999_999_999}, None, "expires_at"),
        ({"expand": ["line_item"]}, None, "expand"),
        ({"expand": ["a.b.c.d.e"]}, None, "expand"),
        ({"line_items": "price_1"}, "parameter_invalid", "line_items"),
        ({"line_items": [{**_LINE, "quantity": 1}] * 101}, None, "line_items"),
        ({"payment_intent_data": "pi_1"}, "parameter_invalid", "payment_intent_data"),
        ({"metadata": "purchase_1"}, "parameter_invalid", "metadata"),
        ({"metadata": {"k": {"deep": "v"}}}, "parameter_invalid", "metadata"),
        ({"client_reference_id": ["a"]}, "parameter_invalid", "client_reference_id"),
    ],
)
def test_a_wrong_session_is_refused_by_name(
    client: stripe.StripeClient, change: dict[str, Any], code: str | None, param: str | None
) -> None:
    """Each wrong, missing or unknown parameter is an error that names it."""
    params = {k: v for k, v in {**_GOOD, **change}.items() if v is not None}
    if param is None:  # an empty object is nothing on the wire
        client.v1.checkout.sessions.create(params)  # type: ignore[arg-type]
        return
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.checkout.sessions.create(params)  # type: ignore[arg-type]

    assert (refused.value.code, refused.value.param) == (code, param)
    assert refused.value.http_status == 400


def test_a_session_sells_only_what_can_be_sold_once(client: stripe.StripeClient) -> None:
    """An archived price, a plan, two currencies and pennies are no session in mode payment."""
    archived, product = new_pack(client), client.v1.products.create({"name": "P"})
    client.v1.prices.update(archived, {"active": False})
    plan = client.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 500,
            "recurring": {"interval": "month"},
        }
    )
    euro = client.v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 500})
    dollar = new_pack(client, 49, "cheap")
    for prices, message in (
        ([archived], "inactive"),
        ([plan.id], "recurring"),
        ([euro.id, dollar], "same currency"),
        ([dollar], "50 cents"),
    ):
        lines = [{"price": price, "quantity": 1} for price in prices]
        with pytest.raises(stripe.InvalidRequestError, match=message):
            client.v1.checkout.sessions.create({**_GOOD, "line_items": lines})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "params", "message"),
    [
        ("/v1/products", {"name": "P", "active": "yes"}, "Invalid boolean"),
        ("/v1/prices", {"product": "p", "currency": "us", "unit_amount": 1}, "Invalid currency"),
        ("/v1/prices", {"product": "p", "currency": "usd", "unit_amount": -1}, "greater than"),
        ("/v1/prices", {"currency": "usd", "unit_amount": 1}, "product, product_data"),
        ("/v1/prices", {"product": "p", "currency": "usd", "unit_amount": 1}, "No such product"),
        ("/v1/refunds", {"charge": "ch_1", "payment_intent": "pi_1"}, "only specify one"),
        ("/v1/refunds", {"charge": "ch_1", "reason": "bored"}, "must be one of"),
        ("/v1/customers?email=a", {}, "belong in its body"),
    ],
)
def test_a_wrong_call_is_refused(
    client: stripe.StripeClient, path: str, params: dict[str, Any], message: str
) -> None:
    """Ill-typed, contradicting, incomplete and misplaced parameters are errors."""
    with pytest.raises(stripe.InvalidRequestError, match=message):
        client.raw_request("post", path, **params)


def test_a_price_may_be_made_on_the_spot(client: stripe.StripeClient) -> None:
    """`price_data` makes an archived price of a known product, or of one made with it."""
    product = client.v1.products.create({"name": "Known"})
    data: Any = {"currency": "usd", "unit_amount": 700}
    lines = [
        {"price_data": {**data, "product": product.id}, "quantity": 1},
        {"price_data": {**data, "product_data": {"name": "New"}}, "quantity": 2},
    ]
    session = client.v1.checkout.sessions.create(
        _GOOD | {"line_items": lines, "expand": ["line_items"]}  # type: ignore[arg-type]
    )

    assert session.amount_total == 2100
    assert session.line_items is not None
    assert [line.description for line in session.line_items.data] == ["Known", "New"]
    assert [p.active for p in client.v1.prices.list().data] == [False, False]


def test_a_session_has_one_buyer(client: stripe.StripeClient) -> None:
    """A customer and a customer's email exclude each other."""
    both = {"customer": client.v1.customers.create().id, "customer_email": "a@example.com"}
    with pytest.raises(stripe.InvalidRequestError, match="only specify one"):
        client.v1.checkout.sessions.create({**_GOOD, **both})  # type: ignore[arg-type]


def test_a_call_needs_a_key(standin: Stripe) -> None:
    """Without a bearer key the answer is 401, on unknown paths too."""
    assert _raw(standin, "GET", "/v1/customers", Authorization="Basic eDo=").status == 401
    assert _raw(standin, "GET", "/v1/nothing", Authorization="").status == 401


def test_a_session_lives_as_long_as_it_was_told(client: stripe.StripeClient) -> None:
    """`expires_at` is kept; without it a session lives for 24 hours."""
    in_an_hour = int(time.time()) + 3600
    asked = client.v1.checkout.sessions.create({**_GOOD, "expires_at": in_an_hour})  # type: ignore[arg-type]
    plain = client.v1.checkout.sessions.create(_GOOD)  # type: ignore[arg-type]

    assert asked.expires_at == in_an_hour
    assert plain.expires_at == plain.created + 86_400


def test_customers_are_kept_changed_and_found(client: stripe.StripeClient) -> None:
    """An update merges metadata, an empty value unsets, and lists filter by exact email."""
    made = client.v1.customers.create(
        {"email": "a@example.com", "name": "A", "metadata": {"user_id": "1", "old": "x"}}
    )
    client.v1.customers.create({"email": "b@example.com"})
    client.v1.customers.update(made.id, {"metadata": {"old": "", "new": "y"}, "name": ""})

    kept = client.v1.customers.retrieve(made.id)
    assert kept.name is None
    assert kept.metadata is not None
    assert kept.metadata.to_dict() == {"user_id": "1", "new": "y"}
    assert [c.id for c in client.v1.customers.list({"email": "a@example.com"}).data] == [made.id]
    bare = client.v1.customers.update(made.id, {"metadata": ""}).metadata
    assert bare is not None
    assert bare.to_dict() == {}
    _cleared, event = client.v1.events.list({"type": "customer.updated"}).data
    assert event.data.previous_attributes is not None
    assert event.data.previous_attributes.to_dict() == {
        "metadata": {"old": "x", "new": None},
        "name": "A",
    }
    with pytest.raises(stripe.InvalidRequestError) as absent:
        client.v1.customers.retrieve("cus_none")
    assert (absent.value.http_status, absent.value.code) == (404, "resource_missing")


def test_a_lookup_key_belongs_to_one_price(client: stripe.StripeClient) -> None:
    """A key in use is refused, archived holders included, unless it is transferred."""
    old = new_pack(client)
    client.v1.prices.update(old, {"active": False})
    product = client.v1.prices.retrieve(old).product
    wanted: Any = {
        "product": product,
        "currency": "usd",
        "unit_amount": 1299,
        "lookup_key": "pack_small",
    }
    assert client.v1.prices.list({"lookup_keys": ["pack_small"], "active": True}).data == []
    assert len(client.v1.prices.list({"lookup_keys": ["pack_small"]}).data) == 1
    with pytest.raises(stripe.InvalidRequestError) as taken:
        client.v1.prices.create(wanted)
    assert taken.value.param == "lookup_key"

    wanted["transfer_lookup_key"] = True
    new = client.v1.prices.create(wanted)

    found = client.v1.prices.list({"lookup_keys": ["pack_small"], "active": True}).data
    assert [price.id for price in found] == [new.id]
    assert client.v1.prices.retrieve(old).lookup_key is None
    assert len(client.v1.prices.list({"product": str(product)}).data) == 2
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.prices.list({"lookup_keys": [f"key_{i}" for i in range(11)]})


def test_products_are_changed_and_listed(client: stripe.StripeClient) -> None:
    """A product takes an own id once, gets a default price of its own, and filters by active."""
    product = client.v1.products.create({"id": "prod_pack", "name": "Pack", "active": False})
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        client.v1.products.create({"id": "prod_pack", "name": "Pack"})
    foreign = new_pack(client)
    with pytest.raises(stripe.InvalidRequestError, match="belong"):
        client.v1.products.update(product.id, {"default_price": foreign})

    assert [p.id for p in client.v1.products.list({"active": False}).data] == ["prod_pack"]
    assert [p.id for p in client.v1.products.list({"ids": ["prod_pack"]}).data] == ["prod_pack"]
    for _ in range(2):
        assert client.v1.products.update("prod_pack", {"name": "Bigger"}).name == "Bigger"
    (event,) = client.v1.events.list({"type": "product.updated"}).data
    assert event.data.previous_attributes is not None
    assert set(event.data.previous_attributes.to_dict()) == {"name", "updated"}


def test_lists_page_newest_first(client: stripe.StripeClient) -> None:
    """Pages of any size give every object once, in either direction."""
    made = [client.v1.customers.create({"name": f"c{i}"}).id for i in range(23)]

    first = client.v1.customers.list()
    assert [c.id for c in first.data] == made[:-11:-1]
    assert first.has_more is True
    forward = client.v1.customers.list({"limit": 5}).auto_paging_iter()
    assert [c.id for c in forward] == made[::-1]
    backward = client.v1.customers.list({"limit": 5, "ending_before": made[0]})
    assert [c.id for c in backward.auto_paging_iter()] == made[1:]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"starting_after": "cus_none"},
        {"starting_after": "a", "ending_before": "b"},
        {"created": {"after": 1}},
        {"created": "yesterday"},
    ],
)
def test_a_wrong_page_is_refused(client: stripe.StripeClient, params: Any) -> None:
    """Limits, cursors and time filters that Stripe would refuse are refused."""
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.list(params)


def test_sessions_are_filtered(standin: Stripe, client: stripe.StripeClient) -> None:
    """Status, customer, payment intent and time of creation each narrow the list."""
    price = new_pack(client)
    customer = client.v1.customers.create().id
    lines: Any = [{"price": price, "quantity": 1}]
    mine = new_session(client, line_items=lines, customer=customer)
    other = new_session(client, line_items=lines)
    intent = standin.pay(mine.id)["payment_intent"]
    ended = new_session(client, line_items=lines)
    standin.expire(ended.id)
    queries: list[tuple[Any, list[str]]] = [
        ({"status": "complete"}, [mine.id]),
        ({"status": "open"}, [other.id]),
        ({"status": "expired"}, [ended.id]),
        ({"customer": customer}, [mine.id]),
        ({"payment_intent": intent}, [mine.id]),
        ({"created": {"gte": mine.created}}, [ended.id, other.id, mine.id]),
        ({"created": {"gt": ended.created}}, []),
        ({"created": mine.created - 1}, []),
        ({"created": {"lt": mine.created}}, []),
        ({"created": {"lte": ended.created}, "status": "complete"}, [mine.id]),
    ]
    for query, expected in queries:
        assert [s.id for s in client.v1.checkout.sessions.list(query).data] == expected


def test_expand_replaces_ids_by_objects(standin: Stripe, client: stripe.StripeClient) -> None:
    """Paths work on objects, into them, and through lists; a path that is none is refused."""
    session = new_session(client, customer=client.v1.customers.create().id)
    standin.pay(session.id)

    deep = client.v1.checkout.sessions.retrieve(
        session.id,
        {"expand": ["customer", "payment_intent.latest_charge", "line_items.data.price.product"]},
    ).to_dict()
    assert deep["customer"]["object"] == "customer"
    assert deep["payment_intent"]["latest_charge"]["status"] == "succeeded"
    assert deep["line_items"]["data"][0]["price"]["product"]["name"] == "100 credits"
    listed = client.v1.charges.list({"expand": ["data.payment_intent"]}).to_dict()
    assert listed["data"][0]["payment_intent"]["id"] == deep["payment_intent"]["id"]
    fresh = client.v1.checkout.sessions.create(
        _GOOD | {"expand": ["payment_intent.customer"]}  # type: ignore[arg-type]
    )
    assert fresh.payment_intent is None
    with pytest.raises(stripe.InvalidRequestError, match=r"dat\.customer"):
        client.v1.charges.list({"expand": ["dat.customer"]})
    for wrong in ("metadata.x", "customer.emial", "nothing", "data.customer", "mode"):
        with pytest.raises(stripe.InvalidRequestError, match="expand"):
            client.v1.checkout.sessions.retrieve(session.id, {"expand": [wrong]})


def test_line_items_are_paged(client: stripe.StripeClient) -> None:
    """A session's lines come in their own list, in the order they were sold."""
    lines: Any = [{"price": new_pack(client, 100 + i, f"k{i}"), "quantity": 2} for i in range(12)]
    session = new_session(client, line_items=lines)

    listed = client.v1.checkout.sessions.line_items.list(session.id, {"limit": 5})
    amounts = [line.amount_total for line in listed.auto_paging_iter()]
    assert amounts == [2 * (100 + i) for i in range(12)]
    assert session.amount_total == sum(amounts)


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        ("a[b][0]=c&a[b][1]=d", {"a": {"b": {"0": "c", "1": "d"}}}),
        ("a[]=x&a[]=y", {"a": {"0": "x", "1": "y"}}),
        ("a=%26&b=", {"a": "&", "b": ""}),
    ],
)
def test_forms_are_decoded(encoded: str, decoded: dict[str, Any]) -> None:
    """Brackets nest, empty brackets append."""
    assert decode(encoded) == decoded


@pytest.mark.parametrize("encoded", ["a=1&a=2", "a=1&a[b]=2", "a[b]=1&a=2", "[a]=1", "a[b=1"])
def test_an_ambiguous_form_is_refused(encoded: str) -> None:
    """A key given twice, as value and level, or with broken brackets is an error."""
    with pytest.raises(StripeError):
        decode(encoded)

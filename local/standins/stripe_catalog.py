"""Products and prices."""

from __future__ import annotations

from local.standins import stripe_objects_catalog
from local.standins.stripe_endpoint import Endpoint, retrieving
from local.standins.stripe_params import (
    LIST,
    boolean,
    currency,
    exactly_one,
    fields,
    integer,
    list_of,
    merged_metadata,
    metadata,
    one_of,
    text,
)
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing, StripeError

RECURRING = fields(
    {"interval_count": integer(at_least=1)},
    {"interval": one_of("day", "month", "week", "year")},
)
_PRODUCT = {
    "active": boolean,
    "description": text(clearable=True),
    "metadata": metadata,
}
PRODUCT_DATA = fields(
    {"description": text(), "metadata": metadata},
    {"name": text()},
)
_LOOKUP = {"lookup_key": text(200, clearable=True), "transfer_lookup_key": boolean}


def apply(state: State, subject: Json, params: Json, event: str) -> Json:
    """Change an object by the parameters of an update call, metadata key by key."""
    changes = dict(params)
    if "metadata" in changes:
        changes["metadata"] = merged_metadata(subject["metadata"], changes["metadata"])
    state.update(subject, changes, event)
    return subject


def _create_product(state: State, params: Json) -> Json:
    if "id" in params and state.has("product", params["id"]):
        raise StripeError(
            f"Product already exists: {params['id']}", code="resource_already_exists", param="id"
        )
    product = state.add(stripe_objects_catalog.product(params, state.now()))
    state.emit("product.created", product)
    return product


def _update_product(state: State, params: Json, object_id: str) -> Json:
    product = state.get("product", object_id)
    if "default_price" in params:
        price = state.get("price", params["default_price"], "default_price")
        if price["product"] != object_id:
            raise StripeError(
                "The default price must belong to the product.", param="default_price"
            )
    return apply(state, product, {**params, "updated": state.now()}, "product.updated")


def delete_product(state: State, _params: Json, object_id: str) -> Json:
    """Delete a product; raises `StripeError` while it has prices."""
    product = state.get("product", object_id)
    if any(price["product"] == object_id for price in state.newest("price")):
        raise StripeError(
            "This product cannot be deleted because it has one or more user-created prices."
        )
    state.remove(product)
    state.emit("product.deleted", product)
    return {"id": object_id, "object": "product", "deleted": True}


def delete_price(state: State, object_id: str) -> Json:
    """Delete a price, as the dashboard can while nobody bought it; the API has no such call."""
    price = state.get("price", object_id)
    state.remove(price)
    state.emit("price.deleted", price)
    return price


def _list_products(state: State, params: Json) -> Listing:
    found = state.listing("product", "/v1/products", params, ("active",))
    if "ids" in params:
        return Listing([p for p in found.objects if p["id"] in params["ids"]], found.url)
    return found


def _create_price(state: State, params: Json) -> Json:
    given = exactly_one(params, ("product", "product_data"))
    if given == "product":
        state.get("product", params["product"], "product")
    _claim_lookup_key(state, params, None)
    product_id = (
        params["product"]
        if given == "product"
        else _create_product(state, params["product_data"])["id"]
    )
    price = state.add(stripe_objects_catalog.price({**params, "product": product_id}, state.now()))
    state.emit("price.created", price)
    return price


def _update_price(state: State, params: Json, object_id: str) -> Json:
    price = state.get("price", object_id)
    _claim_lookup_key(state, params, object_id)
    changes = {k: v for k, v in params.items() if k != "transfer_lookup_key"}
    return apply(state, price, changes, "price.updated")


def _claim_lookup_key(state: State, params: Json, own_id: str | None) -> None:
    """Take `lookup_key` from the price that has it, or refuse: archived prices keep theirs."""
    key = params.get("lookup_key")
    for holder in state.newest("price") if key else []:
        if holder["lookup_key"] != key or holder["id"] == own_id:
            continue
        if not params.get("transfer_lookup_key"):
            raise StripeError(
                f"A price (`{holder['id']}`) already uses that lookup key.",
                code="resource_already_exists",
                param="lookup_key",
            )
        apply(state, holder, {"lookup_key": None}, "price.updated")


def _list_prices(state: State, params: Json) -> Listing:
    found = state.listing("price", "/v1/prices", params, ("active", "currency", "product", "type"))
    keys: list[str] | None = params.get("lookup_keys")
    if keys is None:
        return found
    return Listing([p for p in found.objects if p["lookup_key"] in keys], found.url)


ENDPOINTS = [
    Endpoint(
        "POST",
        "/v1/products",
        fields({**_PRODUCT, "id": text()}, {"name": text()}),
        _create_product,
    ),
    Endpoint(
        "GET",
        "/v1/products",
        fields({**LIST, "active": boolean, "ids": list_of(text())}),
        _list_products,
    ),
    retrieving("product", "/v1/products"),
    Endpoint(
        "POST",
        "/v1/products/{object_id}",
        fields({**_PRODUCT, "default_price": text(), "name": text()}),
        _update_product,
    ),
    Endpoint("DELETE", "/v1/products/{object_id}", fields({}), delete_product),
    Endpoint(
        "POST",
        "/v1/prices",
        fields(
            {
                **_LOOKUP,
                "active": boolean,
                "metadata": metadata,
                "nickname": text(),
                "product": text(),
                "product_data": PRODUCT_DATA,
                "recurring": RECURRING,
            },
            {"currency": currency, "unit_amount": integer(at_least=0)},
        ),
        _create_price,
    ),
    Endpoint(
        "GET",
        "/v1/prices",
        fields(
            {
                **LIST,
                "active": boolean,
                "currency": currency,
                "lookup_keys": list_of(text(200), at_most=10),
                "product": text(),
                "type": one_of("one_time", "recurring"),
            }
        ),
        _list_prices,
    ),
    retrieving("price", "/v1/prices"),
    Endpoint(
        "POST",
        "/v1/prices/{object_id}",
        fields({**_LOOKUP, "active": boolean, "metadata": metadata, "nickname": text()}),
        _update_price,
    ),
]

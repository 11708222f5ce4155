"""Customers: a deleted one still answers, but only that it is deleted."""

from __future__ import annotations

from local.standins import stripe_lifecycle
from local.standins.stripe_catalog import apply
from local.standins.stripe_endpoint import Endpoint, listing
from local.standins.stripe_objects_catalog import customer
from local.standins.stripe_params import fields, metadata, text
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json

_PATH = "/v1/customers"
_PERSON = {
    "description": text(clearable=True),
    "email": text(512, clearable=True),
    "metadata": metadata,
    "name": text(256, clearable=True),
    "phone": text(20, clearable=True),
}


def _create(state: State, params: Json) -> Json:
    made = state.add(customer(params, state.now()))
    state.emit("customer.created", made)
    return made


def _retrieve(state: State, _params: Json, object_id: str) -> Json:
    return state.deleted.get(object_id) or state.get("customer", object_id)


def _update(state: State, params: Json, object_id: str) -> Json:
    return apply(state, state.get("customer", object_id), params, "customer.updated")


def delete(state: State, _params: Json, object_id: str) -> Json:
    """Delete a customer, after ending what it is subscribed to."""
    gone = state.get("customer", object_id)
    for each in state.subscriptions_of(object_id):
        stripe_lifecycle.end(state, each)
    state.remove(gone)
    state.emit("customer.deleted", gone)
    answer = {"id": object_id, "object": "customer", "deleted": True}
    state.deleted[object_id] = answer
    return answer


ENDPOINTS = [
    Endpoint("POST", _PATH, fields(_PERSON), _create),
    listing("customer", _PATH, {"email": text()}),
    Endpoint("GET", f"{_PATH}/{{object_id}}", fields({}), _retrieve),
    Endpoint("POST", f"{_PATH}/{{object_id}}", fields(_PERSON), _update),
    Endpoint("DELETE", f"{_PATH}/{{object_id}}", fields({}), delete),
]

"""One entry of the API's table: a method, a path, what it may carry, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from local.standins.stripe_params import LIST, Check, fields
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing


@dataclass(frozen=True)
class Endpoint:
    """`run(state, params, **path)` returns an object, or a `Listing` to be cut into a page."""

    method: str
    path: str
    schema: Check
    run: Callable[..., Json | Listing]


def retrieving(kind: str, path: str) -> Endpoint:
    """Return the endpoint that answers one object of `kind` at `path`/{id}."""

    def run(state: State, _params: Json, object_id: str) -> Json:
        return state.get(kind, object_id)

    return Endpoint("GET", f"{path}/{{object_id}}", fields({}), run)


def listing(kind: str, path: str, filters: Mapping[str, Check]) -> Endpoint:
    """Return the endpoint that lists objects of `kind`, filtered by equality of the named fields."""

    def run(state: State, params: Json) -> Listing:
        return state.listing(kind, path, params, tuple(filters))

    return Endpoint("GET", path, fields({**LIST, **filters}), run)

"""Reading errors out of code: small functions whose answer is known."""

# ruff: noqa: D102, D103, SIM105, TRY201, TRY203, PLW0108 - they are what is read, in forms that the linter would change

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.errors import (
    HoldfastError,
    InsufficientCreditsError,
    NotFoundError,
    ProviderError,
    RateLimitedError,
    UnavailableError,
)
from tools.refusals import _Reader


class Store:
    """Something that a use case is given."""

    def find(self) -> None:
        raise NotFoundError("There is no such thing.")

    @property
    def seat(self) -> int:
        raise RateLimitedError(retry_after=3)

    @functools.cached_property
    def page(self) -> int:
        raise ProviderError


class Parts:
    """A use case with its parts."""

    def __init__(self) -> None:
        self.store = Store()

    def direct(self) -> None:
        self.store.find()

    def by_property(self) -> int:
        return self.store.seat

    def by_cached_property(self) -> int:
        return self.store.page

    def handed_on(self) -> None:
        list(map(self.store.find, []))

    def by_partial(self) -> None:
        functools.partial(self.store.find)()

    def inside_a_closure(self) -> Callable[[], None]:
        return lambda: self.store.find()

    def by_a_local_name(self) -> None:
        store = make_store()
        store.find()

    def by_itself(self) -> None:
        self.by_itself()
        self.direct()

    def made_elsewhere(self) -> None:
        raise trouble()


def make_store() -> Store:
    return Store()


def trouble() -> HoldfastError:
    return NotFoundError("There is no such thing.")


def given(store: Store) -> None:
    store.find()


def handing(parts: Any) -> None:
    given(parts.store)


def taken_back() -> None:
    try:
        given(Store())
    except NotFoundError:
        pass


def taken_back_by_a_base() -> None:
    try:
        given(Store())
    except (ValueError, HoldfastError):
        pass


def passed_on() -> None:
    try:
        given(Store())
    except HoldfastError:
        raise


def passed_on_by_name() -> None:
    try:
        given(Store())
    except HoldfastError as error:
        raise error


def exchanged() -> None:
    try:
        given(Store())
    except NotFoundError as error:
        raise UnavailableError from error


def with_members(amounts: Any) -> None:
    raise InsufficientCreditsError(
        f"This costs {amounts.cost_credits:.3f} credits.", members=_members(amounts)
    )


def _members(amounts: Any) -> dict[str, str]:
    return {"cost_credits": amounts.cost_credits}


@pytest.fixture(autouse=True)
def _as_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions of this module count as the product's."""
    monkeypatch.setattr("tools.refusals._is_ours", lambda function: function.__module__ == __name__)


def _errors(function: Callable[..., Any]) -> set[type[HoldfastError]]:
    return {refusal.error for refusal in _Reader().of(function)}


@pytest.mark.parametrize(
    "way",
    [
        "direct",
        "handed_on",
        "by_partial",
        "inside_a_closure",
        "by_a_local_name",
        "by_itself",
        "made_elsewhere",
    ],
)
def test_way(way: str) -> None:
    """An error is found, whichever way the code takes to it."""
    assert _errors(getattr(Parts(), way)) == {NotFoundError}


def test_property() -> None:
    """A property is followed without being read."""
    assert _errors(Parts().by_property) == {RateLimitedError}
    assert _errors(Parts().by_cached_property) == {ProviderError}


def test_argument() -> None:
    """A parameter is what it was given, or what its type says."""
    assert _errors(handing) == {NotFoundError}
    assert _errors(given) == {NotFoundError}


def test_caught() -> None:
    """What an `except` takes is taken back, and what it raises instead is found."""
    assert _errors(taken_back) == set()
    assert _errors(taken_back_by_a_base) == set()
    assert _errors(passed_on) == {NotFoundError}
    assert _errors(passed_on_by_name) == {NotFoundError}
    assert _errors(exchanged) == {UnavailableError}


def test_what_is_sent() -> None:
    """Text, members and waiting are read from the place that makes the error."""
    (refusal,) = _Reader().of(with_members)
    assert refusal.detail == "This costs {cost_credits} credits."
    assert refusal.members == {"cost_credits"}
    assert not refusal.waits

    (refusal,) = _Reader().of(Parts().by_property)
    assert refusal.waits

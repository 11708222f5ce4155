import inspect
import re

from holdfast import errors
from holdfast.errors import LEDGER_ERRORS, ConfigurationError, HoldfastError, LedgerMisuseError

ALL = [
    item
    for item in vars(errors).values()
    if inspect.isclass(item) and issubclass(item, HoldfastError)
]


def test_the_codes_are_those_of_the_design() -> None:
    """Every (status, code) pair of the HTTP contract exists, and no other."""
    pairs = {(error.status, error.code) for error in ALL}

    assert pairs == {
        (400, "malformed_request"),
        (400, "invalid_signature"),
        (401, "unauthenticated"),
        (402, "insufficient_credits"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "already_subscribed"),
        (409, "idempotency_conflict"),
        (409, "not_cancelable"),
        (409, "price_changed"),
        (409, "not_finished"),
        (413, "payload_too_large"),
        (422, "invalid_request"),
        (422, "content_rejected"),
        (429, "rate_limited"),
        (429, "too_many_active"),
        (429, "daily_limit"),
        (500, "internal_error"),
        (502, "provider_error"),
        (503, "unavailable"),
    }


def test_the_tree_in_the_docstring_names_every_class_but_the_ledger_family() -> None:
    """The drawing at the top of the module is complete."""
    drawn = set(re.findall(r"\w+Error", errors.__doc__))
    ledger = {error.__name__ for error in LEDGER_ERRORS.values()}

    assert drawn == {error.__name__ for error in ALL} - ledger


def test_each_ledger_sqlstate_has_its_own_class() -> None:
    """HF001 to HF006 map to six different classes of the ledger family."""
    assert list(LEDGER_ERRORS) == [f"HF00{n}" for n in range(1, 7)]
    assert len(set(LEDGER_ERRORS.values())) == 6
    assert all(issubclass(error, LedgerMisuseError) for error in LEDGER_ERRORS.values())


def test_a_reason_is_for_logs_and_never_the_detail() -> None:
    """A configuration error tells the client nothing about the configuration."""
    error = ConfigurationError("STRIPE_API_KEY is missing or empty")

    assert error.detail is None
    assert str(error) == "STRIPE_API_KEY is missing or empty"

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.vocabulary import GenerationStatus
from holdfast.vocabulary import credits as to_credits

AMOUNTS = st.decimals(min_value=-(10**10), max_value=10**10, places=3)


@given(AMOUNTS)
def test_every_amount_in_thousandths_is_kept_exactly(amount: Decimal) -> None:
    """Text and Decimal of an amount in thousandths give that very amount, with three decimals."""
    assert to_credits(amount) == amount
    assert to_credits(f"{amount:f}") == amount
    assert to_credits(amount).as_tuple().exponent == -3


@given(st.integers(min_value=-(10**10), max_value=10**10))
def test_whole_numbers_are_amounts(number: Any) -> None:
    """An int is an exact amount."""
    assert to_credits(number) == number


@given(st.floats())
def test_no_float_is_ever_an_amount(number: Any) -> None:
    """A float is refused, whatever its value: it is not exact."""
    with pytest.raises(ValueError, match="exact decimal"):
        to_credits(number)


@given(AMOUNTS, st.integers(min_value=1, max_value=9), st.integers(min_value=4, max_value=9))
def test_a_fourth_decimal_is_refused(amount: Decimal, digit: Any, place: Any) -> None:
    """An amount finer than a thousandth is refused, not rounded."""
    finer = amount + Decimal(digit).scaleb(-place)

    with pytest.raises(ValueError, match="3 decimals"):
        to_credits(finer)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, b"1", [], {}, 1j, 0.1),
        *(
            "",
            " 1",
            "1 ",
            "+1",
            "1e3",
            "1_000",
            "1,5",
            ".5",
            "1.",
            "0x1",
            "NaN",
            "Infinity",
            "\u0661",
        ),
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity")),
        *(Decimal(10) ** 11, -(Decimal(10) ** 11), 10**11, "100000000000", Decimal("1E+30")),
    ],
)
def test_what_is_no_plain_exact_amount_is_refused(value: object) -> None:
    """Anything that is not a plain, finite, representable decimal raises ValueError."""
    with pytest.raises(ValueError, match="credits"):
        to_credits(value)


def test_trailing_zeros_and_negative_zero_are_normalised() -> None:
    """A zero more changes nothing, and there is one zero only."""
    assert str(to_credits("1.50000")) == "1.500"
    assert str(to_credits("-0")) == "0.000"


def test_the_last_three_states_are_final() -> None:
    """Exactly succeeded, failed and canceled are final."""
    final = {"succeeded", "failed", "canceled"}

    assert {status.value for status in GenerationStatus if status.is_final} == final

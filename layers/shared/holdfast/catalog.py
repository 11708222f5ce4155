"""What can be bought and what it grants, from `catalog.toml` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from holdfast.stripe_objects import PriceState
from holdfast.vocabulary import ItemId
from holdfast.vocabulary import credits as to_credits

_FILE = Path(__file__).with_name("catalog.toml")

Amount = Annotated[Decimal, BeforeValidator(to_credits)]
AmountMinor = Annotated[int, Field(gt=0)]
Currency = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
Interval = Literal["month", "year"]
Priority = Annotated[int, Field(ge=0, le=1000)]


class Entry(BaseModel):
    """Base of all that the file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pack(Entry):
    """Credits that are bought once. They do not expire unless `expires_days` says so."""

    id: ItemId
    name: str
    credits: Annotated[Amount, Field(gt=0)]
    amount_minor: AmountMinor
    """Price in the currency's minor unit."""
    currency: Currency
    priority: Priority = 100
    """Among credits that expire at the same time, lower is spent first."""
    expires_days: Annotated[int, Field(gt=0)] | None = None

    @property
    def lookup_key(self) -> str:
        """The key of its price at Stripe."""
        return f"holdfast_pack_{self.id}"


class PlanPrice(Entry):
    """What a plan costs for a month or a year."""

    interval: Interval
    amount_minor: AmountMinor


class Plan(Entry):
    """Credits that come with each paid period, `credits` a month. A plan without prices cannot be bought."""

    id: ItemId
    name: str
    credits: Annotated[Amount, Field(ge=0)]
    currency: Currency = "usd"
    priority: Priority = 50
    grace_days: Annotated[int, Field(ge=0, le=60)] = 3
    """How many days the credits of a period outlive it."""
    yearly: Literal["drip", "at_once"] = "drip"
    """Whether a year's credits come month by month or all at once."""
    grants_without_payment: bool = False
    """Whether a period that costs nothing (a trial, a coupon over everything) grants as well."""
    trial_days: Annotated[int, Field(ge=0, le=365)] = 0
    prices: tuple[PlanPrice, ...] = ()

    @model_validator(mode="after")
    def _sold_plans_grant_something(self) -> Plan:
        if self.prices and not self.credits:
            raise ValueError("a plan with prices needs credits")
        if len({price.interval for price in self.prices}) != len(self.prices):
            raise ValueError("two prices have the same interval")
        return self

    def price(self, interval: str) -> PlanPrice | None:
        """Return what it costs for such a period, if it is sold so."""
        return next((price for price in self.prices if price.interval == interval), None)

    def lookup_key(self, interval: str) -> str:
        """Return the key of its price at Stripe for such a period."""
        return f"holdfast_plan_{self.id}_{interval}ly"


class PriceTerms(BaseModel):
    """What a price of Stripe's grants, in the words of `backend.prices`."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["pack", "plan"]
    item_id: str
    interval: Interval | None
    credits: Decimal
    months: int | None
    terms: dict[str, int | str | bool]


class ListedPrice(BaseModel):
    """One price that is to exist at Stripe. `item` and `credits` are written on it, so that it keeps them."""

    model_config = ConfigDict(frozen=True)

    lookup_key: str
    item: str
    product_id: str
    product_name: str
    credits: Decimal
    amount_minor: int
    currency: str
    interval: Interval | None


class Catalog(Entry):
    """Everything that can be bought."""

    packs: tuple[Pack, ...]
    plans: tuple[Plan, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Catalog:
        for entries in (self.packs, self.plans):
            if len({entry.id for entry in entries}) != len(entries):
                raise ValueError("two entries have the same id")
        return self

    def pack(self, pack_id: str) -> Pack | None:
        """Return the pack with this id, if there is one."""
        return next((pack for pack in self.packs if pack.id == pack_id), None)

    def plan(self, plan_id: str) -> Plan | None:
        """Return the plan with this id, if there is one."""
        return next((plan for plan in self.plans if plan.id == plan_id), None)

    def listed_prices(self) -> Iterator[ListedPrice]:
        """Yield the prices that are to exist at Stripe."""
        for pack in self.packs:
            yield ListedPrice(
                lookup_key=pack.lookup_key,
                item=f"pack:{pack.id}",
                product_id=f"holdfast_pack_{pack.id}",
                product_name=f"{pack.name}: {pack.credits.normalize():f} credits",
                credits=pack.credits,
                amount_minor=pack.amount_minor,
                currency=pack.currency,
                interval=None,
            )
        for plan in self.plans:
            for price in plan.prices:
                yield ListedPrice(
                    lookup_key=plan.lookup_key(price.interval),
                    item=f"plan:{plan.id}:{price.interval}",
                    product_id=f"holdfast_plan_{plan.id}",
                    product_name=f"{plan.name}: {plan.credits.normalize():f} credits a month",
                    credits=plan.credits,
                    amount_minor=price.amount_minor,
                    currency=plan.currency,
                    interval=price.interval,
                )

    def terms_of(self, price: PriceState) -> PriceTerms | None:
        """
        Return what a price grants, or None when it is not of this catalogue.

        What is written on the price comes first: after a change of prices the old one no longer has the lookup key, and
        those who pay it get what they signed up for.
        """
        item = price.item or next(
            (each.item for each in self.listed_prices() if each.lookup_key == price.lookup_key), ""
        )
        kind, _, rest = item.partition(":")
        item_id, _, interval = rest.partition(":")
        if kind == "pack" and (pack := self.pack(item_id)) and price.interval is None:
            return PriceTerms(
                kind="pack",
                item_id=pack.id,
                interval=None,
                credits=_written(price) or pack.credits,
                months=None,
                terms={},
            )
        if kind == "plan" and (plan := self.plan(item_id)) and price.interval == interval:
            return PriceTerms(
                kind="plan",
                item_id=plan.id,
                interval=price.interval,
                credits=_written(price) or plan.credits,
                months=price.months,
                terms=plan.model_dump(
                    include={"grace_days", "priority", "yearly", "grants_without_payment"}
                ),
            )
        return None


def _written(price: PriceState) -> Decimal | None:
    """Return the credits that are written on a price; nonsense counts as nothing written."""
    try:
        return to_credits(price.credits)
    except ValueError:
        return None


@cache
def catalog() -> Catalog:
    """Return the catalogue; raises `pydantic.ValidationError` when the file is wrong."""
    return Catalog.model_validate(tomllib.loads(_FILE.read_text()))

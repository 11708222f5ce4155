"""What can be bought, from `catalog.toml` beside this file."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from holdfast.vocabulary import credits as to_credits

_FILE = Path(__file__).with_name("catalog.toml")

Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class Pack(BaseModel):
    """Credits that are bought once and do not expire."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Id
    name: str
    credits: Annotated[Decimal, BeforeValidator(to_credits), Field(gt=0)]
    amount_minor: Annotated[int, Field(gt=0)]
    """Price in the currency's minor unit."""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")]


class Catalog(BaseModel):
    """Everything that can be bought."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    packs: tuple[Pack, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Catalog:
        if len({pack.id for pack in self.packs}) != len(self.packs):
            raise ValueError("two packs have the same id")
        return self

    def pack(self, pack_id: str) -> Pack | None:
        """Return the pack with this id, if there is one."""
        return next((pack for pack in self.packs if pack.id == pack_id), None)


@cache
def catalog() -> Catalog:
    """Return the catalogue; raises `pydantic.ValidationError` when the file is wrong."""
    return Catalog.model_validate(tomllib.loads(_FILE.read_text()))

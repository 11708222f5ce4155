"""The page has words for every code that a user can meet, and for no other."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.errors import HoldfastError, InvalidSignatureError
from local.standins.babysea_errors import ERRORS as PROVIDER_ERRORS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "frontend" / "js" / "messages.js").read_text()
GENERATION = (ROOT / "docs" / "errors.md").read_text().partition("## In a generation")[2]


def keys(name: str) -> set[str]:
    """Return the keys of one table of messages.js."""
    (table,) = re.findall(rf"^const {name} = {{\n(.*?)^}};", PAGE, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^  (\w+):", table, re.MULTILINE))


def subclasses(kind: type[HoldfastError]) -> set[type[HoldfastError]]:
    """Return `kind` and all classes below it."""
    return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))


def test_every_error_of_the_api_has_its_message() -> None:
    """Each code but a webhook's, and the page's own word for no answer."""
    codes = {kind.code for kind in subclasses(HoldfastError) - {InvalidSignatureError}}

    assert keys("MESSAGES") == codes | {"offline"}


def test_every_end_of_a_generation_has_its_message() -> None:
    """Each documented code; lost outputs share one message, and the provider's own codes are real ones."""
    rows = re.findall(r"^\| (`.*?) \|", GENERATION.partition("\n## ")[0], re.MULTILINE)
    documented = {code for row in rows for code in re.findall(r"`(\w+)", row)} - {"BSE"}
    outputs = {code for code in documented if code.startswith("output_")}
    shown = keys("JOB_ERRORS")
    providers = {code for code in shown if code.startswith("BSE")}

    assert shown - providers - outputs == documented - outputs
    assert providers <= set(PROVIDER_ERRORS)
    assert 'code.startsWith("output_")' in PAGE

"""docs/openapi.json against the functions."""

from __future__ import annotations

import json
import re
from typing import Any

from local.intrinsics import load
from tools.openapi import PUBLIC, ROOT, TARGET, document


def test_the_document_is_what_the_functions_say() -> None:
    """`make openapi` would write the same file again."""
    assert json.loads(TARGET.read_text()) == document()


def test_the_document_has_every_route_for_clients() -> None:
    """Every HTTP route of the template but the webhooks is documented, whatever its parameters are called."""
    template = load(ROOT / "template.yaml")["Resources"]
    wanted = {
        (event["Properties"]["Method"].lower(), _shape(event["Properties"]["Path"]))
        for resource in template.values()
        for event in resource.get("Properties", {}).get("Events", {}).values()
        if event["Type"] == "HttpApi" and not event["Properties"]["Path"].startswith("/webhooks")
    }

    paths: dict[str, Any] = json.loads(TARGET.read_text())["paths"]

    assert {
        (method, _shape(path)) for path, methods in paths.items() for method in methods
    } == wanted


def test_every_route_but_the_public_ones_needs_a_user() -> None:
    """A route is open only when it is named as open."""
    paths: dict[str, Any] = json.loads(TARGET.read_text())["paths"]

    assert {
        (path, method)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "security" not in operation
    } == PUBLIC


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)

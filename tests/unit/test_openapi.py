"""docs/openapi.json: against the functions, the standard, its own schemas and docs/errors.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from openapi_spec_validator import validate

from local.intrinsics import load
from tools.openapi import PUBLIC, ROOT, TARGET, document

ERRORS = ROOT / "docs" / "errors.md"


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
        if not operation["security"]
    } == PUBLIC


def test_the_document_is_openapi() -> None:
    """It is valid OpenAPI 3.1."""
    validate(json.loads(TARGET.read_text()))


def test_every_body_has_an_example_that_fits() -> None:
    """Each request, answer and error shows an example, and the example is what the schema says."""
    found = json.loads(TARGET.read_text())
    shared = {"components": found["components"]}

    for where, content in _contents(found):
        examples = [one["value"] for one in content.get("examples", {}).values()]
        examples += [content["example"]] if "example" in content else []
        schema = jsonschema_rs.Draft202012Validator(
            content["schema"] | shared, validate_formats=True
        )

        assert examples, where
        assert [str(error) for one in examples for error in schema.iter_errors(one)] == [], where


def test_every_code_has_an_example_of_its_own() -> None:
    """Where a status has several codes each is named in the text and shown."""
    for where, content in _contents(json.loads(TARGET.read_text())):
        for code, shown in content.get("examples", {}).items():
            assert shown["value"]["code"] == code, where
            assert str(shown["value"]["status"]) in where


def test_every_code_occurs() -> None:
    """The codes of docs/errors.md are those of the routes, and one that only a webhook's sender sees."""
    listed = re.findall(r"^\| (\d{3}) \| `(\w+)`", ERRORS.read_text(), re.MULTILINE)
    schemas = json.loads(TARGET.read_text())["components"]["schemas"]
    documented = {
        (str(schema["properties"]["status"]["const"]), schema["properties"]["code"]["const"])
        for name, schema in schemas.items()
        if name.endswith("Problem")
    }

    assert documented == {*listed} - {("400", "invalid_signature")}


def test_one_rule_for_the_key_of_a_wish() -> None:
    """What is an `Idempotency-Key` on one route is one on every other that takes it."""
    paths: dict[str, Any] = json.loads(TARGET.read_text())["paths"]
    rules = [
        parameter["schema"]
        for methods in paths.values()
        for operation in methods.values()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "idempotency-key"
    ]

    assert len(rules) > 1
    assert all(rule == rules[0] for rule in rules)


def test_every_operation_is_fit_for_a_generated_client() -> None:
    """Each operation has a name of its own, a tag that is explained, a summary, and errors by status."""
    found = json.loads(TARGET.read_text())
    operations = [one for methods in found["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]

    assert len(set(names)) == len(names)
    assert {tag for one in operations for tag in one["tags"]} == {
        tag["name"] for tag in found["tags"] if tag.get("description")
    }
    assert all(one["summary"].endswith(".") for one in operations)
    assert all({"400", "500"} <= set(one["responses"]) for one in operations)


def _contents(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every body with a word on where it is."""
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            answers = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for status, answer in answers.items():
                named = answer.get("$ref", "").rsplit("/", 1)[-1]
                resolved = found["components"]["responses"][named] if named else answer
                for content in resolved.get("content", {}).values():
                    yield f"{method} {path} {status}", content


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)

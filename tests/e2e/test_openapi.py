"""Requests made from docs/openapi.json by schemathesis, good and bad, against every route."""

from __future__ import annotations

import os
import sys
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from holdfast.http import INVALID_FIELDS
from tests.e2e.contract import DOCUMENT
from tests.e2e.people import Person
from tests.e2e.world import World

SEED = int(os.environ.get("OPENAPI_SEED", "1"))
EXAMPLES = 10
RULES = frozenset({"value_error", "decimal_max_digits", "decimal_max_places"})
"""What is refused by a rule that no schema can say."""

CREDIT = "0.050"
"""Ten pictures: what bounds the work that a route can be talked into."""

document = schemathesis.openapi.from_path(DOCUMENT)
document.config.generation.update(
    modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
    allow_x00=False,
    with_security_parameters=False,
)
document.config.phases.coverage.unexpected_methods = set()  # those end at the gateway


def fits_the_schema_and_is_read(ctx: CheckContext, response: Any, case: schemathesis.Case) -> None:
    """Let what fits the schema be refused for what it means, never for its shape."""
    is_good = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if is_good and response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        problem = response.json()
        codes = {error["code"] for error in problem.get("errors", [])}
        assert problem["detail"] != INVALID_FIELDS or codes <= RULES, problem


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    missing_required_header,
    fits_the_schema_and_is_read,
]


@pytest.fixture(name="caller", scope="module")
def _caller(world: World) -> Person:
    """Return an admin: to anybody else a route for admins says nothing but 403."""
    person = world.person(CREDIT)
    world.make_admin(person)
    return person


@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
@document.parametrize()
def test_every_route_keeps_what_the_document_says(
    case: schemathesis.Case, world: World, caller: Person
) -> None:
    """No answer is a 5xx, undocumented or out of shape; bad requests are refused, good ones are read."""
    response = case.call(
        base_url=world.stack.url, headers={"authorization": f"Bearer {caller.token}"}
    )
    sys.stdout.write(f"OPENAPI_SEED={SEED} {case.method} {case.path} {response.status_code}\n")
    case.validate_response(response, checks=CHECKS)

"""The words of the SQL are the words of the Python."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from tests.database import TestDatabase
from tests.factories import Backend
from tests.raising import raises_sqlstate

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = sorted((ROOT / "sql" / "migrations").glob("*.sql"))


def _values_of_check(db: TestDatabase, place: str, constraint: str) -> set[str]:
    definition = db.value(
        "select pg_get_constraintdef(oid) from pg_constraint"
        " where conname = %s and (conrelid = to_regclass(%s) or contypid = to_regtype(%s))",
        constraint,
        place,
        place,
    )
    return set(re.findall(r"'([^']+)'::text", definition))


@pytest.mark.parametrize(
    ("enum", "place", "constraint"),
    [
        ("GenerationStatus", "public.generations", "status_is_known"),
        ("MediaKind", "public.generations", "kind_is_known"),
        ("GrantSource", "ledger.grant_source", "source_is_known"),
        ("EntryType", "ledger.entry_type", "type_is_known"),
    ],
)
def test_enum_and_constraint(db: TestDatabase, enum: str, place: str, constraint: str) -> None:
    """A Python enum and the check of its column's table or domain list the same values."""
    from holdfast import vocabulary

    members: type[StrEnum] = getattr(vocabulary, enum)

    assert _values_of_check(db, place, constraint) == {str(member) for member in members}


def test_provider_statuses(backend: Backend) -> None:
    """Every status Python may pass on is one the SQL can apply, and no other is."""
    from holdfast.vocabulary import ProviderStatus

    for status in ProviderStatus:
        backend.callback(backend.processing(cost=0)[1], status)
    with raises_sqlstate("P0001"):
        backend.callback(backend.processing(cost=0)[1], "queued")


def test_final_states_finish(backend: Backend) -> None:
    """The states Python calls final are those the SQL gives an end."""
    from holdfast.vocabulary import GenerationStatus

    ended = backend.db.rows(
        "select s as status from unnest(%s::text[]) s where exists ("
        " select from pg_proc where oid = 'backend.move'::regproc"
        " and position(quote_literal(s) in substring(prosrc from 'v_final constant boolean := [^;]+')) > 0)",
        [str(status) for status in GenerationStatus],
    )

    assert {row["status"] for row in ended} == {
        str(status) for status in GenerationStatus if status.is_final
    }


def test_sqlstates_have_error_classes() -> None:
    """Every private SQLSTATE a caller can meet is a class in Python, and none is there in vain."""
    from holdfast.errors import LEDGER_ERRORS

    raised = {
        state
        for path in MIGRATIONS
        for state in re.findall(r"errcode = '(HF\d{3})'", path.read_text())
    }

    # HF007 guards the ledger's rows, which no role of the backend can reach
    assert raised - {"HF007"} == LEDGER_ERRORS.keys()


@pytest.mark.parametrize("schema", ["ledger", "backend"])
def test_outcomes_are_documented(db: TestDatabase, schema: str) -> None:
    """A function that answers with an outcome says in its comment which ones there are."""
    functions = db.rows(
        "select p.proname as name, p.prosrc as source, obj_description(p.oid, 'pg_proc') as comment"
        " from pg_proc p where p.pronamespace = %s::regnamespace"
        " and obj_description(p.oid, 'pg_proc') like '%%Outcomes:%%'",
        schema,
    )

    assert functions
    for function in functions:
        listed = function["comment"].partition("Outcomes:")[2].partition(".")[0]
        named = set(re.findall(r"[a-z_]+", listed))
        for word in re.findall(r"return '(\w+)'|outcome := '(\w+)'", function["source"]):
            assert next(filter(None, word)) in named | {"reserved"}, function["name"]

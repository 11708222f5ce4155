"""What docs/billing.md says of the code."""

from __future__ import annotations

import re

from holdfast.billing import Outcome
from holdfast.catalog import Pack, Plan
from holdfast.stripe_events import EVENT_KINDS
from tests.unit.test_documentation import MIGRATIONS, ROOT, rows, table

PAGE = "docs/billing.md"


def tables(head: str) -> list[list[list[str]]]:
    """Return the rows of each table whose first column is called `head`."""
    found: list[list[list[str]]] = []
    for row in rows(PAGE):
        if row[0] == head:
            found.append([])
        elif found and row[0].startswith("`"):
            found[-1].append(row)
    return found


def test_every_event_has_its_row_and_its_test() -> None:
    """Each type that is acted on says what it does, by which key, and names a test; no row is left over."""
    acted_on, _ignored = tables("event")

    assert [row[0].strip("`") for row in acted_on] == list(EVENT_KINDS)
    assert [row[0] for row in acted_on if not all(row) or "`test_" not in row[-1]] == []


def test_what_is_ignored_is_not_acted_on() -> None:
    """No type is in both tables, and each has its reason."""
    _acted_on, ignored = tables("event")
    named = {name for row in ignored for name in re.findall(r"`([a-z_.]+)`", row[0])}

    assert "invoice.payment_failed" in named
    assert named & set(EVENT_KINDS) == set()


def test_every_outcome_has_its_row() -> None:
    """In the order of the code, then what only the database says; an alarm is named, with what to do."""
    documented = table(PAGE, "outcome")
    given_up = re.findall(r"update backend.stripe_events set outcome = '(\w+)'", MIGRATIONS)

    assert [row[0].strip("`") for row in documented] == [*map(str, Outcome), *given_up]
    alarming = {row[0].strip("`") for row in documented if "PaymentMismatchAlarm" in row[2]}
    assert alarming == {str(outcome) for outcome in Outcome if outcome.is_suspicious}
    assert [row[0] for row in documented if row[2] and not row[3]] == []


def test_every_field_of_the_catalogue_is_described() -> None:
    """Whoever edits the file finds each field, and no other."""
    for head, entry in (("field of a pack", Pack), ("field of a plan", Plan)):
        named = {name for row in table(PAGE, head) for name in re.findall(r"`([a-z_]+)`", row[0])}
        assert named == set(entry.model_fields)


def test_every_test_that_the_page_names_exists() -> None:
    """A policy is only as good as the test that shows it."""
    named = set(re.findall(r"`(test_[a-z_0-9]+)`", (ROOT / PAGE).read_text()))
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))

    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()

"""The runnable stories of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.database import TestDatabase
from tools.examples import EXAMPLES, run

pytestmark = pytest.mark.own_database


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.sql")), ids=lambda path: path.stem)
def test_an_example_shows_what_is_committed(database: TestDatabase, example: Path) -> None:
    """Running the story again gives the output beside it, byte for byte."""
    shown = run(database.server, database.name, example)

    assert shown == example.with_suffix(".sql.out").read_text()

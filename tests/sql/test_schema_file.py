"""sql/schema.sql is what the migrations make."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.database import TestDatabase
from tools import dump_schema


def _major(database: TestDatabase) -> int:
    return int(database.value("select current_setting('server_version_num')::int / 10000"))


def test_file_is_current(db: TestDatabase) -> None:
    """Regenerating the file changes no byte; run `python -m tools.dump_schema` when it does."""
    if _major(db) != dump_schema.MAJOR:
        pytest.skip(f"pg_dump of {_major(db)} writes other text; the objects are compared below")

    assert dump_schema.dump(db.server, db.name) == dump_schema.SCHEMA.read_text()


def test_file_has_every_object(db: TestDatabase) -> None:
    """Whichever major is used, the file lists exactly the objects the migrations made."""
    found = dump_schema.objects(dump_schema.dump(db.server, db.name))

    assert found == dump_schema.objects(dump_schema.SCHEMA.read_text())
    assert len(found) > 100


def test_dump_is_the_same_twice(
    make_database: Callable[..., TestDatabase], db: TestDatabase
) -> None:
    """Nothing of the run, the database's name or its past is in the text."""
    other = make_database()

    assert dump_schema.dump(other.server, other.name) == dump_schema.dump(db.server, db.name)


def test_nothing_that_varies() -> None:
    """The file names no version and holds no token, no session setting and no blank end of line."""
    text = dump_schema.SCHEMA.read_text()

    assert not re.search(r"\\(un)?restrict|Dumped|^SET |set_config|[ \t]$", text, re.MULTILINE)


def test_other_major_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server of another major writes nothing and says so."""
    monkeypatch.setattr(dump_schema, "MAJOR", 99)
    monkeypatch.setattr(dump_schema, "SCHEMA", tmp_path / "schema.sql")

    assert dump_schema.main() == 1

    assert "99" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_file_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, db: TestDatabase) -> None:
    """The command writes what the test above compares."""
    written = tmp_path / "schema.sql"
    monkeypatch.setattr(dump_schema, "MAJOR", _major(db))
    monkeypatch.setattr(dump_schema, "SCHEMA", written)

    assert dump_schema.main() == 0

    assert written.read_text() == dump_schema.dump(db.server, db.name)

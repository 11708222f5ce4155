"""The terminal of an operator who runs `make ops`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.factories import Backend
from tools import ops


class Terminal:
    """Run the command as an operator would, with what is typed given before."""

    def __init__(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", backend.db.url("postgres"))
        self._monkeypatch = monkeypatch
        self.printed = ""

    def run(self, *arguments: str, typed: str = "") -> int:
        """Return the exit status; `printed` is what it said."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        console = Console(file=io.StringIO(), width=240, highlight=False)
        status = ops.main(list(arguments), console)
        assert isinstance(console.file, io.StringIO)
        self.printed = console.file.getvalue()
        return status

    def cells(self, first: str) -> list[str]:
        """Return the cells of the one printed row that begins with `first`."""
        rows = [
            [cell.strip() for cell in line.strip("│").split("│")]
            for line in self.printed.splitlines()
            if line.startswith("│")
        ]
        (row,) = [row for row in rows if row[0] == first]
        return row[1:]

"""A database with pauses in its functions, the explorer on it, and the count of what was explored."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Templates
from tests.database import TestDatabase
from tests.interleavings import pauses
from tests.interleavings.explorer import Explorer
from tests.interleavings.schedules import Scenario, UnexplainedError
from tests.ledger_profile import FULL

COUNT = "schedules"


@pytest.fixture(name="paused_database", scope="session")
def _paused_database(templates: Templates) -> Iterator[TestDatabase]:
    """Return a database whose ledger stops at every statement, if the session is driven."""
    with templates.copy() as database:
        pauses.install(database)
        yield database


@pytest.fixture(name="explorer", scope="session")
def _explorer(paused_database: TestDatabase) -> Iterator[Explorer]:
    with Explorer(paused_database) as explorer:
        yield explorer


@pytest.fixture(name="explore")
def _explore(
    request: pytest.FixtureRequest,
    explorer: Explorer,
    record_property: Callable[[str, object], None],
) -> Callable[[Scenario, int | None], None]:
    """
    Return a function that explores a scenario with so many switches.

    SCHEDULE=ABBA plays that one schedule instead, by the command that a failure prints.
    """

    def explore(scenario: Scenario, switches: int | None) -> None:
        try:
            if schedule := os.environ.get("SCHEDULE"):
                explorer.replay(scenario, schedule)
            else:
                record_property(COUNT, explorer.explore(scenario, switches))
        except UnexplainedError as error:
            failed = error
        else:
            return
        command = rerun(request.node.nodeid, failed.schedule)
        pytest.fail(f"{failed}\nonly this schedule again:\n  {command}", pytrace=False)

    return explore


def rerun(test: str, schedule: str) -> str:
    """Return the command that plays one schedule of a test again."""
    profile = "LEDGER_PROFILE=full " if FULL else ""
    return f"{profile}SCHEDULE={schedule} .venv/bin/pytest {shlex.quote(test)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many schedules were played."""
    counts = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == COUNT
    ]
    if counts:
        terminalreporter.write_line(
            f"interleavings: {sum(counts)} schedules of {len(counts)} scenarios"
            + ("" if FULL else "; LEDGER_PROFILE=full plays more of both")
        )

"""`make mutants` calls killed only what a failing test has noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import mutants

RUNS = {
    "all tests pass": (0, "90 passed", (mutants.SURVIVED, "")),
    "a test fails": (
        1,
        "F\nFAILED tests/sql/test_grant.py::test_it[1] - assert 1 == 2\n1 failed\n",
        (mutants.KILLED, "test_it[1]"),
    ),
    "migrations do not apply": (
        1,
        "E\nERROR tests/sql/test_grant.py::test_it - RuntimeError: no\n1 error\n",
        (mutants.ERROR, "exit status 1: ERROR tests/sql/test_grant.py::test_it - RuntimeError: no"),
    ),
    "nothing can be imported": (
        2,
        "ERROR tests/sql/test_grant.py\n1 error\n",
        (mutants.ERROR, "exit status 2: ERROR tests/sql/test_grant.py"),
    ),
    "there is no test": (5, "no tests ran\n", (mutants.ERROR, "exit status 5: no tests ran")),
    "pytest dies": (-9, "", (mutants.ERROR, "exit status -9: no word")),
}


@pytest.mark.parametrize(("status", "output", "verdict"), RUNS.values(), ids=RUNS)
def test_what_a_run_means(status: int, output: str, verdict: tuple[str, str]) -> None:
    """A failed test kills; whatever else goes wrong is an error and says which."""
    assert mutants.judge(status, output) == verdict


def test_tests_that_never_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mutant that hangs was noticed, and is said to have been ended by the clock."""
    (tmp_path / "test_suite.py").write_text("import time\ndef test_it(): time.sleep(60)")
    monkeypatch.setattr(mutants, "TESTS", [str(tmp_path / "test_suite.py")])

    found = mutants.run_tests("it", tmp_path, 1)

    assert (found.outcome, found.why) == ("killed by timeout", "no end within 1 s")
    assert found.killed


def test_no_mutant_is_tried_on_tests_that_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the tests fail without a mutant, that is said, and the run fails before the first one."""
    (tmp_path / "test_suite.py").write_text("def test_it(): assert False")
    monkeypatch.setattr(mutants, "TESTS", [str(tmp_path / "test_suite.py")])
    monkeypatch.setattr("sys.argv", ["mutants", mutants.MUTANTS[0].name])

    assert mutants.main() == 1

    assert capsys.readouterr().out == "nothing is changed, and yet: killed, test_it\n"


def test_unknown_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no mutant has fails the run, instead of trying none."""
    monkeypatch.setattr("sys.argv", ["mutants", "no such thing"])

    assert mutants.main() == 1

    assert capsys.readouterr().out == "no such mutant: no such thing\n"

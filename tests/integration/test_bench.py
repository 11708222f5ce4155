"""The bench runs from end to end. What it measures is for a quiet machine and a person to judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bench import ledger
from bench.report import LOADS, QUICK


def test_bench_of_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short run has a figure of every design for every question, and leaves books that add up."""
    assert ledger.main(["--quick", f"--output={tmp_path}"]) == 0

    results = json.loads((tmp_path / "ledger.json").read_text())
    assert {load: set(figures) for load, figures in results["load"].items()} == {
        load: {"ours", "usual", "tuned", "floor"} for load in LOADS
    }
    assert {size: set(figures) for size, figures in results["search"].items()} == {
        str(size): {"ours", "usual", "tuned"} for size in QUICK.sizes
    }
    for question, rounds in ("load", QUICK.rounds), ("search", QUICK.searches):
        for designs in results[question].values():
            assert all(len(each) == rounds and min(each) > 0 for each in designs.values())
    assert len(results["checks"]) == 7
    assert all(check["holds"] for check in results["checks"])
    with Image.open(tmp_path / "ledger.png") as picture:
        assert picture.width > picture.height
    printed = capsys.readouterr().out
    for row in (
        "(a) every account",
        "(b) one account",
        "(c) floor",
        "1,000 settled",
        "audit()",
    ):
        assert row in printed


def test_without_pgbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the chosen PostgreSQL has no pgbench, the bench says so and starts nothing."""
    monkeypatch.setenv("PGBIN", str(tmp_path))

    assert ledger.main([]) == 2

    assert "no pgbench" in capsys.readouterr().out

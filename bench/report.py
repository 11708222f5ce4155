"""The figures of a run: a table for a person, JSON for a program, a picture for the page that quotes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.plot import Panel, draw

RATIOS = {"spread": 1.25, "hot": 2.0}
"""What ours should reach as a multiple of the usual design's rate."""

FLAT = 3.0
"""How much slower the longest history may make our search: it takes so little that noise is a large part."""


@dataclass(frozen=True)
class Plan:
    """How much is run: `turn` is pgbench's option for a turn, `searches` are rounds of (d) behind `sizes`."""

    rounds: int
    turn: str
    searches: int
    accounts: int
    sizes: tuple[int, ...]


FULL = Plan(
    rounds=9, turn="--time=4", searches=5, accounts=10_000, sizes=(10_000, 100_000, 1_000_000)
)
QUICK = Plan(rounds=2, turn="--transactions=20", searches=2, accounts=200, sizes=(100, 1_000))


LOADS = {"spread": "(a) every account", "hot": "(b) one account"}
"""What pgbench does in a turn."""


@dataclass(frozen=True)
class Check:
    """Something that has to hold after the run."""

    name: str
    holds: bool
    found: str


@dataclass
class Results:
    """Every round's figure: pairs a second by load and design, milliseconds by size and design."""

    machine: dict[str, Any]
    plan: Plan
    load: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    search: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)


def write(results: Results, console: Console, folder: Path) -> None:
    """Print the tables and write `ledger.json` and `ledger.png` to `folder`."""
    wide = Console(file=console.file, width=max(console.width, 160), highlight=False)
    wide.print(_load_table(results), _search_table(results), sep="\n")
    rounds = f"{results.plan.rounds} rounds, (d) of {results.plan.searches}"
    wide.print(f"median (lowest to highest) of {rounds}; a ratio is of one round")
    for target, met in _targets(results).items():
        wide.print(f"{'[green]met[/]  ' if met else '[yellow]missed[/]'} {target}")
    for check in results.checks:
        mark = "[green]ok[/]   " if check.holds else "[red]WRONG[/]"
        wide.print(f"{mark}  {check.name}: {check.found}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ledger.json").write_text(json.dumps(asdict(results), indent=2) + "\n")
    draw(_panels(results), folder / "ledger.png")
    wide.print(f"written: {folder / 'ledger.json'}, {folder / 'ledger.png'}", soft_wrap=True)


def _load_table(results: Results) -> Table:
    columns = ("ours", "usual design", "tuned by us", "(c) floor", "ours / usual", "ours / tuned")
    table = Table("reserve + charge, pairs/s", *columns)
    for load, figures in results.load.items():
        rates = (figures[design] for design in ("ours", "usual", "tuned", "floor"))
        ratios = (_ratios(figures["ours"], figures[peer]) for peer in ("usual", "tuned"))
        cells = [*(_spread(each, "{:,.0f}") for each in rates)]
        cells += [_spread(each, "{:.2f}") for each in ratios]
        table.add_row(LOADS[load], *cells)
    return table


def _search_table(results: Results) -> Table:
    table = Table(
        "(d) search for stuck reservations, ms",
        "ours",
        "usual design",
        "tuned by us",
        "usual / ours",
    )
    for size, figures in results.search.items():
        cells = [_spread(figures[design], "{:,.2f}") for design in ("ours", "usual", "tuned")]
        ratios = _ratios(figures["usual"], figures["ours"])
        table.add_row(f"{size:,} settled behind it", *cells, _spread(ratios, "{:,.0f}"))
    return table


def _targets(results: Results) -> dict[str, bool]:
    spread, hot = (_ratios(results.load[x]["ours"], results.load[x]["usual"]) for x in RATIOS)
    searches = [median(figures["ours"]) for figures in results.search.values()]
    return {
        f"(a) at least {RATIOS['spread']} times the usual design": median(spread)
        >= RATIOS["spread"],
        f"(b) at least {RATIOS['hot']} times the usual design": median(hot) >= RATIOS["hot"],
        "(d) flat, however many are settled": max(searches) <= FLAT * searches[0],
    }


def _ratios(ours: Sequence[float], usual: Sequence[float]) -> list[float]:
    """Return the ratio of each round: neighbours in time, so the machine's drift cancels."""
    return [a / b for a, b in zip(ours, usual, strict=True)]


def _spread(figures: Sequence[float], form: str) -> str:
    lowest, highest = form.format(min(figures)), form.format(max(figures))
    return f"{form.format(median(figures))} ({lowest} to {highest})"


def _panels(results: Results) -> list[Panel]:
    return [
        Panel(
            title="Reserve + charge (more is better)",
            unit="pairs a second",
            groups={LOADS[load]: figures for load, figures in results.load.items()},
            logarithmic=False,
        ),
        Panel(
            title="Search for stuck reservations (less is better)",
            unit="milliseconds, logarithmic scale",
            groups={f"{size:,} settled": figures for size, figures in results.search.items()},
            logarithmic=True,
        ),
    ]

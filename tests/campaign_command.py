"""The command line that the campaigns share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping


def campaign_arguments(
    program: str, about: str | None, *, runs: int, defects: Iterable[str]
) -> argparse.Namespace:
    """Read `seed`, `runs`, `trail` and `defect`."""
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=runs, help="how many seeds")
    parser.add_argument("--trail", action="store_true", help="print the whole trail")
    parser.add_argument("--defect", choices=defects, help="break the product in this way first")
    return parser.parse_args()


def since(begun: float) -> str:
    """Say how long ago a moment of the monotonic clock was."""
    return f"{time.monotonic() - begun:.0f} s"


def failed_seeds(failed: Mapping[int, list[str]]) -> str:
    """Name the seeds that failed, and how."""
    told = [f"{seed} ({'; '.join(how)})" for seed, how in failed.items()]
    return f"failed seeds: {', '.join(told)}"

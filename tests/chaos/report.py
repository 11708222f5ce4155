"""What is printed of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.chaos.campaign import Result

_ID = re.compile(r"\bid\d+\b")
_TRAIL_MAX = 200


def failure(result: Result, *, whole: bool = False) -> str:
    """Return seed, schedule and trail of a failed run; `whole` leaves nothing of the trail out."""
    return "\n".join(
        [
            f"seed {result.seed}: {len(result.violations)} violations",
            *(f"  {line}" for line in result.violations),
            f"schedule: {len(result.faults)} faults",
            *(f"  {key}: {kind}" for key, kind in result.faults.items()),
            "trail:",
            *(f"  {line}" for line in (result.trail if whole else _short(result))),
            f"again: make chaos SEED={result.seed} RUNS=1",
        ]
    )


def _short(result: Result) -> Iterator[str]:
    """Leave out what says nothing: sweeps that found nothing, and wishes that have no part in it."""
    named = set(_ID.findall(" ".join(result.violations)))
    wishes = {
        match[1]
        for line in result.trail
        if named & set(_ID.findall(line)) and (match := re.search(r"(user\d wish \d)", line))
    }
    kept = [
        line
        for line in result.trail
        if "***" in line
        or "everything is back" in line
        or named & set(_ID.findall(line))
        or any(wish in line for wish in wishes)
    ]
    yield from kept[:_TRAIL_MAX]
    if len(kept) > _TRAIL_MAX:
        yield f"... {len(kept) - _TRAIL_MAX} more"

"""What is printed of a run."""

from __future__ import annotations

import re

from tests.chaos_stripe.campaign import Result

_NAME = re.compile(r"\b(?:user\d+|[a-z]+_\w{6,})\b")
_TRAIL_MAX = 80


def failure(result: Result, *, whole: bool = False) -> str:
    """Return seed and trail of a failed run; `whole` leaves nothing of the trail out."""
    return "\n".join(
        [
            f"seed {result.seed}: {len(result.violations)} violations",
            *(f"  {line}" for line in result.violations),
            "trail:",
            *(f"  {line}" for line in (result.trail if whole else _short(result))),
            f"again: make chaos-stripe SEED={result.seed} RUNS=1",
        ]
    )


def _short(result: Result) -> list[str]:
    """Keep the end of what is about the things that are wrong."""
    wrong = {name[-6:] for name in _NAME.findall(" ".join(result.violations))}
    kept = [line for line in result.trail if any(name in line for name in wrong)]
    left_out = len(kept) - _TRAIL_MAX
    return [f"... {left_out} lines before", *kept[-_TRAIL_MAX:]] if left_out > 0 else kept

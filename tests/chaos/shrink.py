"""Make a failing schedule small: leave faults out, one by one, as long as it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.campaign import Result

Run = Callable[[int, frozenset[str]], Result]


def shrink(run: Run, failed: Result, tries: int = 80) -> Result:
    """
    Return the smallest failing run that so many tries find.

    First halves, then quarters, in the end single faults are left out; whatever is left is needed.
    """
    best, needed = failed, list(failed.faults)
    size = max(1, len(needed) // 2)
    while needed and tries > 0:
        start, was_left_out = 0, False
        while start < len(needed) and tries > 0:
            candidate = needed[:start] + needed[start + size :]
            tries -= 1
            result = run(failed.seed, frozenset(candidate))
            if set(result.shape) & set(failed.shape):
                # faults that no longer come to pass are not needed either
                best, needed, was_left_out = result, list(result.faults), True
            else:
                start += size
        if size == 1 and not was_left_out:
            break
        size = max(1, size // 2)
    return best

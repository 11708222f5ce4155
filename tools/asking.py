"""Ask a person before something is changed."""

from __future__ import annotations

from rich.console import Console


def is_agreed(console: Console) -> bool:
    """Ask whether to go on; no answer is a no."""
    try:
        return console.input("Do it? [y/N] ", markup=False).strip().lower() in {"y", "yes"}
    except EOFError:
        return False

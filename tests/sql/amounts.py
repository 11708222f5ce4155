"""What is no amount of credits, whichever function it is handed to."""

from __future__ import annotations

NOT_AMOUNTS = {
    "missing": None,
    "negative": "-0.001",
    "not a number": "NaN",
    "infinite": "Infinity",
    "minus infinity": "-Infinity",
    "four decimals": "1.0001",
    "a ten-thousandth": "0.0001",
    "beyond the column": "100000000000",
    "astronomical": "1e1000",
}
"""Values ledger functions refuse with HF001, zero apart."""

LARGEST = "99999999999.999"

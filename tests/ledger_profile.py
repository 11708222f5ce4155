"""How long the ledger's tests take: LEDGER_PROFILE=full is what `make test-ledger` sets."""

from __future__ import annotations

import os

FULL = os.environ.get("LEDGER_PROFILE") == "full"

TIMEOUT_SECONDS = 3600 if FULL else 300
"""For a test that is long by design at full length; a busy machine makes it longer still."""

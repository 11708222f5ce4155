"""
The billing campaign: `make chaos-stripe SEED=1 RUNS=20`.

Runs the seeds from SEED on, says what happened, and shows the first failure of each kind.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

from rich.console import Console

from local.postgres import local_postgres
from tests.campaign_command import campaign_arguments, failed_seeds, since
from tests.chaos_stripe.campaign import Campaign
from tests.chaos_stripe.defects import DEFECTS
from tests.chaos_stripe.report import failure

_FAILURES_SHOWN = 3

console = Console(highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """Run the campaign; return 1 if a run failed."""
    arguments = campaign_arguments(
        "python -m tests.chaos_stripe", __doc__, runs=20, defects=DEFECTS
    )
    os.environ["POWERTOOLS_METRICS_DISABLED"] = "true"
    begun = time.monotonic()
    totals: Counter[str] = Counter()
    failed: dict[int, list[str]] = {}
    with local_postgres(durable=False) as server, Campaign(server) as campaign:
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            result = campaign.run(seed, arguments.defect)
            totals += result.totals
            if result.violations:
                failed[seed] = result.shape
                is_new = list(failed.values()).count(result.shape) == 1
                if is_new and len(failed) <= _FAILURES_SHOWN:
                    console.print(failure(result, whole=arguments.trail))
            elif arguments.trail:
                console.print("\n".join(result.trail))
            done = seed - arguments.seed + 1
            if done % 50 == 0:
                console.print(f"{done} runs, {len(failed)} failed, {since(begun)}")
    console.print(
        f"{arguments.runs} runs from seed {arguments.seed}: {len(failed)} failed, {since(begun)}."
    )
    console.print(", ".join(f"{count:,} {name}" for name, count in sorted(totals.items())))
    if failed:
        console.print(failed_seeds(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

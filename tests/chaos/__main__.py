"""
The crash campaign: `make chaos SEED=1 RUNS=200`.

Runs the seeds from SEED on, says what happened, and shows the smallest schedule of the first failure of each kind.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from local.postgres import local_postgres
from tests.campaign_command import campaign_arguments, failed_seeds, since
from tests.chaos.campaign import Campaign
from tests.chaos.defects import DEFECTS, defective
from tests.chaos.report import failure
from tests.chaos.shrink import shrink

_FAILURES_SHOWN = 3


def main() -> int:
    """Run the campaign; return 1 if a run failed."""
    arguments = campaign_arguments("python -m tests.chaos", __doc__, runs=200, defects=DEFECTS)
    begun = time.monotonic()
    faults: Counter[str] = Counter()
    states: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    failed: dict[int, list[str]] = {}
    steps = 0
    with (
        local_postgres(durable=False) as server,
        defective(arguments.defect) as sql,
        Campaign(server, defect=sql) as campaign,
    ):
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            result = campaign.run(seed)
            steps += result.steps
            faults.update(result.faults.values())
            states += result.generations
            lost += result.lost
            if result.violations:
                failed[seed] = result.shape
                if list(failed.values()).count(result.shape) == 1 and (
                    len(failed) <= _FAILURES_SHOWN
                ):
                    smallest = shrink(campaign.run, result)
                    print(failure(smallest, whole=arguments.trail), flush=True)
            elif arguments.trail:
                print("\n".join(result.trail))
            done = seed - arguments.seed + 1
            if done % 100 == 0:
                print(f"{done} runs, {len(failed)} failed, {since(begun)}", flush=True)
    print(
        f"{arguments.runs} runs from seed {arguments.seed}: {len(failed)} failed.",
        f"{steps} steps, {sum(states.values())} generations ({_listed(states)}),",
        f"{sum(faults.values())} faults, {since(begun)}.",
    )
    print(f"faults: {_listed(faults)}")
    print(f"billed by the provider and lost to its faults: {_listed(lost) or 'none'}")
    if failed:
        print(failed_seeds(failed))
    return 1 if failed else 0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())

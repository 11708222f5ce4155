from __future__ import annotations

import os

import pytest

from tests.chaos.conftest import Campaigns
from tests.chaos.defects import DEFECTS
from tests.chaos.report import failure
from tests.chaos.shrink import shrink

RUNS = int(os.environ.get("CHAOS_RUNS", "200"))
PARTS = 8
DEFECT_RUNS = 120


@pytest.mark.parametrize("part", range(PARTS))
def test_every_run_recovers(campaigns: Campaigns, part: int) -> None:
    """Whatever is killed, lost, doubled or away: when all is back, books, store and bill agree."""
    with campaigns() as campaign:
        for seed in range(1 + part, 1 + RUNS, PARTS):
            result = campaign.run(seed)
            if result.violations:
                pytest.fail(failure(shrink(campaign.run, result)))


@pytest.mark.parametrize("seed", [2, 4, 10])
def test_a_seed_is_replayed_exactly(campaigns: Campaigns, seed: int) -> None:
    """The same seed does the same things in the same order, whatever ran before it and in whichever process."""
    with campaigns() as campaign:
        first = campaign.run(seed)
        campaign.run(seed + 1)
        second = campaign.run(seed)
    with campaigns() as another:
        third = another.run(seed)

    assert first.faults
    assert first.trail == second.trail == third.trail
    assert first.faults == second.faults == third.faults


def test_without_faults_nothing_is_lost(campaigns: Campaigns) -> None:
    """Where nothing is made to go wrong, nothing does."""
    with campaigns() as campaign:
        for seed in range(1, 6):
            result = campaign.run(seed, frozenset())

            assert not result.faults
            assert not result.violations


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(campaigns: Campaigns, defect: str) -> None:
    """A campaign that cannot fail proves nothing: each mistake that is put in shows up as a violation."""
    with campaigns(defect) as campaign:
        assert any(campaign.run(seed).violations for seed in range(1, DEFECT_RUNS))


def test_a_failing_schedule_is_made_small(campaigns: Campaigns) -> None:
    """What is left of the faults is needed for the failure, and is told with the seed and the trail."""
    with campaigns("a cancel refunds without asking the provider") as campaign:
        results = (campaign.run(seed) for seed in range(1, DEFECT_RUNS))
        failed = next(result for result in results if result.violations and result.faults)
        smallest = shrink(campaign.run, failed)
        again = campaign.run(failed.seed, frozenset(smallest.faults))

    assert smallest.violations == again.violations
    assert len(smallest.faults) < len(failed.faults)
    told = failure(smallest)
    assert f"make chaos SEED={failed.seed} RUNS=1" in told
    assert smallest.violations[0] in told

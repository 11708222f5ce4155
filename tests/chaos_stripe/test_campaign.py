from __future__ import annotations

import pytest

from tests.chaos_stripe.campaign import Campaign
from tests.chaos_stripe.defects import DEFECTS
from tests.chaos_stripe.report import failure


@pytest.mark.parametrize("seed", [11, 12])
def test_one_reconciliation_brings_back_what_was_lost(campaign: Campaign, seed: int) -> None:
    """A third of the webhooks is lost, others are doubled, shuffled, late: the books end as Stripe's objects say."""
    result = campaign.run(seed)

    assert not result.violations, failure(result)
    assert result.totals["undelivered"]
    assert result.totals["swallowed"]
    assert result.totals["wrong before reconciliation"]


def test_a_seed_is_replayed_exactly(campaign: Campaign) -> None:
    """The same seed does the same things in the same order."""
    first, second = campaign.run(13), campaign.run(13)

    assert first.trail == second.trail
    assert first.totals == second.totals
    assert not first.violations, failure(first)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(campaign: Campaign, defect: str) -> None:
    """A campaign that cannot fail proves nothing: each mistake that is put in is found, with what repeats it."""
    results = (campaign.run(seed, defect) for seed in range(2, 8))
    failed = next(result for result in results if result.violations)

    assert f"again: make chaos-stripe SEED={failed.seed} RUNS=1" in failure(failed)

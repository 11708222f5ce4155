"""
One worker for a generation, and an end to what breaks every worker.

A message may come twice, and the sweep sends messages of its own: workers that meet share the work. A try is counted
before it begins, because a worker that dies of it cannot count.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from holdfast.errors import HoldfastError, UnavailableError
from holdfast.observability import count, logger
from holdfast.recovery import LeaseOutcome, RecoveryStore
from holdfast.usecases.settle_generation import GenerationSettler

LEASE_SECONDS = 190
"""A little longer than the function may run."""


class LeasedSettler:
    """Settle under a lease."""

    def __init__(self, recovery: RecoveryStore, settler: GenerationSettler) -> None:
        self._recovery = recovery
        self._settler = settler

    def settle(
        self,
        generation_id: UUID,
        message_id: str,
        *,
        give_up: bool = False,
        has_time: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        Settle one generation, unless somebody else does; no file is begun once `has_time` says no.

        Raises what went wrong, so that the message comes back. A poisoned generation is not tried: its reservation
        stays open until the operator decides.
        """
        leased = self._recovery.begin_settlement(generation_id, message_id, LEASE_SECONDS)
        if leased is LeaseOutcome.POISONED:
            logger().error("settlement failed too often", generation_id=generation_id)
            count("Settlement.poisoned")
            raise UnavailableError(reason="failed too often: see `make ops`")
        if leased is not LeaseOutcome.LEASED:
            logger().info("nothing to settle", generation_id=generation_id, outcome=leased)
            return
        try:
            self._settler.settle(generation_id, give_up=give_up, has_time=has_time)
        except UnavailableError as trouble:
            self._give_back(generation_id, message_id, trouble, is_failure=False)
            raise
        except Exception as error:
            self._give_back(generation_id, message_id, error, is_failure=True)
            raise

    def _give_back(
        self, generation_id: UUID, message_id: str, error: Exception, *, is_failure: bool
    ) -> None:
        reason = str(error) if isinstance(error, HoldfastError) else type(error).__name__
        try:
            self._recovery.end_settlement(generation_id, message_id, reason, is_failure=is_failure)
        except HoldfastError:
            # the database is what is away; the lease runs out by itself
            logger().warning("lease not given back", generation_id=generation_id)

"""
Finish or refund what got stuck.

A sweep leases generations that have not moved for a while and asks the provider before it decides. It ends in the same
SQL as a callback does, so it does not matter which of them comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast.babysea import BabySeaClient
from holdfast.errors import HoldfastError
from holdfast.generations import GenerationStore, ProviderResult, StuckGeneration
from holdfast.ledger import LedgerClient
from holdfast.observability import count, logger, report
from holdfast.settle_queue import SettleQueue
from holdfast.usecases.dispatch import Dispatcher
from holdfast.vocabulary import GenerationStatus

BATCH = 20
LEASE_SECONDS = 120
REPLAY_SECONDS_MAX = 23 * 3600
"""Younger than the provider's 24 hours of idempotency: after that the same key would bill a second job."""

_LONGEST_WAIT_SECONDS = 900


@dataclass(frozen=True)
class Swept:
    """What one sweep did."""

    claimed: int
    failed: int
    expired_grants: int
    sealed_entries: int


class RecoverySweep:
    """Sweep stuck generations; several may run at once, each gets its own."""

    def __init__(
        self,
        generations: GenerationStore,
        ledger: LedgerClient,
        provider: BabySeaClient,
        dispatcher: Dispatcher,
        queue: SettleQueue,
        *,
        idle_seconds: int,
    ) -> None:
        self._generations = generations
        self._ledger = ledger
        self._provider = provider
        self._dispatcher = dispatcher
        self._queue = queue
        self._idle_seconds = idle_seconds

    def run(self, has_time: Callable[[], bool]) -> Swept:
        """Work until nothing is stuck or `has_time` says no; one generation's trouble does not stop the others."""
        claimed = failed = 0
        while has_time():
            stuck = self._generations.claim_stuck(
                limit=BATCH, idle_seconds=self._idle_seconds, lease_seconds=LEASE_SECONDS
            )
            for generation in stuck:
                if not has_time():
                    break  # its lease passes it on
                claimed += 1
                failed += not self._try(generation)
            if len(stuck) < BATCH:
                break
        expired = self._ledger.expire_due()
        seal = self._ledger.seal()
        if seal.sealed:
            # the log keeps the hash out of the database's reach: `make verify` takes it
            logger().info(
                "entries sealed", sealed=seal.sealed, seal=f"{seal.seal_id}:{seal.seal_hash}"
            )
        count("Sweep.Claimed", claimed)
        return Swept(claimed, failed, expired, seal.sealed)

    def _try(self, generation: StuckGeneration) -> bool:
        try:
            self._recover(generation)
        except HoldfastError as trouble:
            logger().warning(
                "recovery postponed", generation_id=generation.generation_id, reason=str(trouble)
            )
            self._postpone(generation)
        except Exception as error:  # noqa: BLE001 - one poisoned generation must not stop the sweep
            report(error, f"recovery of generation {generation.generation_id} failed")
            self._postpone(generation)
        else:
            return True
        return False

    def _recover(self, generation: StuckGeneration) -> None:
        if generation.status is GenerationStatus.STORING:
            self._queue.send(generation.generation_id)
            self._postpone(generation)
        elif generation.provider_generation_id is not None:
            self._ask(generation, generation.provider_generation_id)
        elif generation.age_seconds < REPLAY_SECONDS_MAX:
            dispatched = self._dispatcher.dispatch(
                generation.generation_id,
                generation.kind,
                generation.model,
                generation.request,
                is_replay=True,
            )
            if not dispatched.status.is_final:
                self._postpone(generation)
        else:
            # nobody ever got an id for it, and replaying now could start a second job
            self._generations.abandon(generation.generation_id, "never_submitted")
            logger().error("generation given up", generation_id=generation.generation_id)
            count("Sweep.Abandoned")

    def _ask(self, generation: StuckGeneration, provider_generation_id: str) -> None:
        record = self._provider.get_generation(provider_generation_id)
        if record is None:
            self._generations.abandon(generation.generation_id, "unknown_to_provider")
            count("Sweep.Abandoned")
            return
        recorded = self._generations.record_provider_state(
            generation.generation_id,
            ProviderResult(
                status=record.generation_status,
                output_urls=tuple(record.generation_output_file),
                error_code=record.generation_error_code,
                error_message=record.generation_error,
            ),
        )
        if recorded.is_to_settle:
            self._queue.send(generation.generation_id)
        if recorded.status and not recorded.status.is_final:
            self._postpone(generation)

    def _postpone(self, generation: StuckGeneration) -> None:
        """Wait longer each time: the idle time, doubled, up to a quarter of an hour."""
        wait = min(
            self._idle_seconds * 2 ** min(generation.attempts - 1, 10), _LONGEST_WAIT_SECONDS
        )
        self._generations.postpone(generation.generation_id, wait)

"""
Finish or refund what got stuck.

A sweep leases generations that have not moved for a while and asks the provider before it decides. It ends in the same
SQL as a callback does, so it does not matter which of them comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from holdfast.babysea import BabySeaClient
from holdfast.errors import HoldfastError, ProviderError, ProviderUnavailableError
from holdfast.generations import GenerationStore, SubmitOutcome
from holdfast.intake import Intake
from holdfast.ledger import LedgerClient
from holdfast.observability import count, logger, report
from holdfast.recovery import CancelReason, RecoveryStore, StuckGeneration
from holdfast.settle_queue import SettleQueue
from holdfast.usecases.ask_provider import ProviderInquiry
from holdfast.usecases.dispatch import Dispatcher
from holdfast.vocabulary import GenerationStatus, MediaKind

BATCH = 20
LEASE_SECONDS = 120
REPLAY_SECONDS_MAX = 23 * 3600
"""Younger than the provider's 24 hours of idempotency: after that the same key would bill a second job."""

_LONGEST_WAIT_SECONDS = 900
_CANCEL_WAIT_SECONDS = 15
_RUNNING = (GenerationStatus.QUEUED, GenerationStatus.PROCESSING)


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, the sweep waits: before it looks, for the provider, and for an answer at all."""

    idle: int
    image: int
    video: int
    give_up: int

    def deadline(self, kind: MediaKind) -> int:
        """Return how long the provider may work."""
        return self.video if kind is MediaKind.VIDEO else self.image


@dataclass(frozen=True)
class Swept:
    """What one sweep did."""

    claimed: int
    failed: int
    poisoned: int
    expired_grants: int
    sealed_entries: int


class RecoverySweep:
    """Sweep stuck generations; several may run at once, each gets its own."""

    def __init__(
        self,
        generations: GenerationStore,
        recovery: RecoveryStore,
        intake: Intake,
        ledger: LedgerClient,
        provider: BabySeaClient,
        dispatcher: Dispatcher,
        inquiry: ProviderInquiry,
        queue: SettleQueue,
        patience: Patience,
    ) -> None:
        self._generations = generations
        self._recovery = recovery
        self._intake = intake
        self._ledger = ledger
        self._provider = provider
        self._dispatcher = dispatcher
        self._inquiry = inquiry
        self._queue = queue
        self._patience = patience

    def run(self, has_time: Callable[[], bool]) -> Swept:
        """Work until nothing is stuck or `has_time` says no; one generation's trouble does not stop the others."""
        self._reopen_intake()
        claimed = failed = 0
        while has_time():
            stuck = self._recovery.claim_stuck(
                limit=BATCH, idle_seconds=self._patience.idle, lease_seconds=LEASE_SECONDS
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
        poisoned = self._recovery.count_poisoned()
        count("Sweep.Claimed", claimed)
        count("Sweep.Poisoned", poisoned)
        return Swept(claimed, failed, poisoned, expired, seal.sealed)

    def _reopen_intake(self) -> None:
        """Ask whether the request that closed the intake could be paid now."""
        closure = self._intake.closure()
        if closure is None or closure.model is None or closure.request is None:
            return
        wanted = json.loads(closure.request)
        try:
            estimate = self._provider.estimate(
                closure.model,
                duration=wanted.get("generation_duration"),
                resolution=wanted.get("generation_resolution"),
                audio=wanted.get("generation_generate_audio"),
            )
        except HoldfastError as trouble:
            # the closure ends by itself, and one generation tries
            logger().warning("the provider does not say what we can pay", reason=str(trouble))
            return
        if estimate.credit_balance_can_afford and self._intake.open():
            logger().info("the provider can be paid again: new generations are taken")
            count("IntakeOpened")

    def _try(self, generation: StuckGeneration) -> bool:
        try:
            self._recover(generation)
        except (ProviderUnavailableError, ProviderError) as silence:
            # asked, and it did not say: waits, but not for ever
            self._postpone(generation, str(silence))
            self._give_up_if_hopeless(generation)
        except HoldfastError as trouble:
            self._postpone(generation, str(trouble))
        except Exception as error:  # noqa: BLE001 - one poisoned generation must not stop the sweep
            report(error, f"recovery of generation {generation.generation_id} failed")
            self._postpone(generation, type(error).__name__, is_failure=True)
        else:
            return True
        return False

    def _recover(self, generation: StuckGeneration) -> None:
        if generation.status is GenerationStatus.STORING:
            # first: a worker that is quicker than we are must find it free
            self._postpone(generation)
            self._queue.send(
                generation.generation_id,
                give_up=generation.cancel_reason is CancelReason.OPERATOR
                or generation.age_seconds >= self._patience.give_up,
            )
        elif generation.provider_generation_id is not None:
            self._ask(generation, generation.provider_generation_id)
        elif generation.age_seconds < REPLAY_SECONDS_MAX:
            self._replay(generation)
        else:
            self._search(generation)

    def _ask(self, generation: StuckGeneration, provider_generation_id: str) -> None:
        generation_id = generation.generation_id
        status: GenerationStatus | None = generation.status
        is_unwanted = generation.cancel_reason is not None
        if not is_unwanted:
            status = self._inquiry.look(generation_id, provider_generation_id)
            if status in _RUNNING and generation.running_seconds >= self._patience.deadline(
                generation.kind
            ):
                self._recovery.request_stop(generation_id, CancelReason.DEADLINE)
                count("Sweep.Overdue")
                is_unwanted = True
        if is_unwanted and status in _RUNNING:
            stopped = self._inquiry.stop(generation_id, provider_generation_id)
            if stopped is None:
                raise ProviderUnavailableError(reason="provider: no answer to the cancel")
            status = stopped
        if status in _RUNNING:
            self._postpone(generation)
            self._give_up_if_hopeless(generation)

    def _replay(self, generation: StuckGeneration) -> None:
        is_replay = self._recovery.begin_dispatch(generation.generation_id)
        if is_replay is None:
            return  # it moved meanwhile
        dispatched = self._dispatcher.dispatch(
            generation.generation_id,
            generation.kind,
            generation.model,
            generation.request,
            is_replay=is_replay,
        )
        if dispatched.status is not GenerationStatus.QUEUED:
            return
        if dispatched.is_unsent:
            if generation.age_seconds >= self._patience.deadline(generation.kind):
                self._inquiry.abandon(generation.generation_id, "provider_overloaded")
        elif not (dispatched.is_key_reused and self._adopt(generation)):
            self._postpone(generation, dispatched.doubt)

    def _search(self, generation: StuckGeneration) -> None:
        """Nobody ever got an id for it, and replaying now could start a second job: look it up."""
        if not self._adopt(generation):
            self._inquiry.abandon(generation.generation_id, "never_submitted")

    def _adopt(self, generation: StuckGeneration) -> bool:
        for provider_id in self._inquiry.find(
            generation.request, generation.model, generation.age_seconds
        ):
            submitted = self._generations.mark_submitted(generation.generation_id, provider_id)
            if submitted.outcome is not SubmitOutcome.PROVIDER_ID_CONFLICT:
                logger().warning(
                    "found at the provider",
                    generation_id=generation.generation_id,
                    provider_generation_id=provider_id,
                )
                count("Sweep.Adopted")
                self._inquiry.look(generation.generation_id, provider_id)
                return True
        return False

    def _give_up_if_hopeless(self, generation: StuckGeneration) -> None:
        if generation.age_seconds >= self._patience.give_up:
            self._inquiry.abandon(generation.generation_id, "provider_unreachable")

    def _postpone(
        self, generation: StuckGeneration, error: str | None = None, *, is_failure: bool = False
    ) -> None:
        """Wait longer each time: the idle time, doubled, up to a quarter of an hour or the deadline."""
        if error:
            logger().warning(
                "recovery postponed", generation_id=generation.generation_id, reason=error
            )
        base = _CANCEL_WAIT_SECONDS if generation.cancel_reason else self._patience.idle
        wait = min(base * 2 ** min(generation.attempts - 1, 10), _LONGEST_WAIT_SECONDS)
        left = self._patience.deadline(generation.kind) - generation.running_seconds
        if generation.status is GenerationStatus.PROCESSING and 0 < left < wait:
            wait = int(left) + 1
        self._recovery.postpone(generation.generation_id, wait, error, is_failure=is_failure)

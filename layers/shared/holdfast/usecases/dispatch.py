"""
Hand a queued generation to the provider: once from the request, again from the sweep if the answer was lost.

No transaction is open during the call. The provider's idempotency key is the generation's id and the bytes are the
stored canonical request, so asking again cannot start, or bill, a second job within the provider's 24 hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import (
    Accepted,
    Busy,
    CanceledEarlier,
    OperatorOutOfCredits,
    Refused,
    Unknown,
)
from holdfast.errors import (
    ContentRejectedError,
    HoldfastError,
    InvalidRequestError,
    ProviderError,
    UnavailableError,
)
from holdfast.generations import GenerationStore, SubmitOutcome
from holdfast.intake import Intake
from holdfast.observability import count, logger
from holdfast.recovery import RecoveryStore
from holdfast.settle_queue import SettleQueue
from holdfast.usecases.ask_provider import ProviderInquiry
from holdfast.vocabulary import GenerationStatus, MediaKind

_CONTENT_POLICY = "BSE2006"
_INPUT_FAMILY = "BSE2"
_KEY_REUSED = "BSE2015"
_UNAVAILABLE = "provider_unavailable"
_SHORTEST_WAIT_SECONDS = 15
_LONGEST_WAIT_SECONDS = 300


@dataclass(frozen=True)
class Dispatched:
    """
    Where the generation stands after the call.

    `refusal` says why it failed at once, `doubt` why it is still queued. `is_unsent`: certainly not with the provider.
    """

    status: GenerationStatus
    refusal: HoldfastError | None = None
    doubt: str | None = None
    is_unsent: bool = False
    is_key_reused: bool = False


class Dispatcher:
    """Submit generations; raises `UnavailableError` when the database or the queue is away."""

    def __init__(
        self,
        generations: GenerationStore,
        recovery: RecoveryStore,
        intake: Intake,
        provider: BabySeaClient,
        queue: SettleQueue,
        inquiry: ProviderInquiry,
    ) -> None:
        self._generations = generations
        self._recovery = recovery
        self._intake = intake
        self._provider = provider
        self._queue = queue
        self._inquiry = inquiry

    def dispatch(
        self,
        generation_id: UUID,
        kind: MediaKind,
        model: str,
        request: str,
        *,
        is_replay: bool = False,
    ) -> Dispatched:
        """
        Submit one generation and record what came of it.

        `is_replay` says that an earlier call may have been accepted: then only an answer that looked the key up counts
        as a refusal. Whatever stays unknown stays `queued`; nothing is refunded on a guess.
        """
        outcome = self._provider.generate(kind, model, request.encode(), str(generation_id))
        logger().info(
            "generation dispatched",
            generation_id=generation_id,
            outcome=type(outcome).__name__,
            is_replay=is_replay,
        )
        count(f"Dispatch.{type(outcome).__name__}")
        match outcome:
            case Accepted():
                result = self._accepted(generation_id, outcome.provider_generation_id)
            case CanceledEarlier():
                result = self._refused(generation_id, "canceled_by_provider", None)
            case Refused() if outcome.code == _KEY_REUSED:
                # a job exists under this key and we do not know which: refunding it would be a guess
                logger().error("other bytes were sent under this key", generation_id=generation_id)
                count("IdempotencyKeyReused")
                result = Dispatched(GenerationStatus.QUEUED, doubt=outcome.code, is_key_reused=True)
            case Refused() if not (is_replay and outcome.before_lookup):
                result = self._refused(generation_id, outcome.code, outcome.message)
            case Refused():
                result = Dispatched(GenerationStatus.QUEUED, doubt=outcome.code)
            case OperatorOutOfCredits():
                result = self._out_of_credits(generation_id, outcome.code, is_replay=is_replay)
            case Busy():
                result = self._busy(generation_id, outcome, is_replay=is_replay)
            case Unknown():
                result = Dispatched(GenerationStatus.QUEUED, doubt=outcome.reason)
            case _:
                assert_never(outcome)
        return result

    def _accepted(self, generation_id: UUID, provider_generation_id: str) -> Dispatched:
        submitted = self._generations.mark_submitted(generation_id, provider_generation_id)
        status = submitted.status
        is_second = submitted.outcome is SubmitOutcome.PROVIDER_ID_CONFLICT
        if is_second:
            logger().error(
                "the provider runs a second job for this generation",
                generation_id=generation_id,
                provider_generation_id=provider_generation_id,
            )
            count("ProviderIdConflict")
        elif submitted.is_cancel_wanted:
            status = self._inquiry.try_stop(generation_id, provider_generation_id) or status
        elif status is GenerationStatus.STORING:  # its callback was quicker than this answer
            self._queue.send(generation_id)
        return Dispatched(status or GenerationStatus.PROCESSING)

    def _refused(self, generation_id: UUID, code: str, message: str | None) -> Dispatched:
        self._generations.mark_refused(generation_id, code, message)
        return Dispatched(GenerationStatus.FAILED, _refusal(code))

    def _out_of_credits(self, generation_id: UUID, code: str, *, is_replay: bool) -> Dispatched:
        seconds = self._intake.close(generation_id)
        logger().error(
            "the operator's account at the provider is out of credits", closed_seconds=seconds
        )
        if is_replay:
            return Dispatched(GenerationStatus.QUEUED, doubt=code)
        self._generations.mark_refused(generation_id, _UNAVAILABLE, None)
        return Dispatched(GenerationStatus.FAILED, _refusal(_UNAVAILABLE, seconds))

    def _busy(self, generation_id: UUID, busy: Busy, *, is_replay: bool) -> Dispatched:
        if is_replay:
            return Dispatched(GenerationStatus.QUEUED, doubt=busy.code)
        wait = max(busy.retry_after or 0, _SHORTEST_WAIT_SECONDS)
        is_canceled = self._recovery.mark_unsent(
            generation_id, min(wait, _LONGEST_WAIT_SECONDS), busy.code
        )
        status = GenerationStatus.CANCELED if is_canceled else GenerationStatus.QUEUED
        return Dispatched(status, doubt=busy.code, is_unsent=True)


def _refusal(code: str, retry_after: int | None = None) -> HoldfastError:
    """Say it to the user without the provider's own words, which may repeat the prompt or name its suppliers."""
    if code == _CONTENT_POLICY:
        return ContentRejectedError(
            "The provider's content policy refuses this request. No credits were charged."
        )
    if code.startswith(_INPUT_FAMILY):
        return InvalidRequestError(
            f"The provider refuses this request ({code}). No credits were charged."
        )
    if code == _UNAVAILABLE:
        return UnavailableError(
            "Generation is not available now. No credits were charged.", retry_after=retry_after
        )
    return ProviderError("The provider failed. No credits were charged.", provider_code=code)

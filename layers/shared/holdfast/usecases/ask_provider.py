"""
Ask the provider about a generation whose id is known, or to stop it, and record what it says.

The request that cancels, the dispatcher and the sweep all do it here. What the provider says takes the same way as its
callback, so it does not matter which comes first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import (
    Canceled,
    GenerationRecord,
    NoSuchGeneration,
    NotCancelable,
    Unknown,
)
from holdfast.errors import HoldfastError, ProviderError, ProviderUnavailableError
from holdfast.generations import GenerationStore, ProviderResult
from holdfast.observability import count, logger
from holdfast.recovery import RecoveryStore
from holdfast.settle_queue import SettleQueue
from holdfast.vocabulary import GenerationStatus, ProviderStatus

SEARCH_SECONDS = 8
"""How long a search of the provider's list begins new pages."""

_PAGE = 100
_PAGES_MAX = 20
_CLOCK_SKEW = timedelta(minutes=5)


class ProviderInquiry:
    """Ask and record; raises `UnavailableError` when database, queue or provider are away."""

    def __init__(
        self,
        generations: GenerationStore,
        recovery: RecoveryStore,
        provider: BabySeaClient,
        queue: SettleQueue,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generations = generations
        self._recovery = recovery
        self._provider = provider
        self._queue = queue
        self._clock = clock

    def look(self, generation_id: UUID, provider_generation_id: str) -> GenerationStatus | None:
        """Record what the provider says of a generation, and return where it stands then."""
        record = self._provider.get_generation(provider_generation_id)
        if record is None:
            # asked by its own id it knows nothing of it: nothing can arrive any more
            self.abandon(generation_id, "unknown_to_provider")
            return None
        return self._record(
            generation_id,
            ProviderResult(
                status=record.generation_status,
                output_urls=tuple(record.generation_output_file),
                error_code=record.generation_error_code,
                error_message=record.generation_error,
            ),
        )

    def stop(self, generation_id: UUID, provider_generation_id: str) -> GenerationStatus | None:
        """
        Ask the provider to cancel, and return where the generation stands then.

        None when it did not answer: whoever wants it stopped asks again.
        """
        try:
            outcome = self._provider.cancel(provider_generation_id)
        except ProviderError as refused:
            # our key may not cancel, or the answer is nonsense: the normal path decides
            logger().error("cancel refused", generation_id=generation_id, reason=str(refused))
            count("Cancel.Refused")
            return self.look(generation_id, provider_generation_id)
        logger().info("cancel asked", generation_id=generation_id, outcome=type(outcome).__name__)
        count(f"Cancel.{type(outcome).__name__}")
        match outcome:
            case Canceled():
                if outcome.credits_refunded is False:
                    # the user gets theirs back, the operator does not
                    logger().warning("canceled but billed", generation_id=generation_id)
                    count("Cancel.NotRefunded")
                return self._record(generation_id, ProviderResult(ProviderStatus.CANCELED))
            case NotCancelable() | NoSuchGeneration():
                return self.look(generation_id, provider_generation_id)
            case Unknown():
                return None
            case _:
                assert_never(outcome)

    def try_stop(self, generation_id: UUID, provider_generation_id: str) -> GenerationStatus | None:
        """Do what `stop` does, and return None also when it fails: the wish is kept, the sweep asks again."""
        try:
            return self.stop(generation_id, provider_generation_id)
        except HoldfastError as trouble:
            logger().warning("cancel unanswered", generation_id=generation_id, reason=str(trouble))
            return None

    def abandon(self, generation_id: UUID, code: str) -> None:
        """Refund what the provider was asked about in vain, and tell the operator; what has ended stays as it is."""
        if self._recovery.abandon(generation_id, code):
            logger().error("generation given up", generation_id=generation_id, error_code=code)
            count("GivenUp")

    def find(self, request: str, model: str, age_seconds: float) -> list[str]:
        """
        Return the provider's ids of what may be this request, by its inputs and its time.

        The provider keeps no idempotency key in its records, so equal requests cannot be told apart; they need not be.
        Raises `ProviderUnavailableError` when the whole list cannot be read in time: half a list proves nothing.
        """
        wanted = json.loads(request)
        since = datetime.now(UTC) - timedelta(seconds=age_seconds) - _CLOCK_SKEW
        ends_at = self._clock() + SEARCH_SECONDS
        found: list[str] = []
        for number in range(_PAGES_MAX):
            if self._clock() >= ends_at:
                raise ProviderUnavailableError(reason="provider: its list takes too long to read")
            page = self._provider.list_generations(limit=_PAGE, offset=number * _PAGE)
            found += [
                record.generation_id
                for record in page.generations
                if record.model_identifier == model and _is_same(record, wanted, since)
            ]
            if len(page.generations) < _PAGE:
                return found
        raise ProviderUnavailableError(reason="provider: its list is too long to read")

    def _record(self, generation_id: UUID, result: ProviderResult) -> GenerationStatus | None:
        recorded = self._generations.record_provider_state(generation_id, result)
        if recorded.is_to_settle:
            self._queue.send(generation_id)
        return recorded.status


def _is_same(record: GenerationRecord, wanted: dict[str, object], since: datetime) -> bool:
    """Compare every input the record repeats; those it leaves out say nothing."""
    said = {**(record.model_extra or {}), "generation_prompt": record.generation_prompt}
    try:
        created = datetime.fromisoformat(record.generation_created_at or "")
    except ValueError:
        return False
    return (
        created.tzinfo is not None
        and created >= since
        and said["generation_prompt"] == wanted.get("generation_prompt")
        and all(
            said.get(name, value) == value
            for name, value in wanted.items()
            if name != "generation_provider_order"
        )
    )

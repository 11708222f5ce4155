"""Copy what the provider made into private storage, then charge for what arrived."""

from __future__ import annotations

from uuid import UUID

from holdfast.errors import StoragePermanentError, UnavailableError
from holdfast.generations import CompleteOutcome, GenerationStore, Settlement, StoredOutput
from holdfast.observability import count, logger
from holdfast.output_copier import Copied, Lost, OutputCopier, Retry
from holdfast.storage import StorageSigner, output_path
from holdfast.vocabulary import GenerationStatus


class GenerationSettler:
    """
    Settle generations whose outputs wait at the provider.

    Safe to run twice, also at the same time: a file is stored under the same name again, and the
    database lets one of them settle.
    """

    def __init__(
        self, generations: GenerationStore, copier: OutputCopier, storage: StorageSigner
    ) -> None:
        self._generations = generations
        self._copier = copier
        self._storage = storage

    def settle(self, generation_id: UUID) -> CompleteOutcome:
        """
        Store and settle one generation.

        Raises `UnavailableError` when a file could not be had or stored this time; then nothing is
        settled and the message comes back.
        """
        settlement = self._generations.settlement(generation_id)
        if settlement is None:
            return CompleteOutcome.NOT_FOUND
        if settlement.status is not GenerationStatus.STORING:
            return (
                CompleteOutcome.ALREADY_FINAL
                if settlement.status.is_final
                else CompleteOutcome.NOT_READY
            )
        stored, lost = self._store(settlement)
        outcome = self._generations.complete(generation_id, stored, lost)
        logger().info(
            "generation settled", generation_id=generation_id, outcome=outcome, stored=len(stored)
        )
        count(f"Settlement.{outcome}")
        return outcome

    def _store(self, settlement: Settlement) -> tuple[list[StoredOutput], str | None]:
        """Return the stored outputs and, if some are lost for good, the last reason why."""
        stored: list[StoredOutput] = []
        lost: str | None = None
        for n, url in enumerate(settlement.output_urls[: settlement.output_count]):
            copied = self._copier.copy(url, settlement.kind)
            if isinstance(copied, Retry):
                raise UnavailableError(reason=f"output {n}: {copied.reason}")
            problem = (
                str(copied.reason)
                if isinstance(copied, Lost)
                else self._put(settlement, n, copied, stored)
            )
            if problem:
                lost = f"output_{problem}"
                logger().warning(
                    "output lost", generation_id=settlement.generation_id, n=n, problem=problem
                )
        return stored, lost

    def _put(
        self, settlement: Settlement, n: int, copied: Copied, stored: list[StoredOutput]
    ) -> str | None:
        media_type = copied.media_type
        path = output_path(settlement.user_id, settlement.generation_id, n, media_type.extension)
        try:
            self._storage.upload(path, copied.data, media_type.content_type)
        except StoragePermanentError as refused:
            return f"not_stored_{refused.storage_code.lower()}"
        stored.append(StoredOutput(n, path, media_type.content_type, len(copied.data)))
        return None

"""
Copy what the provider made into private storage, then charge for what arrived.

What an earlier run has stored counts, whatever became of that run and of the provider's file: so a worker that dies
between two files loses nothing, and nobody is charged for more, or less, than they can open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

from holdfast.errors import StoragePermanentError, UnavailableError
from holdfast.generations import CompleteOutcome, GenerationStore, Settlement, StoredOutput
from holdfast.observability import count, logger
from holdfast.output_copier import COPY_SECONDS, Copied, Lost, OutputCopier, Retry
from holdfast.storage import StorageSigner, output_folder, output_path
from holdfast.vocabulary import GenerationStatus

_GIVEN_UP = "output_given_up"
FILE_SECONDS = COPY_SECONDS + 35
"""The longest that one file takes: fetched, its last bytes waited for, and stored."""

_OUTPUT_NAME = re.compile(r"(\d{1,3})\.[a-z0-9]+", re.ASCII)


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

    def settle(
        self,
        generation_id: UUID,
        *,
        give_up: bool = False,
        has_time: Callable[[], bool] = lambda: True,
    ) -> CompleteOutcome:
        """
        Store and settle one generation; no file is begun once `has_time` says no.

        Raises `UnavailableError` when a file could not be had or stored this time, or was not begun;
        then nothing is settled and the message comes back. With `give_up` a file that was tried
        counts as lost instead.
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
        stored, lost = self._store(settlement, give_up=give_up, has_time=has_time)
        outcome = self._generations.complete(generation_id, stored, lost)
        logger().info(
            "generation settled", generation_id=generation_id, outcome=outcome, stored=len(stored)
        )
        count(f"Settlement.{outcome}")
        if lost == _GIVEN_UP and outcome in (CompleteOutcome.SUCCEEDED, CompleteOutcome.FAILED):
            logger().error("generation given up", generation_id=generation_id, error_code=lost)
            count("GivenUp")
        return outcome

    def _store(
        self, settlement: Settlement, *, give_up: bool, has_time: Callable[[], bool]
    ) -> tuple[list[StoredOutput], str | None]:
        """Return the stored outputs and, if some are lost for good, the last reason why."""
        there = self._stored_before(settlement)
        stored: list[StoredOutput] = []
        lost: str | None = None
        later: list[str] = []
        for n, url in enumerate(settlement.output_urls[: settlement.output_count]):
            if n in there:
                stored.append(there[n])
                continue
            if not has_time():
                # being killed would count as a failure, and slow files are none
                raise UnavailableError(reason=f"no time left for output {n}")
            copied = self._copier.copy(url, settlement.kind)
            if isinstance(copied, Retry):
                # the others first: their files may be gone by the next time
                later.append(f"output {n}: {copied.reason}")
                continue
            try:
                problem = (
                    str(copied.reason)
                    if isinstance(copied, Lost)
                    else self._put(settlement, n, copied, stored)
                )
            except UnavailableError as away:
                later.append(f"output {n}: {away}")
                continue
            if problem:
                lost = f"output_{problem}"
                logger().warning(
                    "output lost", generation_id=settlement.generation_id, n=n, problem=problem
                )
        if later and give_up:
            # an upload may have arrived although its answer did not: who can open a file is charged for it
            there = self._stored_before(settlement)
            stored = [there[n] for n in sorted(there) if n < settlement.output_count]
            lost = _GIVEN_UP
        elif later:
            raise UnavailableError(reason=", ".join(later))
        return stored, lost

    def _stored_before(self, settlement: Settlement) -> dict[int, StoredOutput]:
        """Return what an earlier run has stored, by number. Only this backend can write there."""
        folder = output_folder(settlement.user_id, settlement.generation_id)
        return {
            int(name[1]): StoredOutput(
                int(name[1]), f"{folder}/{file.name}", file.content_type, file.size
            )
            for file in self._storage.folder(folder)
            if (name := _OUTPUT_NAME.fullmatch(file.name))
        }

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

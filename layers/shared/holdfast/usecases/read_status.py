"""What a user may look at: a generation, the library, the account, the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from holdfast import cursors
from holdfast.accounts import AccountReader
from holdfast.errors import NotFoundError
from holdfast.generations import Generation, GenerationStore
from holdfast.storage import StorageSigner
from holdfast.views import (
    AccountView,
    EntryView,
    ErrorView,
    GenerationView,
    GrantView,
    LedgerView,
    LibraryView,
    OutputView,
    PlanView,
)
from holdfast.vocabulary import GenerationStatus


class StatusReader:
    """Answer a user's questions. Other users' rows look exactly like rows that do not exist."""

    def __init__(
        self,
        generations: GenerationStore,
        accounts: AccountReader,
        storage: StorageSigner,
        *,
        signed_url_seconds: int,
    ) -> None:
        self._generations = generations
        self._accounts = accounts
        self._storage = storage
        self._signed_url_seconds = signed_url_seconds

    def generation(self, user_id: UUID, generation_id: UUID) -> GenerationView:
        """Return one generation with signed URLs; raises `NotFoundError`."""
        found = self._generations.get(user_id, generation_id)
        if found is None:
            raise NotFoundError("There is no such generation.")
        return self._views([found])[0]

    def library(
        self, user_id: UUID, *, status: GenerationStatus | None, cursor: str | None, limit: int
    ) -> LibraryView:
        """Return a page of the user's generations, newest first."""
        rows = self._generations.page(
            user_id, status=status, before=cursors.decode(cursor), limit=limit + 1
        )
        page = rows[:limit]
        more = len(rows) > limit
        return LibraryView(
            generations=self._views(page),
            next_cursor=cursors.encode(page[-1].created_at, page[-1].id) if more else None,
        )

    def account(self, user_id: UUID) -> AccountView:
        """Return the user's balance and open grants."""
        account = self._accounts.account(user_id)
        return AccountView(
            available=account.available,
            reserved=account.reserved,
            owed=account.owed,
            grants=[GrantView.model_validate(grant) for grant in account.grants],
            plan=None if account.plan is None else PlanView.model_validate(account.plan),
        )

    def ledger(self, user_id: UUID, *, cursor: str | None, limit: int) -> LedgerView:
        """Return a page of the user's ledger entries, newest first."""
        rows = self._accounts.entries(user_id, before_id=cursors.decode_id(cursor), limit=limit + 1)
        page = rows[:limit]
        more = len(rows) > limit
        return LedgerView(
            entries=[
                EntryView(
                    id=entry.id,
                    type=entry.type,
                    available_delta=entry.available_delta,
                    reserved_delta=entry.reserved_delta,
                    owed_delta=entry.owed_delta,
                    available_after=entry.available_after,
                    generation_id=entry.reservation_id,
                    description=entry.description,
                    created_at=entry.created_at,
                )
                for entry in page
            ],
            next_cursor=cursors.encode_id(page[-1].id) if more else None,
        )

    def _views(self, generations: Sequence[Generation]) -> list[GenerationView]:
        paths = [output.path for found in generations for output in found.outputs]
        urls = self._storage.sign(paths, self._signed_url_seconds)
        expires_at = datetime.now(UTC) + timedelta(seconds=self._signed_url_seconds)
        return [_view(found, urls, expires_at) for found in generations]


def _view(
    found: Generation, urls: dict[str, str | None], url_expires_at: datetime
) -> GenerationView:
    charged = found.charged_credits
    return GenerationView(
        id=found.id,
        status=found.status,
        kind=found.kind,
        model=found.model,
        prompt=found.prompt,
        fields=found.fields,
        cost_credits=found.cost_credits,
        charged_credits=charged,
        refunded_credits=None if charged is None else found.cost_credits - charged,
        error=ErrorView(code=found.error_code, message=found.error_message)
        if found.error_code
        else None,
        output_count=found.output_count,
        outputs=[
            OutputView(
                n=output.n,
                content_type=output.content_type,
                bytes=output.bytes,
                url=urls[output.path],
                url_expires_at=url_expires_at,
            )
            for output in found.outputs
        ],
        created_at=found.created_at,
        updated_at=found.updated_at,
        finished_at=found.finished_at,
    )

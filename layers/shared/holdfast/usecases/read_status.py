"""What a user may look at: a generation, the library, the account, the ledger."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from holdfast import cursors
from holdfast.accounts import AccountReader
from holdfast.errors import NotFoundError
from holdfast.generations import Generation, GenerationStore, StoredOutput
from holdfast.presets import presets
from holdfast.profiles import ProfileStore
from holdfast.storage import StorageSigner
from holdfast.views import (
    AccountView,
    EntryView,
    ErrorView,
    EventsView,
    EventView,
    GenerationView,
    GrantView,
    LedgerView,
    LibraryView,
    OutputView,
    PlanView,
)
from holdfast.vocabulary import GenerationStatus, MediaKind


class StatusReader:
    """Answer a user's questions. Other users' rows look exactly like rows that do not exist."""

    def __init__(
        self,
        generations: GenerationStore,
        accounts: AccountReader,
        profiles: ProfileStore,
        storage: StorageSigner,
        *,
        signed_url_seconds: int,
    ) -> None:
        self._generations = generations
        self._accounts = accounts
        self._profiles = profiles
        self._storage = storage
        self._signed_url_seconds = signed_url_seconds

    def generation(self, user_id: UUID, generation_id: UUID) -> GenerationView:
        """Return one generation with signed URLs; raises `NotFoundError`."""
        found = self._generations.get(user_id, generation_id)
        if found is None:
            raise NotFoundError("There is no such generation.")
        return self._views([found])[0]

    def library(
        self,
        user_id: UUID,
        *,
        status: GenerationStatus | None,
        kind: MediaKind | None,
        cursor: str | None,
        limit: int,
    ) -> LibraryView:
        """Return a page of the user's generations, newest first."""
        rows = self._generations.page(
            user_id, status=status, kind=kind, before=cursors.decode(cursor), limit=limit + 1
        )
        page = rows[:limit]
        more = len(rows) > limit
        return LibraryView(
            generations=self._views(page),
            next_cursor=cursors.encode(page[-1].created_at, page[-1].id) if more else None,
        )

    def events(self, user_id: UUID, generation_id: UUID) -> EventsView:
        """Return what happened to one generation; raises `NotFoundError`."""
        found = self._generations.events(user_id, generation_id)
        if not found and self._generations.get(user_id, generation_id) is None:
            raise NotFoundError("There is no such generation.")
        return EventsView(
            events=[EventView.model_validate(event, from_attributes=True) for event in found]
        )

    def account(self, user_id: UUID) -> AccountView:
        """Return the user's balance and open grants; the first look opens the account."""
        profile = self._profiles.get(user_id)
        account = self._accounts.account(user_id)
        return AccountView(
            available=account.available,
            reserved=account.reserved,
            owed=account.owed,
            low_balance_credits=profile.low_balance_at,
            role=profile.role,
            welcome=profile.welcome,
            grants=[GrantView.model_validate(grant) for grant in account.grants],
            plan=None if account.plan is None else PlanView.model_validate(account.plan),
            has_billing=account.has_billing,
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
        generation_type=found.fields.get("generation_type", presets().default_type),
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
                download_url=_download_url(found, output, urls[output.path]),
                url_expires_at=url_expires_at,
            )
            for output in found.outputs
        ],
        created_at=found.created_at,
        updated_at=found.updated_at,
        finished_at=found.finished_at,
    )


def _download_url(found: Generation, output: StoredOutput, url: str | None) -> str | None:
    """Name the file after its model and number: storage takes the name as a parameter beside the token."""
    if url is None:
        return None
    model = re.sub(r"[^a-z0-9]+", "-", found.model.rpartition("/")[2].lower()).strip("-")
    extension = output.path.rpartition(".")[2]
    return f"{url}&download={model}-{found.id.hex[:8]}-{output.n + 1}.{extension}"

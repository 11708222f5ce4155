"""Look: GET /generations, /generations/{id}, /generations/{id}/events, /account, /account/ledger."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from holdfast import config, http
from holdfast.accounts import AccountReader
from holdfast.auth import TokenVerifier
from holdfast.database import Database
from holdfast.generations import GenerationStore
from holdfast.profiles import ProfileStore
from holdfast.storage import StorageSigner
from holdfast.usecases.read_status import StatusReader
from holdfast.views import AccountView, EventsView, GenerationView, LedgerView, LibraryView
from holdfast.vocabulary import GenerationStatus, MediaKind

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200)]

settings = config.load(config.GetStatusSettings)
verifier = TokenVerifier.from_settings(settings)
database = Database(settings.database_url)
reader = StatusReader(
    GenerationStore(database),
    AccountReader(database),
    ProfileStore(database),
    StorageSigner(settings.supabase_url, settings.supabase_secret_key.get_secret_value()),
    signed_url_seconds=settings.signed_url_seconds,
)
app = http.create_app()


@app.get("/generations", operation_id="listGenerations")
def list_generations(
    status: Annotated[GenerationStatus | None, Query()] = None,
    kind: Annotated[MediaKind | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> LibraryView:
    """Return a page of the caller's generations, newest first."""
    user = http.current_user(app)
    return reader.library(user.user_id, status=status, kind=kind, cursor=cursor, limit=limit)


@app.get("/generations/<generation_id>", operation_id="getGeneration")
def get_generation(generation_id: str) -> GenerationView:
    """Return one generation with signed URLs of its outputs."""
    user = http.current_user(app)
    return reader.generation(user.user_id, http.id_or_not_found(generation_id))


@app.get("/generations/<generation_id>/events", operation_id="listGenerationEvents")
def list_generation_events(generation_id: str) -> EventsView:
    """Return what happened to one generation, oldest first."""
    user = http.current_user(app)
    return reader.events(user.user_id, http.id_or_not_found(generation_id))


@app.get("/account", operation_id="getAccount")
def get_account() -> AccountView:
    """Return the caller's credits."""
    user = http.current_user(app)
    return reader.account(user.user_id)


@app.get("/account/ledger", operation_id="listLedger")
def list_ledger(cursor: Cursor = None, limit: Limit = 50) -> LedgerView:
    """Return a page of the caller's ledger entries, newest first."""
    user = http.current_user(app)
    return reader.ledger(user.user_id, cursor=cursor, limit=limit)


handler = http.handler(app, settings, verifier=verifier)

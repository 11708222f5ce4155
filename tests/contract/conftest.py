"""One Supabase project for all contract tests: a migrated database and the stand-in over it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx
import psycopg
import pytest
from storage3 import SyncStorageClient
from supabase import Client, ClientOptions, create_client

from local.database import create_database, migrate
from local.postgres import PostgresServer, local_postgres
from local.standins.supabase import Supabase

DATABASE = "contract"
PASSWORD = "correct horse"

# a bucket whose owners may do everything in their own folder, for the calls the product never makes
_MIXES = """
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('mixes', 'mixes', false, 1000, array['text/plain', 'audio/*']),
       ('open', 'open', true, null, null);
create policy mixes_select on storage.objects for select to authenticated
  using (bucket_id = 'mixes' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy mixes_insert on storage.objects for insert to authenticated
  with check (bucket_id = 'mixes' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy mixes_update on storage.objects for update to authenticated
  using (bucket_id = 'mixes' and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id = 'mixes' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy mixes_delete on storage.objects for delete to authenticated
  using (bucket_id = 'mixes' and (storage.foldername(name))[1] = (select auth.uid())::text);
"""


@dataclass
class Person:
    """A signed-up user and what that user's clients send."""

    id: str
    email: str
    token: str
    password: str = field(default=PASSWORD, repr=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Start a throw-away server with one migrated database."""
    with local_postgres(durable=False) as server:
        create_database(server, DATABASE)
        migrate(server.url("postgres", DATABASE))
        with psycopg.connect(server.url("postgres", DATABASE)) as connection:
            connection.execute(_MIXES)
        yield server


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the stored bytes."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def _supabase(postgres: PostgresServer, files: Path) -> Iterator[Supabase]:
    with Supabase(postgres.url("supabase_admin", DATABASE), files) as stand_in:
        yield stand_in


@pytest.fixture
def supabase(_supabase: Supabase) -> Iterator[Supabase]:
    """Return the stand-in, with no fault switched on and an empty request log."""
    auth = _supabase.auth
    _supabase.requests.clear()
    before = auth.sessions.reuse_seconds, auth.oauth.google_user
    yield _supabase
    _supabase.faults.clear()
    auth.autoconfirm = True
    auth.sessions.reuse_seconds, auth.oauth.google_user = before
    _supabase.tokens.algorithm = "ES256"


@pytest.fixture
def admin(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    """Connect as the superuser, to look behind the service."""
    url = postgres.url("supabase_admin", DATABASE)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def fresh_email() -> Callable[[], str]:
    """Make e-mail addresses nobody has used."""
    numbers = itertools.count(1)
    return lambda: f"user{next(numbers)}.{os.getpid()}@example.com"


@pytest.fixture
def new_person(supabase: Supabase, fresh_email: Callable[[], str]) -> Callable[[], Person]:
    """Sign people up."""

    def make() -> Person:
        email = fresh_email()
        user_id, token = supabase.create_user(email, PASSWORD)
        return Person(user_id, email, token)

    return make


@pytest.fixture
def alice(new_person: Callable[[], Person]) -> Person:
    """Sign up user A, who owns things."""
    return new_person()


@pytest.fixture
def bob(new_person: Callable[[], Person]) -> Person:
    """Sign up user B, who wants them."""
    return new_person()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """Share one transport: loading the CA certificates for each would take half the time."""
    with httpx.Client() as client:
        yield client


@pytest.fixture
def new_client(supabase: Supabase, http: httpx.Client) -> Callable[..., Client]:
    """Make unchanged supabase-py clients, as a browser would hold one."""

    def make(flow: Literal["pkce", "implicit"] = "pkce") -> Client:
        # refreshing by itself would leave a timer thread behind
        options = ClientOptions(flow_type=flow, auto_refresh_token=False, httpx_client=http)
        return create_client(supabase.url, supabase.publishable_key, options)

    return make


@pytest.fixture
def new_storage(supabase: Supabase, http: httpx.Client) -> Callable[..., SyncStorageClient]:
    """Make bare storage3 clients: of a person, of nobody, or of the secret key."""

    def make(person: Person | None = None, *, secret: bool = False) -> SyncStorageClient:
        key = supabase.secret_key if secret else supabase.publishable_key
        token = person.token if person else key
        headers = {"apikey": key, "authorization": f"Bearer {token}"}
        return SyncStorageClient(f"{supabase.url}/storage/v1/", headers, http_client=http)

    return make

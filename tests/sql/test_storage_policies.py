"""Whose files a token opens. The Storage API asks exactly these policies; here they are asked directly."""

from __future__ import annotations

import pytest

from tests.database import TestDatabase
from tests.factories import Backend, new_user
from tests.raising import raises_sqlstate

BUCKETS = ("outputs", "uploads")
STRANGER = "11111111-1111-4111-8111-111111111111"


def _put(db: TestDatabase, bucket: str, path: str) -> None:
    db.connection("supabase_admin").execute(
        "insert into storage.objects (bucket_id, name) values (%s, %s)", (bucket, path)
    )


@pytest.fixture(name="path")
def _path(db: TestDatabase) -> str:
    """Return the path of a file that its owner has, and has paid for, in both buckets."""
    backend, user = Backend(db), new_user()
    generation, _ = backend.storing(user)
    backend.complete(generation, 1)
    path = f"{user}/{generation}/0.png"
    for bucket in BUCKETS:
        _put(db, bucket, path)
    return path


def _owner(path: str) -> str:
    return path.partition("/")[0]


def _seen(db: TestDatabase, role: str, user: str | None, path: str) -> set[str]:
    with db.acting_as(role, user) as connection:
        rows = connection.execute(
            "select bucket_id from storage.objects where name = %s", (path,)
        ).fetchall()
    return {row["bucket_id"] for row in rows}


class TestReading:
    """Seeing files, which is what signing and downloading ask."""

    def test_own(self, db: TestDatabase, path: str) -> None:
        """A user sees their own files in both buckets."""
        assert _seen(db, "authenticated", _owner(path), path) == set(BUCKETS)

    @pytest.mark.parametrize(
        ("role", "user"), [("authenticated", STRANGER), ("authenticated", None), ("anon", None)]
    )
    def test_others(self, db: TestDatabase, path: str, role: str, user: str | None) -> None:
        """Nobody else sees them, and nobody at all without a subject."""
        assert _seen(db, role, user, path) == set()

    @pytest.mark.parametrize("end", ["storing", "refunded", "unknown"])
    def test_not_paid(self, db: TestDatabase, end: str) -> None:
        """A file that was stored and not, or not yet, charged for is hidden from its user too."""
        backend, user = Backend(db), new_user()
        generation, _ = backend.storing(user)
        if end == "refunded":
            backend.complete(generation, 0, "output_given_up")
        path = f"{user}/{new_user() if end == 'unknown' else generation}/0.png"
        _put(db, "outputs", path)

        assert _seen(db, "authenticated", str(user), path) == set()

    def test_file_outside_every_folder(self, db: TestDatabase) -> None:
        """A file whose name only looks like a user's folder is nobody's."""
        user = str(new_user())
        db.connection("supabase_admin").execute(
            "insert into storage.objects (bucket_id, name) values ('outputs', %s)", (user,)
        )

        assert _seen(db, "authenticated", user, user) == set()


class TestWriting:
    """Adding, changing and removing files."""

    def test_own_upload(self, db: TestDatabase) -> None:
        """A user may add to their own folder of uploads."""
        user = new_user()
        with db.acting_as("authenticated", user) as connection:
            connection.execute(
                "insert into storage.objects (bucket_id, name) values ('uploads', %s)",
                (f"{user}/0.png",),
            )

    @pytest.mark.parametrize(
        ("bucket", "name"),
        [
            ("outputs", "{own}/0.png"),
            ("uploads", "{other}/0.png"),
            ("uploads", "0.png"),
            ("uploads", "{own}"),
            ("uploads", "../{own}/0.png"),
            ("uploads", "/{own}/0.png"),
        ],
    )
    def test_anywhere_else(self, db: TestDatabase, bucket: str, name: str) -> None:
        """Nothing is added outside one's own folder, nor to the outputs."""
        user = new_user()
        target = name.format(own=user, other=new_user())

        with db.acting_as("authenticated", user) as connection, raises_sqlstate("42501"):
            connection.execute(
                "insert into storage.objects (bucket_id, name) values (%s, %s)", (bucket, target)
            )

    def test_anonymous(self, db: TestDatabase) -> None:
        """Without signing in nothing is added."""
        with db.acting_as("anon") as connection, raises_sqlstate("42501"):
            connection.execute(
                "insert into storage.objects (bucket_id, name) values ('uploads', 'a/b')"
            )

    @pytest.mark.parametrize("bucket", BUCKETS)
    def test_overwriting(self, db: TestDatabase, path: str, bucket: str) -> None:
        """Not even the owner may move or overwrite a file."""
        with db.acting_as("authenticated", _owner(path)) as connection:
            changed = connection.execute(
                "update storage.objects set name = name || 'x' where bucket_id = %s", (bucket,)
            )
            assert changed.rowcount == 0

    @pytest.mark.parametrize(
        ("bucket", "own", "removed"),
        [("uploads", True, 1), ("uploads", False, 0), ("outputs", True, 0), ("outputs", False, 0)],
    )
    def test_removing(
        self, db: TestDatabase, path: str, bucket: str, *, own: bool, removed: int
    ) -> None:
        """A user may remove their own uploads, and nothing else."""
        user = _owner(path) if own else STRANGER
        with db.acting_as("authenticated", user) as connection:
            connection.execute("set local storage.allow_delete_query = 'true'")
            done = connection.execute(
                "delete from storage.objects where bucket_id = %s and name = %s", (bucket, path)
            )
            assert done.rowcount == removed

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    def test_buckets(self, db: TestDatabase, role: str) -> None:
        """Nobody opens a bucket to the public or makes one."""
        with db.acting_as(role, new_user()) as connection:
            opened = connection.execute("update storage.buckets set public = true")
            assert opened.rowcount == 0
        with db.acting_as(role, new_user()) as connection, raises_sqlstate("42501"):
            connection.execute("insert into storage.buckets (id, name) values ('b', 'b')")

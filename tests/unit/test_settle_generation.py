"""Which outputs are charged, whatever became of earlier runs and of answers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from holdfast.errors import UnavailableError
from holdfast.generations import CompleteOutcome, Settlement, StoredOutput
from holdfast.media import PNG
from holdfast.observability import metrics
from holdfast.output_copier import Copied, CopyOutcome, Lost, LostReason, Retry
from holdfast.storage import StoredFile
from holdfast.usecases.settle_generation import GenerationSettler
from holdfast.vocabulary import GenerationStatus, MediaKind

USER = UUID("33333333-3333-4333-8333-333333333333")
GENERATION = UUID("22222222-2222-4222-8222-222222222222")


class World:
    """A generation of three outputs, a provider's files by number, and a storage that may be away."""

    def __init__(self, **files: CopyOutcome) -> None:
        self.files = files
        self.there: dict[str, StoredFile] = {}
        self.copied: list[str] = []
        self.completed: tuple[list[StoredOutput], str | None] | None = None
        self.answers_lost = False
        self.outcome = CompleteOutcome.SUCCEEDED
        double: Any = self
        self.settler = GenerationSettler(double, double, double)

    def settlement(self, _id: UUID) -> Settlement:
        """Return what is to be stored."""
        return Settlement(
            GENERATION, USER, GenerationStatus.STORING, MediaKind.IMAGE, 3, ("f0", "f1", "f2")
        )

    def complete(self, _id: UUID, outputs: list[StoredOutput], code: str | None) -> CompleteOutcome:
        """Keep what is charged."""
        self.completed = outputs, code
        return self.outcome

    def copy(self, url: str, _kind: MediaKind) -> CopyOutcome:
        """Fetch one of the provider's files."""
        self.copied.append(url)
        return self.files.get(url, Copied(url.encode(), PNG))

    def folder(self, _path: str) -> list[StoredFile]:
        """List what is stored."""
        return list(self.there.values())

    def upload(self, path: str, data: bytes, content_type: str) -> None:
        """Store a file."""
        name = path.rpartition("/")[2]
        self.there[name] = StoredFile(name, content_type, len(data))
        if self.answers_lost:
            raise UnavailableError(reason="no answer")

    def numbers(self) -> list[int]:
        """Return which outputs are charged."""
        assert self.completed
        return [output.n for output in self.completed[0]]


def test_what_is_stored_already_is_neither_fetched_nor_forgotten() -> None:
    """A file of an earlier run counts, even though the provider's is gone by now."""
    world = World(f1=Lost(LostReason.GONE), f2=Lost(LostReason.GONE))
    world.there["1.png"] = StoredFile("1.png", "image/png", 7)

    world.settler.settle(GENERATION)

    assert world.copied == ["f0", "f2"]
    folder = f"{USER}/{GENERATION}"
    assert world.completed == (
        [
            StoredOutput(0, f"{folder}/0.png", "image/png", 2),
            StoredOutput(1, f"{folder}/1.png", "image/png", 7),
        ],
        "output_gone",
    )


def test_one_that_has_to_wait_does_not_stop_the_others() -> None:
    """They are stored at once, since their files may be gone by the next time; nothing is settled yet."""
    world = World(f0=Retry("slow"))

    with pytest.raises(UnavailableError):
        world.settler.settle(GENERATION)

    assert sorted(world.there) == ["1.png", "2.png"]
    assert world.completed is None


def test_at_the_last_try_what_is_there_is_charged() -> None:
    """Given up: what could not be had is lost, and what arrived without an answer is not free of charge."""
    world = World(f0=Retry("slow"))
    world.answers_lost = True

    world.settler.settle(GENERATION, give_up=True)

    assert world.numbers() == [1, 2]
    assert world.completed
    assert world.completed[1] == "output_given_up"


@pytest.mark.parametrize(
    ("outcome", "is_counted"),
    [
        (CompleteOutcome.SUCCEEDED, True),
        (CompleteOutcome.FAILED, True),
        (CompleteOutcome.ALREADY_FINAL, False),
    ],
)
def test_what_is_given_up_is_counted_by_who_settles(
    outcome: CompleteOutcome, *, is_counted: bool
) -> None:
    """The operator hears of what was billed and not delivered, once."""
    world = World(f0=Retry("slow"))
    world.outcome = outcome
    metrics().metric_set.clear()

    world.settler.settle(GENERATION, give_up=True)

    assert ("GivenUp" in metrics().metric_set) is is_counted
    metrics().metric_set.clear()


def test_what_is_lost_at_once_is_not_given_up() -> None:
    """A file that the provider no longer has is an outcome of its own, and wakes nobody."""
    metrics().metric_set.clear()

    World(f0=Lost(LostReason.GONE)).settler.settle(GENERATION, give_up=True)

    assert "GivenUp" not in metrics().metric_set
    metrics().metric_set.clear()


def test_a_file_that_is_no_output_is_not_counted() -> None:
    """Only numbered names are outputs."""
    world = World(f0=Lost(LostReason.GONE))
    world.there = {name: StoredFile(name, "x", 1) for name in ("x.png", "0", "0.png.tmp")}

    world.settler.settle(GENERATION)

    assert world.numbers() == [1, 2]


def test_no_file_is_begun_without_time() -> None:
    """What is stored by then stays, nothing counts as lost, and the message comes back for the rest."""
    world = World()

    with pytest.raises(UnavailableError, match="no time left for output 2"):
        world.settler.settle(GENERATION, give_up=True, has_time=lambda: len(world.copied) < 2)

    assert sorted(world.there) == ["0.png", "1.png"]
    assert world.completed is None
    world.settler.settle(GENERATION)
    assert world.copied == ["f0", "f1", "f2"]
    assert world.numbers() == [0, 1, 2]

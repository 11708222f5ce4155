"""How long the sweep waits: the deadline of each class, and waits that grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from holdfast.recovery import CancelReason, StuckGeneration
from holdfast.usecases.recover import Patience, RecoverySweep
from holdfast.vocabulary import GenerationStatus, MediaKind

PATIENCE = Patience(idle=120, image=210, video=790, give_up=259_200)
STUCK = StuckGeneration(
    generation_id=UUID("22222222-2222-4222-8222-222222222222"),
    status=GenerationStatus.STORING,
    kind=MediaKind.IMAGE,
    model="baby/one",
    request="{}",
    provider_generation_id="job-1",
    attempts=1,
    age_seconds=1000,
    running_seconds=0,
    cancel_reason=None,
)


class Recorder:
    """Stands for the database, and keeps the wait."""

    waited: int

    def postpone(self, _id: UUID, seconds: int, _error: str | None, *, is_failure: bool) -> None:
        """Leave a generation alone."""
        assert not is_failure
        self.waited = seconds


def wait(**values: Any) -> int:
    """Return how long the sweep leaves a generation alone after a look at it."""
    recorder: Any = Recorder()
    unused: Any = None
    sweep = RecoverySweep(unused, recorder, *6 * [unused], PATIENCE)
    sweep._postpone(replace(STUCK, **values))
    return int(recorder.waited)


def test_each_class_has_its_deadline() -> None:
    """A video may take as long as videos do, an image as long as images do."""
    assert PATIENCE.deadline(MediaKind.IMAGE) == 210
    assert PATIENCE.deadline(MediaKind.VIDEO) == 790


def test_the_wait_doubles_up_to_a_quarter_of_an_hour() -> None:
    """The idle time at first, twice as long after each try, and never longer than 15 minutes."""
    assert [wait(attempts=n) for n in (1, 2, 3, 4, 5, 50)] == [120, 240, 480, 900, 900, 900]


def test_a_cancel_is_asked_again_sooner() -> None:
    """From 15 seconds, doubled in the same way: somebody waits for the answer."""
    waits = [wait(attempts=n, cancel_reason=CancelReason.USER) for n in (1, 2, 3, 4, 5, 6, 7, 50)]

    assert waits == [15, 30, 60, 120, 240, 480, 900, 900]


@pytest.mark.parametrize(("kind", "deadline"), [(MediaKind.IMAGE, 210), (MediaKind.VIDEO, 790)])
def test_what_runs_is_looked_at_by_its_deadline(kind: MediaKind, deadline: int) -> None:
    """A wait that would end past the deadline of the class ends just after it; past it the wait is whole again."""

    def running(seconds: int) -> int:
        return wait(
            status=GenerationStatus.PROCESSING, kind=kind, attempts=3, running_seconds=seconds
        )

    assert running(deadline - 100) == 101
    assert running(deadline + 1) == 480


def test_only_what_runs_has_that_deadline() -> None:
    """What is being stored is not with the provider any more."""
    assert wait(attempts=3, running_seconds=200) == 480

"""Cancel as a protocol: wanted, asked, then confirmed or too late. The database decides, once, what it ends as."""

from __future__ import annotations

from uuid import UUID

from holdfast.errors import NotCancelableError, NotFoundError
from holdfast.observability import count
from holdfast.recovery import CancelRequestOutcome, RecoveryStore
from holdfast.usecases.ask_provider import ProviderInquiry
from holdfast.views import CancelView
from holdfast.vocabulary import GenerationStatus


class Canceler:
    """Cancel generations for their users."""

    def __init__(self, recovery: RecoveryStore, inquiry: ProviderInquiry) -> None:
        self._recovery = recovery
        self._inquiry = inquiry

    def cancel(self, user_id: UUID, generation_id: UUID) -> CancelView:
        """
        Note the wish, ask the provider if it may be at work, and say what really happened.

        Raises `NotFoundError`, and `NotCancelableError` when it has ended or its output is there. A provider that does
        not answer is asked again by the sweep.
        """
        wish = self._recovery.request_cancel(user_id, generation_id)
        count(f"CancelRequest.{wish.outcome}")
        status = wish.status
        if wish.outcome is CancelRequestOutcome.NOT_FOUND or status is None:
            raise NotFoundError("There is no such generation.")
        if wish.outcome is CancelRequestOutcome.NOT_CANCELABLE:
            raise _too_late(status)
        if wish.outcome is CancelRequestOutcome.CANCEL_REQUESTED and wish.provider_generation_id:
            status = self._inquiry.try_stop(generation_id, wish.provider_generation_id) or status
        if status is GenerationStatus.CANCELED:
            return CancelView(id=generation_id, status=status, outcome="canceled")
        if status.is_final or status is GenerationStatus.STORING:
            raise _too_late(status)
        return CancelView(id=generation_id, status=status, outcome="cancel_requested")


def _too_late(status: GenerationStatus) -> NotCancelableError:
    words = (
        "Its output is being stored" if status is GenerationStatus.STORING else f"It has {status}"
    )
    return NotCancelableError(f"{words}.", members={"generation_status": status})

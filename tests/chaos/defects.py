"""Mistakes to make on purpose, to see that the campaign finds them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from holdfast.babysea import BabySeaClient
from holdfast.babysea_models import Refused, Unknown
from holdfast.errors import HoldfastError
from holdfast.generations import GenerationStore, Recorded, ResultOutcome
from holdfast.usecases.apply_callback import CallbackReceiver
from holdfast.usecases.reconcile import Reconciler
from holdfast.usecases.recover import RecoverySweep
from holdfast.usecases.settle_generation import GenerationSettler
from holdfast.vocabulary import GenerationStatus
from local.database import MIGRATIONS


@dataclass(frozen=True)
class Defect:
    """A mistake: SQL that replaces functions, or a part of the product that is replaced."""

    sql: Callable[[], str] = str
    part: tuple[type, str, Any] | None = None


def _function(name: str, *changes: tuple[str, str]) -> str:
    """Return a function of the migrations, changed."""
    for path in sorted(MIGRATIONS.glob("*.sql")):
        text = path.read_text()
        start = text.find(f"create function {name}(")
        if start >= 0:
            end = min(
                at + len(mark)
                for mark in ("end $$;", "\n$$;")
                if (at := text.find(mark, start)) >= 0
            )
            body = text[start:end].replace("create function", "create or replace function", 1)
            for old, new in changes:
                assert old in body, f"{name} no longer says {old!r}"
                body = body.replace(old, new)
            return body
    raise AssertionError(f"no function {name}")


def _refund_without_asking(sweep: RecoverySweep, generation: Any) -> None:
    sweep._recovery.abandon(generation.generation_id, "too_slow")


_generate = BabySeaClient.generate


_seen: set[str] = set()


def _generate_with_new_key_on_replay(
    client: BabySeaClient, kind: Any, model: str, body: bytes, key: str
) -> Any:
    again, _ = key in _seen, _seen.add(key)  # type: ignore[func-returns-value]
    return _generate(client, kind, model, body, f"{key}-again" if again else key)


def _generate_or_refuse(client: BabySeaClient, *order: Any) -> Any:
    outcome = _generate(client, *order)
    return Refused("BSE4006", "no answer") if isinstance(outcome, Unknown) else outcome


_recover = RecoverySweep._recover


def _recover_but_not_storing(sweep: RecoverySweep, generation: Any) -> None:
    if generation.status is not GenerationStatus.STORING:
        _recover(sweep, generation)


_receive = CallbackReceiver.receive


def _acknowledge_first(receiver: CallbackReceiver, body: bytes, signature: str | None) -> Recorded:
    try:
        return _receive(receiver, body, signature)
    except HoldfastError:
        return Recorded(ResultOutcome.NOTED, None, None)


_complete = GenerationStore.complete


def _deliver_before_the_charge(
    store: GenerationStore, generation_id: Any, outputs: list[Any], error_code: str | None = None
) -> Any:
    store._database.one("select backend.deliver(%s)", (generation_id,))
    return _complete(store, generation_id, outputs, error_code)


_DELIVER = """
create function backend.deliver(p_generation uuid) returns void
  language sql security definer set search_path = ''
as $$
  update public.generations set status = 'succeeded', finished_at = ledger.clock()
   where id = p_generation and status = 'storing';
  update backend.dispatches set finished_at = ledger.clock() where generation_id = p_generation;
$$;
grant execute on function backend.deliver(uuid) to holdfast_backend;
"""

DEFECTS: dict[str, Defect] = {
    "refund without asking the provider": Defect(
        part=(RecoverySweep, "_recover", _refund_without_asking)
    ),
    "a new key for every replay": Defect(
        part=(BabySeaClient, "generate", _generate_with_new_key_on_replay)
    ),
    "callback acknowledged before it is stored": Defect(
        part=(CallbackReceiver, "receive", _acknowledge_first)
    ),
    "delivery before the charge": Defect(
        sql=lambda: (
            _DELIVER
            + _function(
                "backend.complete_generation",
                (
                    "elsif g.status in ('succeeded', 'failed', 'canceled') then",
                    "elsif g.status in ('failed', 'canceled') or g.charged_credits is not null then",
                ),
                (
                    "elsif g.status <> 'storing' then",
                    "elsif g.status not in ('storing', 'succeeded') then",
                ),
            )
        ),
        part=(GenerationStore, "complete", _deliver_before_the_charge),
    ),
    "a cancel refunds without asking the provider": Defect(
        sql=lambda: _function(
            "backend.request_cancel", ("g.status = 'queued' and d.sent_at is null", "true")
        )
    ),
    "no answer counts as a refusal": Defect(part=(BabySeaClient, "generate", _generate_or_refuse)),
    "what an earlier worker stored is forgotten": Defect(
        part=(GenerationSettler, "_stored_before", lambda *_: {})
    ),
    "a payment of which no event came is not looked for": Defect(
        part=(Reconciler, "_pass", lambda *_: None)
    ),
    "a lost settlement is not sent again": Defect(
        part=(RecoverySweep, "_recover", _recover_but_not_storing)
    ),
}


@contextlib.contextmanager
def defective(name: str | None) -> Iterator[str]:
    """Put a defect in place and return the SQL that belongs to it; None is no defect."""
    if name is None:
        yield ""
        return
    defect = DEFECTS[name]
    _seen.clear()
    with contextlib.ExitStack() as stack:
        if defect.part:
            stack.enter_context(patch.object(*defect.part))
        yield defect.sql()

"""The virtual time in Python's modules and in PostgreSQL: deadlines of a day pass in a moment."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

from holdfast.babysea import BabySeaClient
from holdfast.output_copier import OutputCopier
from holdfast.usecases.ask_provider import ProviderInquiry
from tests.chaos.scheduler import current

_MODULES = ("holdfast", "local.standins.babysea", "local.standins.stripe")
GUC = "chaos.now"

CLOCK = f"""
create or replace function ledger.clock() returns timestamptz
  language sql stable security definer set search_path = ''
as $$
  select coalesce(to_timestamp(nullif(current_setting('{GUC}', true), '')::double precision), now())
$$
"""
"""Each transaction of the campaign says what time it is."""


class _Time:
    """Stands in the place of the module `time`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def time() -> float:
        actor = current()
        return actor.scheduler.now if actor else time.time()

    monotonic = time

    @staticmethod
    def sleep(seconds: float) -> None:
        actor = current()
        if actor:
            actor.sleep(seconds)
        else:
            time.sleep(seconds)


class _KindOfDatetime(type(datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class _Datetime(datetime, metaclass=_KindOfDatetime):
    """Stands in the place of the class `datetime`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.fromtimestamp(_Time.time(), tz)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Show the virtual time to the product, the provider and Stripe while an actor runs."""
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def put(namespace: dict[str, Any], name: str, value: Any) -> None:
        undo.append((namespace, name, namespace[name]))
        namespace[name] = value

    for name, module in list(sys.modules.items()):
        if name.startswith(_MODULES):
            for attribute, value in list(vars(module).items()):
                if value is time:
                    put(vars(module), attribute, _Time())
                elif value is datetime:
                    put(vars(module), attribute, _Datetime)
    # defaults are bound when the class is made
    for function in (BabySeaClient.__init__, OutputCopier.__init__, ProviderInquiry.__init__):
        put(function.__kwdefaults__, "clock", _Time.time)
    put(BabySeaClient.__init__.__kwdefaults__, "sleep", _Time.sleep)
    put(BabySeaClient.__init__.__kwdefaults__, "jitter", lambda: 0.5)
    try:
        yield
    finally:
        for namespace, name, value in reversed(undo):
            namespace[name] = value

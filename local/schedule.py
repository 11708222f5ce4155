"""
EventBridge Scheduler on this machine: a function's `ScheduleV2` events.

Only `rate(...)` is understood. A schedule here waits for its function before it counts on, so a sweep that is slower
than its rate runs late instead of twice at once; on AWS it may overlap, and the product's leases see to that.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from local.runtime import Function, FunctionClosedError, ThrottledError
from local.template import ACCOUNT, REGION, Schedule

_UNIT_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)(s?)\)")


class ScheduleError(ValueError):
    """A schedule expression that EventBridge refuses, or that is not supported here."""


def rate_seconds(expression: str) -> int:
    """Return the seconds between two runs of `rate(n unit)`. Raises `ScheduleError`, for `rate(1 minutes)` as well."""
    match = _RATE.fullmatch(expression.strip())
    if not match or int(match[1]) == 0 or (match[1] == "1") != (match[3] == ""):
        raise ScheduleError(f"not a rate: {expression}")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def schedule_event(schedule: Schedule) -> Any:
    """Return the event of one run: the schedule's input, or what the service sends without one."""
    if schedule.input is not None:
        return json.loads(schedule.input)
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": ACCOUNT,
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{schedule.name}"],
        "detail": "{}",
    }


class ScheduleRunner:
    """Runs one schedule of one function. `every`, in seconds, takes the place of its rate."""

    def __init__(self, function: Function, schedule: Schedule, every: float | None = None) -> None:
        self._function = function
        self._schedule = schedule
        self._seconds = every if every is not None else rate_seconds(schedule.expression)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Run in the background; the first run comes after the first interval."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a run in progress is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._function.invoke(schedule_event(self._schedule))
            except FunctionClosedError:
                return
            except ThrottledError:
                continue

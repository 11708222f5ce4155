"""
The functions' own handlers, `functions/*/app.py`, in this process.

An environment is one import of a function's module, with the variables that `template.yaml` gives it. A killed one
loses what a killed process loses: its connections and what it remembered.
"""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

from holdfast.babysea import BabySeaClient
from local.database import ROOT
from local.template import FunctionSpec, Template, read_template
from tests.chaos.scheduler import Actor

PARAMETERS = {
    "Stage": "chaos",
    "SupabaseUrl": "http://127.0.0.1:54321",
    "SupabaseJwtAlgorithm": "HS256",
    "FrontendUrl": "http://localhost:8000",
    "BabyseaBaseUrl": "http://127.0.0.1:54322",
    "StripeApiBase": "http://127.0.0.1:54323",
    "OutputOrigins": "http://127.0.0.1:54322",
    "MaxActiveGenerations": "4",
    "GenerationsPerHour": "20",
    "ReconcileEverySeconds": "3600",
}
"""Addresses that nobody listens at: the calls end at the boundary."""


class KilledError(BaseException):
    """SIGKILL: what raises it makes no further call, and no code of the product may catch it."""


class Environment:
    """One environment of a function."""

    def __init__(self, spec: FunctionSpec, number: int, variables: Mapping[str, str]) -> None:
        self.spec = spec
        self.lines: list[Any] = []
        name = f"chaos_{spec.code.name}_{number}"
        found = importlib.util.spec_from_file_location(name, spec.code / "app.py")
        assert found
        assert found.loader
        self.module: ModuleType = importlib.util.module_from_spec(found)
        with patch.dict(os.environ, variables):
            found.loader.exec_module(self.module)

    def forget(self) -> None:
        """Lose what dies with a process."""
        while self.lines:
            self.lines.pop().close()
        for value in vars(self.module).values():
            if isinstance(value, BabySeaClient):
                value._catalog = None


@dataclass
class Invocation:
    """One event in one environment; also the context that the handler is given."""

    actor: Actor
    environment: Environment
    ends_at: float
    is_killed: bool = False
    memory_limit_in_mb: int = 256
    aws_request_id: str = "chaos"

    @property
    def function_name(self) -> str:
        """The function's name."""
        return self.environment.spec.code.name

    @property
    def invoked_function_arn(self) -> str:
        """The function's ARN."""
        return f"arn:aws:lambda:local:000000000000:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Return how long it may still run."""
        return max(0, int((self.ends_at - self.actor.scheduler.now) * 1000))


@dataclass
class Crash:
    """An invocation that did not end by itself, or raised."""

    reason: str


@dataclass
class Functions:
    """All functions of the template; environments are made when they are needed and then kept."""

    secrets: Mapping[str, str]
    template: Template = field(
        default_factory=lambda: read_template(ROOT / "template.yaml", PARAMETERS)
    )

    def __post_init__(self) -> None:
        self._specs = {spec.code.name: spec for spec in self.template.functions.values()}
        self._idle: dict[str, list[Environment]] = defaultdict(list)
        self._all: list[Environment] = []

    def spec(self, name: str) -> FunctionSpec:
        """Return what the template says of a function, by the name of its folder."""
        return self._specs[name]

    def forget(self) -> None:
        """Make the next invocation of each function a cold start; none may be running."""
        self._idle.clear()
        for environment in self._all:
            environment.forget()
            self._idle[environment.spec.code.name].append(environment)

    def invoke(self, actor: Actor, name: str, event: dict[str, Any]) -> Any:
        """Return the function's answer, or the `Crash` that it ended in."""
        spec = self._specs[name]
        idle = self._idle[name]
        environment = idle.pop() if idle else self._make(spec)
        invocation = Invocation(actor, environment, actor.scheduler.now + spec.timeout)
        actor.invocations.append(invocation)
        try:
            return environment.module.handler(event, invocation)
        except KilledError:
            return Crash("killed")
        except Exception as error:  # noqa: BLE001 - what Lambda would call a function error
            return Crash(f"raised {type(error).__name__}: {error}")
        finally:
            actor.invocations.pop()
            if invocation.is_killed:
                environment.forget()
            idle.append(environment)

    def _make(self, spec: FunctionSpec) -> Environment:
        variables = {k: v for k, v in spec.environment.items() if not k.endswith("_FROM")}
        environment = Environment(spec, len(self._all), {**variables, **self.secrets})
        self._all.append(environment)
        return environment

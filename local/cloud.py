"""
The machine-local cloud: `template.yaml` brought to life as processes on this machine.

    cloud = Cloud(Path("template.yaml"))
    cloud.parameters["StripeApiBase"] = stripe.url      # anything may still refer to cloud.url
    cloud.secrets["DATABASE_URL"] = server.url("holdfast_backend", "holdfast")
    with cloud:
        httpx.get(f"{cloud.url}/catalog")

It brings the functions, the HTTP API, queues, secrets and schedules. It knows nothing of what the functions talk to:
whoever puts the local cloud together (`local/stack.py`, a test) starts PostgreSQL and the stand-ins, and hands their
addresses over as parameters, secrets and variables. The gateway's port is taken in the constructor, so that stand-ins
can be given the URL of a webhook before the cloud starts.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from local.aws import LocalAws
from local.environment import Invocation, Sandbox
from local.event_sources import RETRY_SECONDS, QueuePoller
from local.gateway import Gateway
from local.interpreter import (
    Client,
    artifact_interpreter,
    link_runtime,
    source_interpreter,
)
from local.reaper import Reaper
from local.runtime import DEFAULT_CONCURRENCY, Function
from local.schedule import ScheduleRunner, schedule_event
from local.template import FunctionSpec, Template, read_template

Mode = Literal["source", "artifact"]
Progress = Callable[[str], None]


class Logs:
    """The log text of all invocations, in the order they ended. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: list[tuple[str, str]] = []

    def add(self, function: str, text: str) -> None:
        """Keep the log of one invocation of `function`."""
        with self._lock:
            self._texts.append((function, text))

    def text(self, function: str | None = None) -> str:
        """Return everything logged so far, or only what `function` (a logical id) logged."""
        with self._lock:
            return "".join(text for name, text in self._texts if function in (None, name))

    def __contains__(self, text: str) -> bool:
        return text in self.text()


class Cloud:
    """
    One local cloud; use as a context manager, or `start` and `stop`. It can be started once.

    `parameters`, `secrets` (name to value: whatever function reads `NAME_FROM` finds it there) and `environment` (set
    in every function, over the template's) may be changed until it starts. Mode `source` runs the functions from
    their source with this virtualenv's packages; mode `artifact` runs the output of `sam build`, whose
    `template.yaml` is then the one to give, on the bare interpreter. Every cloud has its own processes and queues;
    clouds do not see each other.
    """

    def __init__(
        self,
        template: Path,
        *,
        parameters: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        mode: Mode = "source",
        client: Client | None = None,
        port: int = 0,
        concurrency: int = DEFAULT_CONCURRENCY,
        retry_seconds: int = RETRY_SECONDS,
        poll_queues: bool = True,
        run_schedules: bool = True,
        schedule_every: float | None = None,
        on_log: Callable[[str, str], None] | None = None,
    ) -> None:
        self.parameters = dict(parameters or {})
        self.secrets = dict(secrets or {})
        self.environment = dict(environment or {})
        self.logs = Logs()
        self.functions: dict[str, Function] = {}
        self.queue_urls: dict[str, str] = {}
        self.pollers: dict[str, QueuePoller] = {}
        self.aws = LocalAws()
        self.directory: Path | None = None  # of this run, removed with it
        self._template_path = template
        self._mode = mode
        self._client = client
        self._concurrency = concurrency
        self._retry_seconds = retry_seconds
        self._poll_queues = poll_queues
        self._run_schedules = run_schedules
        self._schedule_every = schedule_every
        self._on_log = on_log
        self._cleanup = ExitStack()
        self._gateway = Gateway(port)

    @property
    def url(self) -> str:
        """The HTTP API's base URL, known before the start."""
        return self._gateway.url

    @cached_property
    def sqs(self) -> Any:
        """A boto3 SQS client of this cloud's queues."""
        return self.aws.client("sqs")

    def start(self, progress: Progress | None = None) -> Self:
        """
        Start everything; `progress` is told the name of each step before it is taken.

        Raises `TemplateError` or `ValueError` for settings that do not fit, and leaves nothing running then.
        """
        try:
            self._start(progress or (lambda _step: None))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything and remove what it left on disk."""
        self._gateway.close()
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def invoke(self, logical_id: str, event: Any) -> Invocation:
        """Invoke a function with `event`, as the Lambda API would; see `Function.invoke`."""
        return self.functions[logical_id].invoke(event)

    def fire(self, logical_id: str, event: Any = None) -> Invocation:
        """
        Invoke a function as its schedule would, now, or as an operator would with an event of their own.

        Raises `KeyError` for a function without a schedule.
        """
        function = self.functions[logical_id]
        if not function.spec.schedules:
            raise KeyError(f"{logical_id} has no schedule")
        return function.invoke(event or schedule_event(function.spec.schedules[0]))

    def _start(self, tell: Progress) -> None:
        # Read twice: mistakes are told before anything runs, and a queue's URL is known only when its server is.
        secrets = _secrets_by_id(self.secrets, read_template(self._template_path, self.parameters))
        tell("SQS and Secrets Manager")
        sandbox = self._start_services()
        template = read_template(self._template_path, self.parameters, self.aws.endpoint)
        self.queue_urls = self.aws.create_queues(template.queues)
        self.aws.put_secrets(secrets)

        tell("functions")
        for logical_id, spec in template.functions.items():
            function = Function(
                self._with_environment(spec),
                sandbox,
                concurrency=self._concurrency,
                on_log=self._log,
            )
            self.functions[logical_id] = function
            self._cleanup.callback(function.close)

        tell("HTTP API")
        self._gateway.serve(template.api, self.functions)
        tell("queues and schedules")
        self._start_event_sources(template)

    def _start_event_sources(self, template: Template) -> None:
        for logical_id, function in self.functions.items():
            for source in function.spec.queues:
                poller = QueuePoller(
                    function,
                    source,
                    template.queues[source.queue],
                    self.queue_urls[source.queue],
                    self.sqs,
                    self._retry_seconds,
                )
                self.pollers[logical_id] = poller
                self._cleanup.callback(poller.stop)
                if self._poll_queues:
                    poller.start()
            for schedule in function.spec.schedules if self._run_schedules else ():
                runner = ScheduleRunner(function, schedule, self._schedule_every)
                self._cleanup.callback(runner.stop)
                runner.start()

    def _start_services(self) -> Sandbox:
        """Take the run directory and start AWS's services, which get ready in the background."""
        directory = self.directory = Path(tempfile.mkdtemp(prefix="holdfast-"))
        self._cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        reaper = Reaper(directory)
        self._cleanup.callback(reaper.close)
        self._cleanup.callback(self.aws.stop)
        self.aws.start(reaper)
        if self._mode == "source":
            interpreter = source_interpreter(self._client)
        else:
            runtime = link_runtime(directory / "runtime")
            interpreter = artifact_interpreter(runtime, self._client)
        return Sandbox(interpreter, directory, reaper)

    def _with_environment(self, spec: FunctionSpec) -> FunctionSpec:
        variables = {**spec.environment, **self.aws.environment, **self.environment}
        return replace(spec, environment=variables)

    def _log(self, function: str, text: str) -> None:
        self.logs.add(function, text)
        if self._on_log:
            self._on_log(function, text)


def _secrets_by_id(secrets: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return secrets by the id under which functions look for them: the value of their variable `NAME_FROM`."""
    found: dict[str, str] = {}
    for name, value in secrets.items():
        variable = f"{name}_FROM"
        ids = {spec.environment.get(variable, "") for spec in template.functions.values()} - {""}
        if not ids:
            raise ValueError(f"no function reads the secret {name} ({variable} is set nowhere)")
        found |= dict.fromkeys(ids, value)
    return found

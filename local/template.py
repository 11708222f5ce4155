"""
What `template.yaml` says, as data: functions with their triggers, the HTTP API, the queues.

Reads a source template and the one `sam build` writes alike: both name code by paths relative to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.intrinsics import ACCOUNT, PARTITION, REGION, Resolver, TemplateError, load, to_text

__all__ = [
    "ACCOUNT",
    "REGION",
    "Cors",
    "FunctionSpec",
    "HttpApiSpec",
    "HttpRoute",
    "QueueSource",
    "QueueSpec",
    "Schedule",
    "Template",
    "TemplateError",
    "read_template",
]


@dataclass(frozen=True)
class HttpRoute:
    """One route of the HTTP API. `method` is upper-case; `ANY` fits all."""

    method: str
    path: str


@dataclass(frozen=True)
class QueueSource:
    """A queue that triggers a function. `queue` is the queue's logical id."""

    queue: str
    batch_size: int
    reports_failures: bool
    max_concurrency: int


@dataclass(frozen=True)
class Schedule:
    """A schedule that triggers a function; `input` is its event as JSON, None means the service's own event."""

    name: str
    expression: str
    input: str | None


@dataclass(frozen=True)
class FunctionSpec:
    """One Lambda function. `code` and `layers` are folders; `timeout` is in seconds."""

    logical_id: str
    name: str
    code: Path
    handler: str
    runtime: str
    timeout: float
    memory_mb: int
    layers: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    routes: tuple[HttpRoute, ...] = ()
    queues: tuple[QueueSource, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    concurrency: int | None = None
    log_format: str = ""
    log_level: str = ""


@dataclass(frozen=True)
class Cors:
    """The HTTP API's CORS configuration; `max_age` is in seconds."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed_headers: tuple[str, ...] = ()
    max_age: int | None = None
    credentials: bool = False


@dataclass(frozen=True)
class HttpApiSpec:
    """The HTTP API (payload format 2.0, stage `$default`)."""

    logical_id: str
    cors: Cors | None = None


@dataclass(frozen=True)
class QueueSpec:
    """One SQS queue; times are in seconds. `dead_letter_queue` is a logical id."""

    logical_id: str
    name: str
    visibility_timeout: int = 30
    delay: int = 0
    dead_letter_queue: str | None = None
    max_receive_count: int | None = None

    @property
    def arn(self) -> str:
        """The queue's ARN."""
        return f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT}:{self.name}"


@dataclass(frozen=True)
class Template:
    """All of it, by logical id."""

    functions: Mapping[str, FunctionSpec]
    queues: Mapping[str, QueueSpec]
    api: HttpApiSpec


def read_template(
    path: Path,
    parameters: Mapping[str, str] | None = None,
    aws_endpoint: str = "http://127.0.0.1",
) -> Template:
    """
    Read the template at `path` with `parameters` over its defaults.

    `aws_endpoint` is where the queues are: a queue's `Ref` is its URL there. Raises `TemplateError`.
    """
    raw = load(path)
    names = _queue_names(raw, Resolver(raw, parameters))
    attributes: dict[str, str] = {}
    for logical_id, name in names.items():
        attributes[logical_id] = f"{aws_endpoint}/{ACCOUNT}/{name}"
        attributes[f"{logical_id}.QueueUrl"] = attributes[logical_id]
        attributes[f"{logical_id}.QueueName"] = name
        attributes[f"{logical_id}.Arn"] = QueueSpec(logical_id, name).arn
    return _Reader(path.resolve().parent, raw, Resolver(raw, parameters, attributes)).read(names)


def _queue_names(raw: dict[str, Any], resolve: Resolver) -> dict[str, str]:
    return {
        logical_id: resolve(resource.get("Properties", {}).get("QueueName")) or logical_id
        for logical_id, resource in raw["Resources"].items()
        if resource["Type"] == "AWS::SQS::Queue"
    }


class _Reader:
    """Turns one loaded template into specs."""

    def __init__(self, root: Path, raw: dict[str, Any], resolve: Resolver) -> None:
        self._root = root
        self._resolve = resolve
        self._globals: dict[str, Any] = raw.get("Globals", {})
        self._resources = {
            logical_id: resource
            for logical_id, resource in raw["Resources"].items()
            if "Condition" not in resource or resolve.condition(resource["Condition"])
        }
        self._queue_by_arn: dict[str, str] = {}

    def read(self, queue_names: dict[str, str]) -> Template:
        names = {key: name for key, name in queue_names.items() if key in self._resources}
        self._queue_by_arn = {QueueSpec(key, name).arn: key for key, name in names.items()}
        functions = self._of_type("AWS::Serverless::Function", "Function")
        apis = self._of_type("AWS::Serverless::HttpApi", "HttpApi")
        if len(apis) > 1:
            raise TemplateError("the local cloud has one HTTP API, the template has more")
        api = next(iter(apis.items()), ("ServerlessHttpApi", {}))
        return Template(
            functions={key: self._function(key, value) for key, value in functions.items()},
            queues={key: self._queue(key, name) for key, name in names.items()},
            api=self._api(*api),
        )

    def _of_type(self, kind: str, section: str) -> dict[str, dict[str, Any]]:
        """Return the properties of all resources of one type, with the template's Globals merged in."""
        return {
            logical_id: _merge(self._globals.get(section, {}), resource.get("Properties", {}))
            for logical_id, resource in self._resources.items()
            if resource["Type"] == kind
        }

    def _function(self, logical_id: str, properties: dict[str, Any]) -> FunctionSpec:
        def get(name: str, default: Any = None) -> Any:
            value = self._resolve(properties.get(name))
            return default if value is None else value

        routes: list[HttpRoute] = []
        queues: list[QueueSource] = []
        schedules: list[Schedule] = []
        for name, event in properties.get("Events", {}).items():
            settings = self._resolve(event.get("Properties", {}))
            match event["Type"]:
                case "HttpApi":
                    routes.append(_route(settings))
                case "SQS":
                    queues.append(self._queue_source(settings))
                case "ScheduleV2":
                    if settings.get("State", "ENABLED") == "ENABLED":
                        schedules.append(_schedule(f"{logical_id}{name}", settings))
                case other:
                    raise TemplateError(f"{logical_id}: no local event source of type {other}")
        variables = get("Environment", {}).get("Variables", {})
        logging = get("LoggingConfig", {})
        concurrency = get("ReservedConcurrentExecutions")
        return FunctionSpec(
            logical_id=logical_id,
            name=get("FunctionName", logical_id),
            code=self._folder(get("CodeUri", "")),
            handler=get("Handler", ""),
            runtime=get("Runtime", ""),
            timeout=float(get("Timeout", 3)),
            memory_mb=int(get("MemorySize", 128)),
            layers=tuple(self._layer(layer) for layer in get("Layers", [])),
            environment={key: to_text(value) for key, value in variables.items()},
            routes=tuple(routes),
            queues=tuple(queues),
            schedules=tuple(schedules),
            concurrency=None if concurrency is None else int(concurrency),
            log_format=logging.get("LogFormat", ""),
            log_level=logging.get("ApplicationLogLevel", ""),
        )

    def _folder(self, uri: str) -> Path:
        folder = (self._root / uri).resolve()
        if not folder.is_dir():
            raise TemplateError(f"there is no folder {folder}")
        return folder

    def _layer(self, reference: str) -> Path:
        layer = self._resources.get(reference, {})
        if layer.get("Type") != "AWS::Serverless::LayerVersion":
            raise TemplateError(f"{reference} is no layer of this template")
        return self._folder(self._resolve(layer["Properties"]["ContentUri"]))

    def _queue_source(self, settings: dict[str, Any]) -> QueueSource:
        scaling = settings.get("ScalingConfig", {})
        return QueueSource(
            queue=self._queue_id(settings["Queue"]),
            batch_size=int(settings.get("BatchSize", 10)),
            reports_failures="ReportBatchItemFailures" in settings.get("FunctionResponseTypes", []),
            max_concurrency=int(scaling.get("MaximumConcurrency", 5)),
        )

    def _queue(self, logical_id: str, name: str) -> QueueSpec:
        get = self._resolve(self._resources[logical_id].get("Properties", {})).get
        redrive = get("RedrivePolicy") or {}
        return QueueSpec(
            logical_id=logical_id,
            name=name,
            visibility_timeout=int(get("VisibilityTimeout", 30)),
            delay=int(get("DelaySeconds", 0)),
            dead_letter_queue=self._queue_id(redrive["deadLetterTargetArn"]) if redrive else None,
            max_receive_count=int(redrive["maxReceiveCount"]) if redrive else None,
        )

    def _queue_id(self, arn: str) -> str:
        if arn not in self._queue_by_arn:
            raise TemplateError(f"{arn} is no queue of this template")
        return self._queue_by_arn[arn]

    def _api(self, logical_id: str, properties: dict[str, Any]) -> HttpApiSpec:
        if properties.get("Auth") or self._resolve(properties.get("StageName")) not in (
            None,
            "$default",
        ):
            raise TemplateError(f"{logical_id}: no authorizers and no named stages here")
        settings = self._resolve(properties.get("CorsConfiguration"))
        if not settings:
            return HttpApiSpec(logical_id)
        if not isinstance(settings, dict):
            raise TemplateError(f"{logical_id}: write CorsConfiguration out")
        max_age = settings.get("MaxAge")
        return HttpApiSpec(
            logical_id,
            Cors(
                origins=tuple(settings.get("AllowOrigins", [])),
                methods=tuple(settings.get("AllowMethods", [])),
                headers=tuple(settings.get("AllowHeaders", [])),
                exposed_headers=tuple(settings.get("ExposeHeaders", [])),
                max_age=None if max_age is None else int(max_age),
                credentials=to_text(settings.get("AllowCredentials", False)) == "true",
            ),
        )


def _route(settings: dict[str, Any]) -> HttpRoute:
    if "Path" not in settings or "Method" not in settings:
        raise TemplateError("an HttpApi event needs Path and Method: there is no $default route")
    method = settings["Method"].upper()
    return HttpRoute("ANY" if method == "*" else method, settings["Path"])


def _schedule(name: str, settings: dict[str, Any]) -> Schedule:
    return Schedule(
        settings.get("Name", name), settings["ScheduleExpression"], settings.get("Input")
    )


def _merge(base: Any, over: Any) -> Any:
    """Merge as SAM does with Globals: maps are combined, lists added, all else replaced."""
    intrinsic = [
        value
        for value in (base, over)
        if isinstance(value, dict)
        and any(key == "Ref" or str(key).startswith("Fn::") for key in value)
    ]
    if isinstance(base, dict) and isinstance(over, dict) and not intrinsic:
        return {
            **base,
            **{
                key: _merge(base[key], value) if key in base else value
                for key, value in over.items()
            },
        }
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *over]
    return over

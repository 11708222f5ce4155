"""The alarms on our own metrics: each hears what the functions' code counts, from every function that counts it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.template.support import FOLDERS, REQUIRED, environment, of_type
from tools.programs import ROOT

PRODUCT = ROOT / "layers" / "shared"


@cache
def parsed(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[Path]:
    """Yield the files of the product that a file imports."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        files = (PRODUCT / f"{name.replace('.', '/')}.py" for name in names)
        yield from (file for file in files if file.exists())


def modules(service: str) -> set[Path]:
    """Return every file that a function loads, its own first."""
    found: set[Path] = set()
    waiting = [ROOT / "functions" / service / "app.py"]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported(file)
    return found


def spellings(files: set[Path]) -> set[str]:
    """Return what a part of a metric's name that is filled in may be: names of classes, and short texts."""
    nodes = [node for file in files for node in ast.walk(parsed(file))]
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)} | {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def counted(files: set[Path]) -> list[re.Pattern[str]]:
    """Return a pattern for each metric that these files count; what is filled in is a group."""
    return [
        re.compile(
            "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"(\w+)"
                for part in (name.values if isinstance(name, ast.JoinedStr) else [name])
            )
        )
        for file in files
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "count"
        for name in node.args[:1]
    ]


@cache
def counts(service: str, metric: str) -> bool:
    """Say whether a function's code counts a metric."""
    files = modules(service)
    return any(
        set(found.groups()) <= spellings(files)
        for pattern in counted(files)
        if (found := pattern.fullmatch(metric))
    )


def listeners(cloudformation: dict[str, Any]) -> set[tuple[str, str]]:
    """Return metric and service of each alarm on a metric of ours."""
    return {
        (alarm["MetricName"], dimension["Value"])
        for alarm in of_type(cloudformation, "AWS::CloudWatch::Alarm").values()
        if alarm["Namespace"] == "Holdfast"
        for dimension in alarm["Dimensions"]
    }


def test_an_alarm_hears_its_metric_from_every_function_that_counts_it(
    cloudformation: dict[str, Any],
) -> None:
    """Each Holdfast alarm's metric is counted by the service it names, and no other service counts it unheard."""
    heard = listeners(cloudformation)

    assert heard
    assert heard == {
        (metric, service)
        for metric in {metric for metric, _ in heard}
        for service in FOLDERS.values()
        if counts(service, metric)
    }


@pytest.mark.parametrize(
    ("metric", "service", "is_counted"),
    [
        ("GivenUp", "recovery_sweep", True),
        ("GivenUp", "babysea_callback", False),
        ("Sweep.Poisoned", "recovery_sweep", True),
        ("Sweep.Poisoned", "create_generation", False),
        ("Sweep.Poisonous", "recovery_sweep", False),
        ("Dispatch.OperatorOutOfCredits", "create_generation", True),
        ("Dispatch.OperatorIsPoor", "create_generation", False),
    ],
)
def test_a_metric_that_is_not_counted_is_found(
    metric: str, service: str, *, is_counted: bool
) -> None:
    """A renamed metric, class or outcome, and a service that never loads the code, do not pass for counted."""
    assert counts(service, metric) is is_counted


@pytest.mark.parametrize("function", sorted(FOLDERS))
def test_the_namespace_of_metrics(cloudformation: dict[str, Any], function: str) -> None:
    """Functions count where the alarms listen."""
    variables = environment(cloudformation, function, REQUIRED)
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "Holdfast"

"""
Run one function once: `python -m local.invoke get_status events/api.account.json`.

For the developer at work on one function. Its variables are those of `template.yaml` with the parameters' defaults,
and over them what `.env` says; secrets are plain variables in `.env`, nothing is fetched. The log goes to standard
error, the answer to standard output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from local.environment import Invocation, Sandbox
from local.interpreter import source_interpreter
from local.reaper import Reaper
from local.runtime import Function
from local.template import FunctionSpec, Template, TemplateError, read_template


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a `.env` file (`NAME=value`, comments, quotes); empty when there is none."""
    variables: dict[str, str] = {}
    for raw in path.read_text().splitlines() if path.is_file() else ():
        line = raw.strip().removeprefix("export ")
        name, equals, value = line.partition("=")
        if not equals or line.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        variables[name.strip()] = value
    return variables


def find_function(template: Template, name: str) -> FunctionSpec:
    """Return the function called `name`, by logical id or by folder. Raises `KeyError`."""
    for spec in template.functions.values():
        if name in (spec.logical_id, spec.code.name):
            return spec
    known = ", ".join(spec.code.name for spec in template.functions.values())
    raise KeyError(f"no function {name}; there are {known}")


def with_local_environment(spec: FunctionSpec, env_file: Mapping[str, str]) -> FunctionSpec:
    """Return `spec` with the variables of `.env` over its own, and without references to secrets in AWS."""
    own = {name: value for name, value in spec.environment.items() if not name.endswith("_FROM")}
    return replace(spec, environment={**own, **env_file})


def invoke_once(spec: FunctionSpec, event: Any) -> Invocation:
    """Run `spec` from its source in a fresh process, and return how it went."""
    directory = Path(tempfile.mkdtemp(prefix="holdfast-"))
    reaper = Reaper(directory)
    function = Function(spec, Sandbox(source_interpreter(), directory, reaper))
    try:
        return function.invoke(event)
    finally:
        function.close()
        reaper.close()
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 when the function failed, 2 when it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m local.invoke", description=__doc__)
    parser.add_argument("function", help="folder or logical id")
    parser.add_argument("event", type=Path, help="file with the event as JSON")
    parser.add_argument("--template", type=Path, default=Path("template.yaml"))
    parser.add_argument("--env-file", type=Path, default=Path(".env"))
    options = parser.parse_args(arguments)
    try:
        event = json.loads(options.event.read_text())
        spec = find_function(read_template(options.template), options.function)
    except (OSError, ValueError, KeyError, TemplateError) as error:
        print(f"error: {error.args[-1] if error.args else error}", file=sys.stderr)
        return 2
    invocation = invoke_once(with_local_environment(spec, read_env_file(options.env_file)), event)
    print(invocation.log, end="", file=sys.stderr)
    print(invocation.payload.decode())
    return 1 if invocation.is_error else 0


if __name__ == "__main__":
    sys.exit(main())

"""
Run one function once: `python -m local.invoke get_status events/http.account.json`.

For the developer at work on one function. Without a `.env` it starts the local cloud for it, with a user who has the
Starter pack, and gives the sample a real token and fresh signatures; the answer is what that user would get. With a
`.env` the function runs alone against the services named there, and the event goes in as it is. The log goes to
standard error, the answer to standard output.
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

from local.client import UserClient
from local.environment import Invocation, Sandbox
from local.interpreter import source_interpreter
from local.intrinsics import load
from local.reaper import Reaper
from local.runtime import Function
from local.samples import freshened
from local.stack import Stack
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


def _read(path: Path) -> Template:
    """Read a template; parameters without a default stay empty, `.env` or the stack says what they are."""
    declared = load(path).get("Parameters", {})
    return read_template(path, {name: "" for name, p in declared.items() if "Default" not in p})


def invoke_in_stack(template: Path, logical_id: str, event: Any) -> Invocation:
    """Run a function in a local cloud of its own, for a user with credits, and return how it went."""
    with (
        Stack(template=template, run_schedules=False) as stack,
        UserClient(stack.url, stack.supabase.url, stack.supabase.publishable_key) as user,
    ):
        token = user.sign_up("invoke@example.com", "correct horse battery staple")
        user.buy(pack_id="starter")
        return stack.cloud.invoke(logical_id, freshened(event, stack, token))


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
        spec = find_function(_read(options.template), options.function)
    except (OSError, ValueError, KeyError, TemplateError) as error:
        print(f"error: {error.args[-1] if error.args else error}", file=sys.stderr)
        return 2
    env_file = read_env_file(options.env_file)
    invocation = (
        invoke_once(with_local_environment(spec, env_file), event)
        if env_file
        else invoke_in_stack(options.template, spec.logical_id, event)
    )
    print(invocation.log, end="", file=sys.stderr)
    print(invocation.payload.decode())
    return 1 if invocation.is_error else 0


if __name__ == "__main__":
    sys.exit(main())

"""
How a function's process is started: which Python, which code on its path, which environment variables.

A function must see here what Lambda would give it and nothing more. So the environment is built from scratch, and a
built artifact runs on the bare interpreter without the project's virtualenv: a dependency that is missing from the
layer is missing here as well.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from local.template import ACCOUNT, REGION, FunctionSpec

Client = Literal["awslambdaric", "bootstrap"]

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")

# All that leaks in from the owner: where programs are, and whom to trust over TLS.
INHERITED = (
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "AWS_CA_BUNDLE",
)


@dataclass(frozen=True)
class Interpreter:
    """The start of a function's command line, and code that every function gets after its own."""

    argv: tuple[str, ...]
    path: tuple[Path, ...] = ()
    writes_bytecode: bool = True

    def command(self, spec: FunctionSpec) -> list[str]:
        """Return the command line that runs `spec`."""
        return [*self.argv, spec.handler]

    def environment(self, spec: FunctionSpec, runtime_api: str, scratch: Path) -> dict[str, str]:
        """Return the whole environment of one process of `spec`; `scratch` is its `/tmp`."""
        path = [spec.code, *(_importable(layer) for layer in spec.layers), *self.path]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        logging = {
            "AWS_LAMBDA_LOG_FORMAT": spec.log_format,
            "AWS_LAMBDA_LOG_LEVEL": spec.log_level,
        }
        today = datetime.now(UTC)
        return {
            **inherited,
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            **spec.environment,
            **{name: value for name, value in logging.items() if value},
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in path),
            **({} if self.writes_bytecode else {"PYTHONDONTWRITEBYTECODE": "1"}),
            "TMPDIR": str(scratch),
            "_HANDLER": spec.handler,
            "LAMBDA_TASK_ROOT": str(spec.code),
            "LAMBDA_RUNTIME_DIR": str(self.path[-1] if self.path else spec.code),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_LAMBDA_FUNCTION_NAME": spec.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{spec.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"{today:%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}",
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
        }


def function_arn(spec: FunctionSpec) -> str:
    """Return the ARN a function is invoked by."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{spec.name}"


def default_client() -> Client:
    """Return AWS's own runtime interface client where it is installed (Linux), else this project's bootstrap."""
    return "awslambdaric" if importlib.util.find_spec("awslambdaric") else "bootstrap"


def source_interpreter(client: Client | None = None) -> Interpreter:
    """Return the interpreter that runs functions from their source, with the packages of this virtualenv."""
    return Interpreter((sys.executable, "-s", *_client(client or default_client())))


def artifact_interpreter(runtime: Path, client: Client | None = None) -> Interpreter:
    """
    Return the interpreter that runs `sam build`'s output.

    It has no site-packages at all (`-S`): only the function, its layers and `runtime`, a directory of what Lambda
    itself provides. See `link_runtime`.
    """
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return Interpreter(
        (str(python), "-s", "-S", *_client(client or default_client())),
        path=(runtime,),
        writes_bytecode=False,  # an artifact stays as it was built
    )


def link_runtime(directory: Path) -> Path:
    """
    Fill `directory` with links to the installed `awslambdaric` and what it needs, and return it.

    Empty where `awslambdaric` is not installed: this project's bootstrap needs nothing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    waiting, seen = ["awslambdaric"], set[str]()
    while waiting and default_client() == "awslambdaric":
        distribution = importlib.metadata.distribution(waiting.pop())
        seen.add(distribution.name)
        names = [re.match(r"[\w.-]+", need) for need in distribution.requires or []]
        waiting += [name[0] for name in names if name and name[0] not in seen]
        for top in {file.parts[0] for file in distribution.files or []}:
            source = Path(str(distribution.locate_file(top)))
            if top not in ("..", "__pycache__") and not (directory / top).exists():
                (directory / top).symlink_to(source)
    return directory


def _client(client: Client) -> tuple[str, ...]:
    # -P: the bootstrap's own folder is no place for a function to import from.
    return ("-m", "awslambdaric") if client == "awslambdaric" else ("-P", str(BOOTSTRAP))


def _importable(layer: Path) -> Path:
    """Return the folder of a layer that is on the path: `python/` once built, the source itself before."""
    return layer / "python" if (layer / "python").is_dir() else layer

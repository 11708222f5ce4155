"""
The whole product on one machine: PostgreSQL, the stand-ins and the functions, wired to each other.

    with Stack() as stack:
        httpx.get(f"{stack.url}/catalog")

Nothing outside this module knows which stand-in takes the place of what: the functions get addresses and secrets
through the parameters of `template.yaml`, as they would in AWS.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from local.cloud import Cloud
from local.database import ROOT, create_database, migrate
from local.postgres import PostgresServer, local_postgres
from local.reaper import Reaper
from local.standins.babysea import BabySea
from local.standins.stripe import Stripe
from local.standins.supabase import Supabase
from local.standins.upstash import Upstash

DATABASE = "holdfast"
FRONTEND_URL = "http://localhost:8000"

Progress = Callable[[str], None]


class Stack:
    """
    One local product; use as a context manager.

    `secrets` are made anew for each run. `parameters` override those of the template, `cloud` goes to `Cloud` as it
    is. `server` lends a PostgreSQL that is running already (the tests share one); its database `database` must be
    migrated. `seed` makes faults with a probability repeatable.
    """

    postgres: PostgresServer
    supabase: Supabase
    stripe: Stripe
    babysea: BabySea
    upstash: Upstash
    cloud: Cloud

    def __init__(
        self,
        *,
        parameters: Mapping[str, str] | None = None,
        template: Path = ROOT / "template.yaml",
        server: PostgresServer | None = None,
        database: str = DATABASE,
        durable: bool = False,
        seed: int = 0,
        progress: Progress | None = None,
        **cloud: Any,
    ) -> None:
        self.database = database
        self.secrets = {
            "STRIPE_API_KEY": f"sk_test_{secrets.token_hex(16)}",
            "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
            "BABYSEA_API_KEY": f"bye_{secrets.token_hex(16)}",
            "BABYSEA_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
            "UPSTASH_REDIS_REST_TOKEN": secrets.token_hex(16),
        }
        self._parameters = dict(parameters or {})
        self._template = template
        self._server = server
        self._durable = durable
        self._seed = seed
        self._tell = progress or (lambda _step: None)
        self._cloud_options = cloud
        self._cleanup = ExitStack()

    @property
    def url(self) -> str:
        """The HTTP API's base URL."""
        return self.cloud.url

    @property
    def admin_database_url(self) -> str:
        """The superuser's URL of the product's database: for audits and for making trouble."""
        return self.postgres.url("supabase_admin", self.database)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self) -> None:
        self._tell("PostgreSQL")
        self.postgres = self._server or self._cleanup.enter_context(
            local_postgres(durable=self._durable)
        )
        if self._server is None:
            self._tell("migrations")
            create_database(self.postgres, self.database)
            migrate(self.postgres.url("postgres", self.database))

        self._tell("Supabase, Stripe, BabySea, Upstash")
        self._start_stand_ins()
        self.cloud = Cloud(self._template, **self._cloud_options)
        self._connect()
        self._cleanup.callback(self.cloud.stop)
        self.cloud.start(self._tell)
        self._tell("the catalogue")
        self._publish_catalog()

    def _start_stand_ins(self) -> None:
        files = Path(tempfile.mkdtemp(prefix="holdfast-files-"))
        self._cleanup.callback(Reaper(files).close)
        enter = self._cleanup.enter_context
        self.supabase = enter(Supabase(self.admin_database_url, files))
        known = self.secrets
        self.stripe = enter(Stripe(known["STRIPE_API_KEY"], None, known["STRIPE_WEBHOOK_SECRET"]))
        self.babysea = enter(
            BabySea(
                known["BABYSEA_API_KEY"],
                None,
                known["BABYSEA_WEBHOOK_SECRET"],
                balance=Decimal(1000),
                seed=self._seed,
            )
        )
        self.upstash = enter(Upstash(known["UPSTASH_REDIS_REST_TOKEN"]))

    def _publish_catalog(self) -> None:
        """Let Stripe have products and prices, as an operator would, and tell the product of them by its webhook."""
        subprocess.run(
            [sys.executable, "-m", "tools.stripe_catalog", "--yes"],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers/shared")]),
                "STRIPE_API_KEY": self.secrets["STRIPE_API_KEY"],
                "STRIPE_API_BASE": self.stripe.url,
            },
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.stripe.drain(60)

    def _connect(self) -> None:
        self.cloud.parameters |= {
            "Stage": "local",
            "SupabaseUrl": self.supabase.url,
            "FrontendUrl": FRONTEND_URL,
            "StripeApiBase": self.stripe.url,
            "BabyseaBaseUrl": self.babysea.url,
            "OutputOrigins": self.babysea.url,
            "UpstashRedisRestUrl": self.upstash.url,
            **self._parameters,
        }
        self.secrets |= {
            "DATABASE_URL": self.postgres.url("holdfast_backend", self.database),
            "SUPABASE_SECRET_KEY": self.supabase.secret_key,
        }
        self.cloud.secrets |= self.secrets
        self.stripe.webhook_url = f"{self.cloud.url}/webhooks/stripe"
        self.babysea.webhook_url = f"{self.cloud.url}/webhooks/babysea"

"""
`make demo`: the main job on this machine, as a user's client sees it.

Buys credits, subscribes and lets the plan renew, generates, settles, and looks; then lets a job fail, loses a callback,
delivers in part and refunds the pack. The last line of the output is one line of JSON; any surprise ends it with an
exit status of 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from local.client import Json, UserClient
from local.stack import Stack

DEFAULT_PROMPT = "a lighthouse at dusk, long exposure"
IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
PATIENCE_SECONDS = 60.0

console = Console(highlight=False)


class SurpriseError(Exception):
    """The demo saw something it should not have."""


class Demo:
    """The journey, step by step."""

    def __init__(self, stack: Stack, user: UserClient, folder: Path) -> None:
        self._stack = stack
        self._user = user
        self._folder = folder
        self._pack_session = ""
        self.outputs: list[str] = []

    def run(self, prompt: str, image: Path | None) -> None:
        """Take every step; raises `SurpriseError` or what the client raises."""
        self._sign_up()
        self._look_around()
        self._buy()
        self._subscribe()
        self._generate(prompt, image)
        self._fail()
        self._lose_a_callback()
        self._deliver_in_part()
        self._refund_the_pack()

    def _sign_up(self) -> None:
        _title("Sign up")
        self._user.sign_up("demo@example.com", "correct horse battery staple")
        _say("demo@example.com has an account and an access token")
        _expect("welcome credits", self._user.get("/account")["available"], "10.000")

    def _look_around(self) -> None:
        _title("Look at what there is")
        catalog = self._user.get("/catalog")
        offers = Table("to buy", "credits", "price", box=None, pad_edge=False)
        for pack in catalog["packs"]:
            offers.add_row(pack["id"], pack["credits"], _money(pack))
        for plan in catalog["plans"]:
            terms = [f"{_money(price)} a {price['interval']}" for price in plan["prices"]]
            offers.add_row(
                plan["id"], f"{plan['credits']} a month", " or ".join(terms) or "everybody's"
            )
        console.print(offers)
        models = Table("model", "kind", "price in credits", box=None, pad_edge=False)
        for model in self._user.get("/models")["models"]:
            prices = ", ".join(
                price if name == "default" else f"{name} {price}"
                for name, price in model["prices"].items()
            )
            models.add_row(model["id"], model["kind"], f"{prices} per {model['price_per']}")
        console.print(models)

    def _buy(self) -> None:
        _title("Buy the Starter pack")
        self._pack_session = self._user.buy(pack_id="starter")
        _say("paid on the pay page; waiting for Stripe's signed webhook")
        self._wait_for_balance(Decimal(20))

    def _subscribe(self) -> None:
        _title("Subscribe to Pro, and let a month pass")
        self._user.buy(plan_id="pro", interval="month")
        self._wait_for_balance(Decimal(50))
        self._wait_for(
            "plan", lambda: (self._user.get("/account")["plan"] or {}).get("plan_id"), "pro"
        )
        (subscription,) = self._stack.stripe.state.newest("subscription")
        self._stack.stripe.renew(subscription["id"])
        _say(
            "Stripe renews it: an invoice is paid, and its credits come with an expiry of their own"
        )
        self._wait_for_balance(Decimal(80))

    def _generate(self, prompt: str, image: Path | None) -> None:
        _title(f"Generate: {prompt!r}")
        request: Json = {"model": "bfl/flux-1.1-pro", "prompt": prompt}
        if image is not None:
            asset_id = self._user.upload(image, IMAGE_TYPES[image.suffix.lower()])
            _say(f"uploaded {image.name} as an input picture")
            request["input_asset_ids"] = [asset_id]
        generation = self._finish(request)
        _expect("status", generation["status"], "succeeded")
        _expect("charged", generation["charged_credits"], generation["cost_credits"])
        self._keep(generation, "picture")

    def _fail(self) -> None:
        _title("A job the provider fails is refunded")
        prompt = "a job that fails"
        self._stack.babysea.plan(prompt_contains=prompt, outcome="fail")
        generation = self._finish({"model": "bfl/flux-1.1-pro", "prompt": prompt})
        _expect("status", generation["status"], "failed")
        _expect("refunded", generation["refunded_credits"], generation["cost_credits"])

    def _lose_a_callback(self) -> None:
        _title("A lost callback is found by the sweep")
        prompt = "a job whose callbacks are lost"
        self._stack.babysea.plan(prompt_contains=prompt, webhook="drop")
        generation = self._finish({"model": "bfl/flux-schnell", "prompt": prompt})
        _expect("status", generation["status"], "succeeded")
        self._keep(generation, "recovered")

    def _deliver_in_part(self) -> None:
        _title("Three of four pictures are charged as three of four")
        model = next(
            model for model in self._user.get("/models")["models"] if model["output_count"] == 4
        )
        prompt = "a job that delivers in part"
        self._stack.babysea.plan(prompt_contains=prompt, deliver=3)
        generation = self._finish({"model": model["id"], "prompt": prompt})
        _expect("status", generation["status"], "succeeded")
        cost = Decimal(generation["cost_credits"])
        _expect("charged", generation["charged_credits"], f"{round(cost * 3 / 4, 3):.3f}")
        self._keep(generation, "partial")

    def _refund_the_pack(self) -> None:
        _title("The pack is refunded at Stripe, and its credits go back")
        before = Decimal(self._user.get("/account")["available"])
        stripe = self._stack.stripe
        session = stripe.state.get("checkout.session", self._pack_session)
        stripe.refund(session["payment_intent"])
        self._wait_for_balance(before - 10)

    def _wait_for_balance(self, expected: Decimal) -> None:
        self._wait_for(
            "available", lambda: self._user.get("/account")["available"], f"{expected:.3f}"
        )

    def _wait_for(self, what: str, read: Callable[[], Any], expected: str) -> None:
        """Wait for Stripe's webhook to take effect."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := read()) != expected:
            if time.monotonic() > end:
                raise SurpriseError(f"{what} stays {found}, not {expected}")
            time.sleep(0.1)
        _say(f"{what}: {found}")

    def _finish(self, request: Json) -> Json:
        accepted = self._user.generate(request)
        _say(f"reserved {accepted['cost_credits']}, {accepted['available_credits']} left")
        return self._user.follow(accepted["id"], PATIENCE_SECONDS, lambda state: _say(f"  {state}"))

    def _keep(self, generation: Json, name: str) -> None:
        """Download the outputs by their signed URLs."""
        for output in generation["outputs"]:
            data = self._user.download(output["url"])
            if len(data) != output["bytes"]:
                raise SurpriseError(f"{len(data)} bytes came, {output['bytes']} were promised")
            suffix = output["content_type"].rpartition("/")[2].replace("jpeg", "jpg")
            path = self._folder / f"{name}-{output['n']}.{suffix}"
            path.write_bytes(data)
            self.outputs.append(str(path))
            _say(f"saved {path}")


def _summary(stack: Stack, user: UserClient, outputs: list[str]) -> dict[str, Any]:
    """Show the ledger, audit it and return what the last line says."""
    _title("The ledger")
    entries = user.get("/account/ledger", limit=100)["entries"]
    table = Table("entry", "available", "reserved", "owed", "balance after", "for")
    for entry in reversed(entries):
        table.add_row(
            entry["type"],
            *(_signed(entry[f"{name}_delta"]) for name in ("available", "reserved", "owed")),
            entry["available_after"] or "",
            (entry["generation_id"] or "")[:8] or entry["description"],
        )
    console.print(table)
    with psycopg.connect(stack.admin_database_url) as admin:
        violations = admin.execute("select * from ledger.audit()").fetchall()
    _say(f"ledger.audit() finds {len(violations)} violations")
    account = user.get("/account")
    _expect("reserved", account["reserved"], "0.000")
    if violations:
        raise SurpriseError(f"the books are wrong: {violations}")
    return {
        "demo": "ok",
        "available": float(account["available"]),
        "reserved": float(account["reserved"]),
        "owed": float(account["owed"]),
        "entries": len(entries),
        "audit_violations": len(violations),
        "outputs": outputs,
    }


def _money(price: Json) -> str:
    return f"{price['amount_minor'] / 100:.2f} {price['currency'].upper()}"


def _signed(amount: str) -> str:
    return "" if Decimal(amount) == 0 else f"{Decimal(amount):+.3f}"


def _title(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _say(text: str) -> None:
    console.print(text, markup=False)


def _expect(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise SurpriseError(f"{what} is {found}, not {expected}")
    _say(f"{what}: {found}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--prompt", default=DEFAULT_PROMPT)
    parser.add_argument("--image", type=Path, help="an own picture as input")
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    options = parser.parse_args(arguments)
    if options.image is not None:
        if options.image.suffix.lower() not in IMAGE_TYPES:
            parser.error(f"--image: one of {', '.join(IMAGE_TYPES)}")
        if not options.image.is_file():
            parser.error(f"--image: {options.image} is no file")
    return options


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 0 when everything was as it should be."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _stop)
    started = time.monotonic()
    folder = options.output / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    _title("Starting the local cloud")
    stack = Stack(
        parameters={"SweepAfterSeconds": "2"},
        schedule_every=1,
        progress=lambda step: _say(f"{time.monotonic() - started:5.1f} s  {step}"),
    )
    try:
        with (
            stack,
            UserClient(stack.url, stack.supabase.url, stack.supabase.publishable_key) as user,
        ):
            demo = Demo(stack, user, folder)
            try:
                demo.run(options.prompt, options.image)
                summary = _summary(stack, user, demo.outputs)
            except (SurpriseError, httpx.HTTPError, TimeoutError, RuntimeError):
                (folder / "functions.log").write_text(stack.cloud.logs.text())
                raise
    except (SurpriseError, httpx.HTTPError, TimeoutError, RuntimeError) as error:
        console.print(f"\n[bold red]surprise:[/bold red] {error}", markup=True)
        _say(f"the functions' logs, if they ran, are in {folder}")
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    _say(f"\nthe pictures are in {folder}; everything that was started has been stopped")
    print(json.dumps(summary), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

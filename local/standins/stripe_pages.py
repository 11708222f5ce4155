"""What the hosted pages look like: the pay page of a session, and the billing portal."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from local.standins.server import Response
from local.standins.stripe_wire import Json

_ZERO_DECIMAL = "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
_STYLE = """
:root{color-scheme:light dark;--ink:#1a1f36;--soft:#697386;--line:#e3e8ee;--paper:#fff;--back:#f6f8fa;
--deed:#0570de}
@media(prefers-color-scheme:dark){:root{--ink:#f5f6f8;--soft:#a3acb9;--line:#343a46;--paper:#1b1f27;
--back:#12151b}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--back);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
main{width:min(26rem,92vw);margin:2rem 0;padding:2rem;background:var(--paper);border-radius:12px;
border:1px solid var(--line);box-shadow:0 12px 32px rgb(0 0 0/.08)}
h1{font-size:2.2rem;margin:.2rem 0 1rem}
p,small{color:var(--soft);margin:.25rem 0}
ul{list-style:none;margin:1rem 0;padding:0;border-top:1px solid var(--line)}
li{display:flex;justify-content:space-between;gap:1rem;padding:.6rem 0;border-bottom:1px solid var(--line)}
button{width:100%;padding:.75rem;margin-top:.6rem;border-radius:8px;border:1px solid var(--line);
background:none;color:inherit;font:inherit;font-weight:600;cursor:pointer}
button:hover,button:focus-visible{border-color:var(--deed)}
button.deed{background:var(--deed);border-color:var(--deed);color:#fff}
[role=alert]{padding:.6rem .8rem;border-radius:8px;background:#df1b411f;color:#df1b41}
"""


def money(amount: int, currency: str) -> str:
    """Return an amount in minor units as a payer reads it: `9.99 USD`."""
    digits = str(amount) if currency in _ZERO_DECIMAL else f"{amount // 100}.{amount % 100:02d}"
    return f"{digits} {currency.upper()}"


def pay_page(session: Json, lines: list[Json], alert: str = "") -> Response:
    """Return the page of an open session, with `alert` above its buttons."""
    rows = "".join(
        f"<li><span>{escape(line['description'])} &times; {line['quantity']}</span>"
        f"<span>{money(line['amount_total'], line['currency'])}</span></li>"
        for line in lines
    )
    total = money(session["amount_total"], session["currency"])
    buttons = [("pay", f"Pay {total}", "deed")]
    if session["amount_total"]:
        buttons += [("pay_delayed", "Pay with a delayed method", ""), ("decline", "Decline", "")]
    if session["cancel_url"]:
        buttons.append(("back", "Back", ""))
    controls = "".join(
        f'<button name="action" value="{action}" class="{style}">{escape(label)}</button>'
        for action, label, style in buttons
    )
    warning = f'<p role="alert">{escape(alert)}</p>' if alert else ""
    return _page(
        f"Pay {total}",
        f"<p>Total</p><h1>{total}</h1><ul>{rows}</ul>{warning}"
        f'<form method="post">{controls}</form>'
        "<small>Local stand-in for Stripe Checkout. No money moves.</small>",
    )


def portal_page(
    session: Json, plans: list[tuple[Json, list[Json]]], names: dict[str, str], alert: str = ""
) -> Response:
    """Return the portal: each subscription, with the prices it may change to."""
    warning = f'<p role="alert">{escape(alert)}</p>' if alert else ""
    plan = "".join(_subscription(of, prices, names) for of, prices in plans)
    back = '<button name="action" value="back">Back</button>' if session["return_url"] else ""
    return _page(
        "Billing portal",
        f"<h1>Your plan</h1>{warning}{plan or '<p>No subscription.</p>'}"
        f'<form method="post">{back}</form>'
        "<small>Local stand-in for Stripe's billing portal. No money moves.</small>",
    )


def _subscription(of: Json, prices: list[Json], names: dict[str, str]) -> str:
    item = of["items"]["data"][0]
    until = datetime.fromtimestamp(item["current_period_end"], UTC).date()
    ends = of["cancel_at_period_end"]
    deed, words = ("resume", "Keep the plan") if ends else ("cancel", "Cancel at the period's end")
    changes = "".join(
        f'<button name="price" value="{escape(price["id"])}">Change to {_price(price, names)}'
        "</button>"
        for price in prices
    )
    hidden = f'<input type="hidden" name="subscription" value="{escape(of["id"])}">'
    pay = '<button name="action" value="pay" class="deed">Pay what is open</button>'
    owes = of["status"] in ("past_due", "unpaid")
    return (
        f"<ul><li><span>{_price(item['price'], names)}</span><span>{escape(of['status'])}, "
        f"{'ends' if ends else 'renews'} {until}</span></li></ul>"
        f'<form method="post">{hidden}{pay if owes else ""}'
        f'<button name="action" value="{deed}">{words}</button></form>'
        f'<form method="post">{hidden}<input type="hidden" name="action" value="change">{changes}'
        "</form>"
    )


def _price(price: Json, names: dict[str, str]) -> str:
    amount = money(price["unit_amount"], price["currency"])
    name = escape(names.get(price["product"], "Plan"))
    return f"{name}, {amount} / {price['recurring']['interval']}"


def ended_page(session: Json) -> Response:
    """Return the page of a session that cannot be paid any more."""
    words = "is paid" if session["status"] == "complete" else "has expired"
    return _page("Checkout", f"<h1>All done here</h1><p>This checkout {words}.</p>")


def missing_page() -> Response:
    """Return the page for a session that never was."""
    response = _page("Checkout", "<h1>Not found</h1><p>There is no such checkout.</p>")
    response.status = 404
    return response


def redirect(url: str, session: Json) -> Response:
    """Send the payer to one of the session's own URLs, its placeholder filled in."""
    target = url.replace("{CHECKOUT_SESSION_ID}", session["id"])
    location = quote(target, safe=string.punctuation)  # a header is ASCII
    return Response(303, b"", {"location": location, "cache-control": "no-store"})


def _page(title: str, content: str) -> Response:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{content}</main></body></html>"
    )
    return Response(
        200,
        html.encode(),
        {
            "content-type": "text/html; charset=utf-8",
            "cache-control": "no-store",
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "frame-ancestors 'none'; base-uri 'none'",
            "referrer-policy": "no-referrer",
        },
    )

"""The day's figures for an operator, from the views `backend.report_*`."""

from __future__ import annotations

from typing import LiteralString

from psycopg.rows import tuple_row
from rich.console import Console

from tools.ops_text import Database, table

# title, names of the columns, query
_REPORTS: tuple[tuple[str, tuple[str, ...], LiteralString], ...] = (
    (
        "jobs by state",
        ("state", "kind", "jobs", "oldest", "newest"),
        "select status, kind, jobs, oldest, newest from backend.report_jobs",
    ),
    (
        "purchases today (UTC)",
        ("state", "currency", "purchases", "amount in minor units", "credits"),
        (
            "select status, currency, purchases, amount_minor::bigint, credits from backend.report_purchases"
            " where day = (ledger.clock() at time zone 'UTC')::date"
        ),
    ),
    (
        "failed jobs, 7 days",
        ("model", "error code", "jobs", "newest"),
        "select model, error_code, jobs, newest from backend.report_failures",
    ),
    (
        "revenue against provider cost in credits, 31 days",
        ("model", "jobs", "charged", "billed by provider", "margin"),
        (
            "select coalesce(model, 'all models'), sum(jobs)::bigint, sum(charged_credits),"
            " sum(provider_credits), sum(charged_credits) - sum(provider_credits)"
            " from backend.report_models group by rollup (model) having count(*) > 0"
            " order by grouping(model), sum(charged_credits) desc"
        ),
    ),
    (
        "refund rate by model, 31 days",
        ("model", "jobs", "refunded in part or whole", "credits refunded"),
        (
            "select model, jobs, round(100 * refund_rate, 1) || ' %', refunded_credits"
            " from backend.report_models order by refund_rate desc, model"
        ),
    ),
    (
        "oldest open reservation",
        ("reserved", "credits", "user", "reservation", "state", "sweeps"),
        (
            "select reserved_at, amount, user_id, reservation_id, status, attempts"
            " from backend.report_reservations order by reserved_at limit 1"
        ),
    ),
)


def show_reports(database: Database, console: Console) -> None:
    """Print one table each, or that there is nothing."""
    for title, names, query in _REPORTS:
        with database.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(query).fetchall()
        console.print(title if rows else f"{title}: nothing")
        if rows:
            console.print(table(names, rows))

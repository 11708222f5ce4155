"""
What an operator sees and does: what is stuck, accounts, reports.

    DATABASE_URL=postgresql://... python -m tools.ops
    ... --retry ID | --refund ID
    ... --adjust USER --credits N --reason R [--key K]
    ... --role ROLE --user-id USER --reason R [--key K]
    ... --welcome N --reason R [--key K]
    ... --report

A command says what it will do and asks before it does it. Run it as the owner of the database: the functions' role may
not. Exit status 1 when nothing was done.
"""

from __future__ import annotations

import argparse
import os
import sys
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from rich.console import Console

from tools import ops_accounts
from tools.ops_reports import show_reports
from tools.ops_stuck import act, show_intake, show_stuck
from tools.ops_text import Database, RefusedError


def main(arguments: list[str] | None = None, console: Console | None = None) -> int:
    """Show what was asked for, or do one thing; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    url = os.environ.get("DATABASE_URL")
    if not url:
        parser.error("set DATABASE_URL to the database of the product")
    console = console or Console(highlight=False)
    try:
        with psycopg.connect(
            url, autocommit=True, prepare_threshold=None, row_factory=dict_row
        ) as database:
            return _do(database, console, options)
    except RefusedError as refusal:
        console.print(*filter(None, (str(refusal), "nothing was done")), sep=": ", markup=False)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make ops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command = parser.add_mutually_exclusive_group()
    command.add_argument("--retry", metavar="ID", type=UUID)
    command.add_argument("--refund", metavar="ID", type=UUID)
    command.add_argument("--adjust", metavar="USER", help="give or take credits")
    command.add_argument("--role", help="give a user a role: user or admin")
    command.add_argument("--welcome", metavar="CREDITS", help="set the welcome gift")
    command.add_argument("--report", action="store_true", help="show the figures")
    parser.add_argument("--credits", default="", help="with --adjust; below zero to take")
    parser.add_argument("--user-id", default="", help="with --role")
    parser.add_argument("--reason", help="why; recorded")
    parser.add_argument("--key", help="under one key a change happens once")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _do(database: Database, console: Console, options: argparse.Namespace) -> int:
    if options.retry:
        return act(database, console, "retry", options.retry, yes=options.yes)
    if options.refund:
        return act(database, console, "refund", options.refund, yes=options.yes)
    change = _change(options)
    if change:
        entry = ops_accounts.entry(options.key, options.reason)
        return ops_accounts.apply(database, console, change, entry, yes=options.yes)
    if options.report:
        show_reports(database, console)
    else:
        show_intake(database, console)
        show_stuck(database, console)
    return 0


def _change(options: argparse.Namespace) -> ops_accounts.Change | None:
    if options.adjust is not None:
        return ops_accounts.adjustment(options.adjust, options.credits)
    if options.role is not None:
        return ops_accounts.role(options.role, options.user_id)
    return None if options.welcome is None else ops_accounts.welcome(options.welcome)


if __name__ == "__main__":
    sys.exit(main())

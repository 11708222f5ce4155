"""What the documents say of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast import errors, generations, ledger, purchases
from local.intrinsics import load
from local.template import read_template

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("events/*.md")])
MIGRATIONS = "\n".join(path.read_text() for path in ROOT.glob("sql/migrations/*.sql"))


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("|")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_that_is_named_exists(page: Path) -> None:
    """No page promises a `make` target that is not there."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"`(?:[A-Z]+=\S+ )?make ([a-z][a-z0-9-]*)", page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Relative links point at something."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_sql_function_that_is_named_exists(page: Path) -> None:
    """`ledger.x` and `backend.x` are functions, tables or schemas of the migrations."""
    named = set(re.findall(r"\b((?:ledger|backend)\.[a-z_]+)\b", page.read_text()))
    named -= {"ledger.json", "ledger.py", "ledger.md"}
    known = set(re.findall(r"create (?:table|function) ((?:ledger|backend)\.[a-z_]+)", MIGRATIONS))

    assert named - known == set()


def test_the_table_of_errors_is_complete() -> None:
    """Every code of the error classes has its row, with its status, and no row is left over."""
    classes = [errors.HoldfastError, *subclasses(errors.HoldfastError)]

    documented = {(row[0], row[1].strip("`")) for row in rows("docs/errors.md") if row[0].isdigit()}

    assert documented == {(str(int(kind.status)), kind.code) for kind in classes}


def test_the_table_of_sqlstates_is_complete() -> None:
    """Every private SQLSTATE of the migrations has its row."""
    raised = set(re.findall(r"errcode = '(HF\d{3})'", MIGRATIONS))

    assert {row[0].strip("`") for row in rows("docs/errors.md") if "`HF" in row[0]} == raised


def test_the_table_of_parameters_is_complete() -> None:
    """Every parameter of the template has its row."""
    parameters = set(load(ROOT / "template.yaml")["Parameters"])

    assert parameters == {
        row[0].strip("`") for row in rows("docs/operations.md") if row[0].strip("`") in parameters
    }


def test_every_alarm_has_something_to_do() -> None:
    """Whoever is woken finds the alarm's name."""
    alarms = {
        name
        for name, resource in load(ROOT / "template.yaml")["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm" and not name.endswith("ErrorAlarm")
    } | {"ServerErrorAlarm", "`<Function>ErrorAlarm`"}

    assert {
        row[0] for row in rows("docs/operations.md") if row[0].strip("`").endswith("Alarm")
    } == alarms


def test_the_readme_names_every_route() -> None:
    """The table of routes is the template's."""
    declared = load(ROOT / "template.yaml")["Parameters"]
    blank = {name: "" for name, value in declared.items() if "Default" not in value}
    routes = {
        f"{route.method} {route.path}"
        for function in read_template(ROOT / "template.yaml", blank).functions.values()
        for route in function.routes
    }

    assert set(re.findall(r"`((?:GET|POST) /[^`]*)`", (ROOT / "README.md").read_text())) == routes


@pytest.mark.parametrize("module", [ledger, generations, purchases], ids=lambda m: m.__name__)
def test_the_glossary_has_every_outcome(module: object) -> None:
    """Each named outcome is defined once for readers."""
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    outcomes = {
        str(member)
        for name, kind in vars(module).items()
        if name.endswith("Outcome")
        for member in kind
    }

    assert outcomes
    assert {outcome for outcome in outcomes if f"`{outcome}`" not in glossary} == set()


def subclasses(kind: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    """Return all classes below `kind`."""
    return [found for sub in kind.__subclasses__() for found in [sub, *subclasses(sub)]]

"""What the documents say of the code."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from holdfast import billing, errors, generations, ledger, recovery
from holdfast.output_copier import LostReason
from local.intrinsics import load
from local.template import read_template

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for places in ("*.md", "docs/**/*.md", "events/*.md", "sql/*.md")
    for page in ROOT.glob(places)
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
PRODUCT = "\n".join(path.read_text() for path in ROOT.glob("layers/shared/holdfast/**/*.py"))
MIGRATIONS = "\n".join(path.read_text() for path in ROOT.glob("sql/migrations/*.sql"))


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("|")
    ]


@each_page
def test_every_target_that_is_named_exists(page: Path) -> None:
    """No page promises a `make` target that is not there."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"`(?:[A-Z]+=\S+ )?make ([a-z][a-z0-9-]*)", page.read_text())) <= targets


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link points at a file, and what follows its `#` at a heading of that page."""
    links = re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text())

    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@each_page
def test_every_sql_function_that_is_named_exists(page: Path) -> None:
    """`ledger.x` and `backend.x` are functions, tables or schemas of the migrations."""
    named = set(re.findall(r"\b((?:ledger|backend)\.[a-z_]+)\b", page.read_text()))
    named -= {"ledger.json", "ledger.py", "ledger.md"}
    known = set(
        re.findall(r"create (?:table|function|view) ((?:ledger|backend)\.[a-z_]+)", MIGRATIONS)
    )

    assert named - known == set()


def test_the_table_of_errors_is_complete() -> None:
    """Every code of the error classes has its row, with its status, and no row is left over."""
    classes = subclasses(errors.HoldfastError)

    documented = {(row[0], row[1].strip("`")) for row in rows("docs/errors.md") if row[0].isdigit()}

    assert documented == {(str(int(kind.status)), kind.code) for kind in classes}


def test_the_table_of_sqlstates_is_complete() -> None:
    """Every private SQLSTATE of the migrations has its row."""
    raised = set(re.findall(r"errcode = '(HF\d{3})'", MIGRATIONS))

    assert {row[0].strip("`") for row in rows("docs/errors.md") if "`HF" in row[0]} == raised


def test_the_table_of_parameters_is_complete() -> None:
    """Every parameter of the template has its row."""
    parameters = set(load(ROOT / "template.yaml")["Parameters"])

    assert parameters == {row[0].strip("`") for row in table("docs/operations.md", "parameter")}


def test_the_defaults_of_parameters_are_the_templates() -> None:
    """A default that is written out is the one that is deployed."""
    parameters = load(ROOT / "template.yaml")["Parameters"]
    written = {
        row[0].strip("`"): row[1].strip("`")
        for row in table("docs/operations.md", "parameter")
        if row[1].startswith("`")
    }

    assert written == {name: str(parameters[name]["Default"]) for name in written}


def test_the_parameters_without_a_default_say_so() -> None:
    """Whoever deploys sees what must be named."""
    parameters = load(ROOT / "template.yaml")["Parameters"]

    assert {
        row[0].strip("`") for row in table("docs/operations.md", "parameter") if not row[1]
    } == {name for name, declared in parameters.items() if "Default" not in declared}


def test_the_secrets_of_each_function_are_the_templates() -> None:
    """The table of least privilege names the secrets that a function is told of."""
    everybody = {"database-url", "sentry-dsn"}
    told = {
        Path(resource["Properties"]["CodeUri"]).name: {
            name.removesuffix("_FROM").lower().replace("_", "-")
            for name in resource["Properties"]["Environment"]["Variables"]
            if name.endswith("_FROM")
        }
        for resource in load(ROOT / "template.yaml")["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }

    documented = {
        row[0]: set(re.findall(r"`([a-z-]+)`", row[1]))
        for row in table("docs/architecture.md", "function")
    }

    assert documented == {name: secrets - everybody for name, secrets in told.items()}


def test_every_secret_has_its_entry() -> None:
    """The entries to make are those that functions are told of."""
    named = set(re.findall(r"\$\{SecretsPrefix\}/([a-z-]+)", (ROOT / "template.yaml").read_text()))
    entries = {row[0].strip("`") for row in table("docs/operations.md", "entry")}

    assert entries == {name.removesuffix("-") for name in named}


def test_every_metric_is_listed() -> None:
    """Each counter has its name in the list; a name with an outcome in it by its prefix."""
    counted = set(re.findall(r'count\(f?"([A-Za-z.]+)', PRODUCT))
    listed = (ROOT / "docs" / "operations.md").read_text()

    assert counted
    assert {name for name in counted if f"`{name}" not in listed} == set()


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

    assert (
        set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`]*)`", (ROOT / "README.md").read_text()))
        == routes
    )


@pytest.mark.parametrize(
    "module", [ledger, generations, billing, recovery], ids=lambda m: m.__name__
)
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


def test_the_glossary_has_every_outcome_of_the_sql() -> None:
    """What a function's comment names as its outcomes is defined too."""
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    lists = re.findall(r"Outcomes: ([a-z_]+(?:, [a-z_]+)*)", MIGRATIONS)
    outcomes = {outcome for each in lists for outcome in each.split(", ")}

    assert outcomes
    assert {outcome for outcome in outcomes if f"`{outcome}`" not in glossary} == set()


def test_every_way_to_lose_an_output_is_documented() -> None:
    """A user who asks why an output is missing finds the code."""
    page = (ROOT / "docs" / "errors.md").read_text()

    assert {reason for reason in LostReason if f"`output_{reason}`" not in page} == set()


def table(page: str, head: str) -> list[list[str]]:
    """Return the rows of the table whose first column is called `head`."""
    lines = iter((ROOT / page).read_text().splitlines())
    next(line for line in lines if line.startswith(f"| {head} |"))
    next(lines)
    found = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def subclasses(kind: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    """Return `kind` and all classes below it."""
    return [kind, *(found for sub in kind.__subclasses__() for found in subclasses(sub))]


@pytest.mark.parametrize("page", ["features.md", "ledger.md", "reliability.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """A case is only as good as the test that shows it."""
    named = set(re.findall(r"`(test_[a-z_0-9]+)`", (ROOT / "docs" / page).read_text()))
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))

    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()

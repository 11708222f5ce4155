"""What the documents say of the code."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from holdfast import billing, errors, event_bus, generations, ledger, recovery
from holdfast.output_copier import LostReason
from local.intrinsics import load
from local.template import read_template

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for places in ("*.md", "[a-z]*/*.md", "docs/decisions/*.md", "clients/typescript/*.md")
    for page in ROOT.glob(places)
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
PRODUCT = "\n".join(path.read_text() for path in ROOT.glob("layers/shared/holdfast/**/*.py"))
MIGRATIONS = "\n".join(path.read_text() for path in ROOT.glob("sql/migrations/*.sql"))
SCHEMA = (ROOT / "sql" / "schema.sql").read_text()


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


def test_the_rings_are_those_of_the_import_linter() -> None:
    """Each row of the rings is one or more of the layers that are enforced, from the top, and none is missing."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [set(layer.split(" | ")) for layer in contracts["contracts"][0]["layers"]]

    for _, modules, _ in table("docs/architecture.md", "ring"):
        named = set(re.findall(r"`([a-z_]+)/?`", modules))
        while layers and layers[0] <= named:
            named -= layers.pop(0)
        assert named == set()
    assert layers == []


def test_the_flowchart_has_every_function() -> None:
    """Each Lambda is a part in the picture of the parts, and is connected with something."""
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    parts = dict(re.findall(r"^ +(\w+)\[(\w+)\]$", picture, re.MULTILINE))
    functions = {path.parent.name for path in ROOT.glob("functions/*/app.py")}

    assert functions <= set(parts.values())
    drawn = picture.split("end\n")[-1]
    assert {part for part in parts if not re.search(rf"\b{part}\b", drawn)} == set()


def test_the_domain_model_is_the_schema() -> None:
    """Every table is in the table of the domain model, so is every function for AWS, and all that is named exists."""
    tables = set(re.findall(r"^CREATE TABLE (\w+\.\w+) ", SCHEMA, re.MULTILINE))
    functions = set(re.findall(r'^CREATE FUNCTION (\w+\."?\w+"?)\(', SCHEMA, re.MULTILINE))
    called = set(re.findall(r'FUNCTION (\w+\."?\w+"?)\(.* TO holdfast_backend;', SCHEMA))
    named_tables: set[str] = set()
    named_functions: set[str] = set()

    for area, row_tables, row_functions in table("sql/README.md", "area"):
        schema = area.split("`")[1]
        for name in re.findall(r"`(\w+)`", row_tables):
            named_tables.add(f"{schema if f'{schema}.{name}' in tables else 'public'}.{name}")
        named_functions |= {f"{schema}.{name}" for name in re.findall(r"`(\w+)`", row_functions)}

    assert named_tables == tables
    assert named_functions <= {name.replace('"', "") for name in functions}
    assert {name.replace('"', "") for name in called} <= named_functions


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


def test_the_event_of_a_low_balance_is_what_is_sent() -> None:
    """Whoever subscribes by the page gets the events, with the fields that it shows."""
    page = (
        (ROOT / "docs" / "operations.md").read_text().split("### Who is told of a low balance")[1]
    )
    shown = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    pattern = json.loads(re.findall(r"--event-pattern '(.*)'", page)[0])
    sent = (ROOT / "layers" / "shared" / "holdfast" / "event_bus.py").read_text()
    detail = sent.split('"Detail"')[1].split("for alert")[0]

    assert (shown["source"], shown["detail-type"]) == (event_bus.SOURCE, event_bus.LOW_BALANCE)
    assert list(shown["detail"]) == re.findall(r'"(\w+)":', detail)
    assert pattern == {name: [shown[name]] for name in ("source", "detail-type")}


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


def test_the_readme_says_where_everything_is() -> None:
    """Each path of the list exists, and each folder, and each ring of the tests, is in the list."""
    readme = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    named = re.findall(r"^(\S+)  ", readme, re.MULTILINE)
    ignored = (ROOT / ".gitignore").read_text().replace("/", "").split()
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and path.name[0] != "." and path.name not in ignored
    }
    rings = {path.parent.name for path in ROOT.glob("tests/*/test_*.py")}

    assert [path for path in named if not any(ROOT.glob(path.replace("<name>", "*")))] == []
    assert folders == {path.split("/")[0] for path in named if "/" in path}
    assert {ring for ring in rings if not re.search(rf"\b{ring}\b", readme)} == set()


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


def test_every_feature_has_a_way_a_place_and_a_test() -> None:
    """No cell of the features is empty, and each names a test."""
    features = table("docs/features.md", "feature")

    assert [row[0] for row in features if len(row) != 4 or not all(row)] == []
    assert [row[0] for row in features if "`test_" not in row[3]] == []


def test_a_test_of_a_feature_is_found_by_its_name() -> None:
    """A name that two files have comes with its file, which has it."""
    files = {
        str(path.relative_to(ROOT)): path.read_text() for path in ROOT.glob("tests/**/test_*.py")
    }
    times = Counter(
        name for text in files.values() for name in set(re.findall(r"def (test_\w+)\(", text))
    )
    cited = re.findall(
        r"(?:`(tests/\S+)` )?`(test_\w+)`", (ROOT / "docs" / "features.md").read_text()
    )

    assert {name for file, name in cited if not file and times[name] > 1} == set()
    assert {name for file, name in cited if file and f"def {name}(" not in files[file]} == set()


@each_page
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """A case is only as good as the test that shows it: tests, their files and their rings are where a page says."""
    files = sorted(ROOT.glob("tests/**/test_*.py"))
    code = "\n".join(file.read_text() for file in files)
    named = set(re.findall(r"`(test_\w+(?:\.py)?)", page.read_text()))
    paths = set(re.findall(r"\btests/[\w/.]*\w", page.read_text()))

    assert named or page.name not in ("features.md", "ledger.md", "reliability.md")
    named -= {file.name for file in files}
    assert {name for name in named if f"def {name}(" not in code} == set()
    assert {path for path in paths if not (ROOT / path).exists()} == set()

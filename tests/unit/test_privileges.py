"""
The SQL functions of docs/architecture.md's table of least privilege, read out of the code.

Each `app.py` is followed into the methods of what it builds. An object's class is known from the annotation of the
parameter that brings it, or from the call that makes it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

import pytest

from tests.unit.test_documentation import ROOT, table

LAYER = [
    node
    for path in (ROOT / "layers" / "shared" / "holdfast").rglob("*.py")
    for node in ast.parse(path.read_text()).body
]
PLAIN = [node for node in LAYER if isinstance(node, ast.FunctionDef)]
CLASSES = {node.name: node for node in LAYER if isinstance(node, ast.ClassDef)}
ROWS = {row[0]: row[3] for row in table("docs/architecture.md", "function")}
_SQL = re.compile(r"\b(?:ledger|backend)\.[a-z_]+(?=\()")

Place = tuple[ast.ClassDef | None, ast.AST]


@pytest.mark.parametrize("function", sorted(ROWS))
def test_the_sql_functions_are_those_that_the_code_calls(function: str) -> None:
    """A row names what its function can call, and nothing else."""
    named = set(re.findall(r"`([a-z_.]+)`", ROWS[function]))
    for other in re.findall(r"those of (\w+)", ROWS[function]):
        named |= set(re.findall(r"`([a-z_.]+)`", ROWS[other]))

    assert named == called_by(function)


def test_what_no_function_calls_is_for_other_jobs() -> None:
    """A SQL function that the layer names is called by a Lambda, or belongs to the ledger's client."""
    called = set.union(*(called_by(function) for function in ROWS))

    assert set.union(*map(sql, LAYER)) - called <= sql(CLASSES["LedgerClient"])


def test_every_function_has_its_row() -> None:
    """The table is about each Lambda."""
    assert set(ROWS) == {path.parent.name for path in ROOT.glob("functions/*/app.py")}


@functools.cache
def called_by(function: str) -> set[str]:
    """Return the SQL functions that a Lambda's `app.py` leads to."""
    app = ast.parse((ROOT / "functions" / function / "app.py").read_text())
    variables = built(app)
    places: list[Place] = [(None, app)]
    for owner, scope in places:  # grows meanwhile
        places += [place for place in reached(owner, scope, variables) if place not in places]
    return set.union(*(sql(scope) for _, scope in places))


def reached(
    owner: ast.ClassDef | None, scope: ast.AST, known: dict[str, ast.expr]
) -> Iterator[Place]:
    """Yield the functions, constructors and methods that are mentioned in `scope`."""
    parts = {
        name: made for init in methods(owner, "__init__") for name, made in built(init).items()
    }
    known = known | annotated(scope)
    for node in ast.walk(scope):
        match node:
            case ast.Name(id=name):
                yield from ((None, each) for each in PLAIN if each.name == name)
                kinds, name = {name}, "__init__"
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if owner:
                kinds = {owner.name}
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id="self"), attr=part), attr=name
            ):
                kinds = names(parts.get(part))
            case ast.Attribute(value=ast.Name(id=variable), attr=name):
                kinds = {variable} | names(known.get(variable))
            case _:
                continue
        for kind in kinds & CLASSES.keys():
            yield from ((CLASSES[kind], method) for method in methods(CLASSES[kind], name))


def methods(owner: ast.ClassDef | None, name: str) -> list[ast.FunctionDef]:
    """Return the methods of that name."""
    body = owner.body if owner else []
    return [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]


def annotated(scope: ast.AST) -> dict[str, ast.expr]:
    """Return the annotation of each parameter."""
    found = (node for node in ast.walk(scope) if isinstance(node, ast.arg))
    return {node.arg: node.annotation for node in found if node.annotation}


def built(scope: ast.AST) -> dict[str, ast.expr]:
    """Return what each variable, and attribute of `self`, is made of, with annotations for parameters."""
    parameters = annotated(scope)
    found: dict[str, ast.expr] = {}
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)], value=made):
                while isinstance(made, ast.Call | ast.Attribute):  # Some(…), Some.from_settings(…)
                    made = made.func if isinstance(made, ast.Call) else made.value
                found[name] = parameters.get(made.id, made) if isinstance(made, ast.Name) else made
            case _:
                pass
    return found


def names(kind: ast.expr | None) -> set[str]:
    """Return the names in an annotation."""
    return {node.id for node in ast.walk(kind) if isinstance(node, ast.Name)} if kind else set()


def sql(scope: ast.AST) -> set[str]:
    """Return the SQL functions that are written in `scope`."""
    texts = (node.value for node in ast.walk(scope) if isinstance(node, ast.Constant))
    return {name for text in texts if isinstance(text, str) for name in _SQL.findall(text)}

"""
Read out of the code itself which errors a route can answer with.

A route's function is followed into everything it calls inside the layer. The functions' modules build their parts when
they are loaded, so most names lead to a living object and its class; what an `except` takes back is taken back here
too. Nothing is called. The result may name an error too many, where a condition can never hold, but none too few:
`tests/e2e` compares every answer with it.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any, get_type_hints

from holdfast import http
from holdfast.errors import HoldfastError


@dataclass(frozen=True)
class Refusal:
    """
    One place that makes an error.

    `detail` is its text, with `{name}` for what is only known when it runs; `members` are the further members that it
    sends; `waits` says that it may send `Retry-After`, `fields` that it goes field by field.
    """

    error: type[HoldfastError]
    detail: str | None = None
    members: frozenset[str] = frozenset()
    waits: bool = False
    fields: bool = False


Refusals = frozenset[Refusal]
NONE: Refusals = frozenset()
_UNKNOWN = object()
_COMPUTED = (property, functools.cached_property)


def refusals(
    route: Callable[..., Any], app: ModuleType, *, is_public: bool, is_validated: bool
) -> Refusals:
    """Return what a route of a function's module `app` can be refused with, a bug of ours included."""
    reader = _Reader()
    found = reader.of(route) | reader.of(http._check_readable)  # noqa: SLF001 - stands before every route
    if is_validated:
        found |= reader.of(http._explain)  # noqa: SLF001 - what Powertools finds wrong with the input
    if not is_public:
        found |= reader.of(app.verifier.verify)
    return found | {Refusal(HoldfastError)}


class _Reader:
    """Follow calls; each function with the same bindings is read once."""

    def __init__(self) -> None:
        self._read: dict[object, Refusals] = {}
        self._kept: list[object] = []  # an id is only unique among the living

    def of(
        self,
        function: Callable[..., Any],
        arguments: Sequence[object] = (),
        keywords: Mapping[str, object] | None = None,
    ) -> Refusals:
        """Return what a call can raise or give back."""
        plain, owner = _unwrapped(function)
        if plain is None or not _is_ours(plain):
            return NONE
        bound = _bound(plain, [*([] if owner is None else [owner]), *arguments], keywords or {})
        key = (plain, tuple(sorted((name, id(value)) for name, value in bound.items())))
        if key not in self._read:
            self._read[key] = NONE  # it may call itself
            self._kept.append(bound)
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(plain))).body
            self._read[key] = _Body(self, plain, bound).of(_statements(definition))
        return self._read[key]


class _Body:
    """One function's statements, with what its names mean."""

    def __init__(self, reader: _Reader, function: FunctionType, bound: dict[str, object]) -> None:
        self._reader = reader
        self._bound = dict(bound)
        self._local = set(function.__code__.co_varnames) | set(function.__code__.co_cellvars)
        self._global = vars(builtins) | function.__globals__
        if function.__closure__:
            names = function.__code__.co_freevars
            cells = (cell.cell_contents for cell in function.__closure__)
            self._global |= dict(zip(names, cells, strict=True))
        self._hints = _hints(function)
        self._caught: list[tuple[str | None, Refusals]] = []

    def of(self, nodes: Iterable[ast.AST]) -> Refusals:
        return NONE.union(*(self._node(node) for node in nodes))

    def _node(self, node: ast.AST) -> Refusals:
        match node:
            case ast.Try():
                return self._try(node)
            case ast.Raise():
                return self._raise(node)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._bound[name] = self._meaning(value)
                return self._node(value)
            case ast.Call():
                return self._call(node)
            case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
                return self._mentioned(node)
            case _:
                return self.of(ast.iter_child_nodes(node))

    def _raise(self, node: ast.Raise) -> Refusals:
        """Return what is raised again, what `raise Name` makes, or what the expression leads to."""
        if self._caught and (node.exc is None or ast.unparse(node.exc) == self._caught[-1][0]):
            return self._caught[-1][1]
        meant = self._meaning(node.exc) if node.exc else _UNKNOWN
        if isinstance(meant, type) and issubclass(meant, HoldfastError):
            return frozenset({Refusal(meant)})
        return self.of(ast.iter_child_nodes(node))

    def _try(self, node: ast.Try) -> Refusals:
        escaping = self.of(node.body)
        handled = NONE
        for clause in node.handlers:
            kinds = self._kinds(clause.type)
            caught = frozenset(found for found in escaping if issubclass(found.error, kinds))
            escaping -= caught
            self._caught.append((clause.name, caught))
            handled |= self.of(clause.body)
            self._caught.pop()
        return escaping | handled | self.of([*node.orelse, *node.finalbody])

    def _kinds(self, clause: ast.expr | None) -> tuple[type[BaseException], ...]:
        if clause is None:
            return (BaseException,)
        parts = clause.elts if isinstance(clause, ast.Tuple) else [clause]
        meant = [self._meaning(part) for part in parts]
        return tuple(
            kind for kind in meant if isinstance(kind, type) and issubclass(kind, BaseException)
        )

    def _call(self, node: ast.Call) -> Refusals:
        inside = self.of([*node.args, *(keyword.value for keyword in node.keywords)])
        if not isinstance(node.func, ast.Name):
            inside |= self.of(ast.iter_child_nodes(node.func))
        meant = self._meaning(node.func)
        if isinstance(meant, type) and issubclass(meant, HoldfastError):
            return inside | {self._made(meant, node)}
        if not callable(meant):
            return inside
        keywords = {
            keyword.arg: self._meaning(keyword.value) for keyword in node.keywords if keyword.arg
        }
        return inside | self._reader.of(
            meant, [self._meaning(part) for part in node.args], keywords
        )

    def _mentioned(self, node: ast.expr) -> Refusals:
        """Follow a function that is handed on, and a property."""
        inside = self.of(ast.iter_child_nodes(node))
        meant = self._meaning(node)
        if isinstance(meant, _COMPUTED) and isinstance(node, ast.Attribute):
            getter = meant.fget if isinstance(meant, property) else meant.func
            return inside | (
                self._reader.of(getter, [self._meaning(node.value)]) if getter else NONE
            )
        if isinstance(meant, FunctionType | MethodType | functools.partial):
            return inside | self._reader.of(meant)
        return inside

    def _meaning(self, node: ast.expr) -> object:
        """Return the object that an expression stands for, `_Some` of its class, or `_UNKNOWN`; calls nothing."""
        match node:
            case ast.Name(id=name):
                return self._named(name)
            case ast.Attribute(value=value, attr=name):
                return _attribute(self._meaning(value), name)
            case ast.Call(func=func):
                made = self._meaning(func)
                plain, _ = _unwrapped(made)
                return _some(_hints(plain).get("return") if plain else made)
            case _:
                return _UNKNOWN

    def _named(self, name: str) -> object:
        if name in self._bound:
            return self._bound[name]
        if name in self._local:
            return _some(self._hints.get(name))
        return self._global.get(name, _UNKNOWN)

    def _made(self, error: type[HoldfastError], node: ast.Call) -> Refusal:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        return Refusal(
            error,
            detail=self._text(node.args[0]) if node.args else None,
            members=frozenset(self._keys(given["members"])) if "members" in given else frozenset(),
            waits="retry_after" in given,
            fields="fields" in given,
        )

    def _text(self, node: ast.expr) -> str | None:
        """Return a text; what is only known when it runs stands in it as `{name}`."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if not isinstance(node, ast.JoinedStr):
            meant = self._meaning(node)
            return meant if isinstance(meant, str) else None
        parts = []
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            known = inner.value if isinstance(inner, ast.Constant) else self._meaning(inner)
            name = inner.attr if isinstance(inner, ast.Attribute) else ast.unparse(inner)
            parts.append(str(known) if isinstance(known, str | int) else f"{{{name}}}")
        return "".join(parts)

    def _keys(self, node: ast.expr) -> Iterable[str]:
        """Return the keys of a dict that is written out, here or in the function that returns it."""
        if isinstance(node, ast.Call):
            plain, _ = _unwrapped(self._meaning(node.func))
            source = inspect.getsource(plain) if plain else ""
            dicts = [part for part in ast.walk(ast.parse(source)) if isinstance(part, ast.Dict)]
        else:
            dicts = [node] if isinstance(node, ast.Dict) else []
        for part in dicts:
            yield from (str(key.value) for key in part.keys if isinstance(key, ast.Constant))


@dataclass(frozen=True)
class _Some:
    """An object of which only the class is known."""

    kind: type


def _some(kind: object) -> object:
    return _Some(kind) if isinstance(kind, type) else _UNKNOWN


def _attribute(owner: object, name: str) -> object:
    """Return an attribute without running a property."""
    kind = owner.kind if isinstance(owner, _Some) else type(owner)
    declared = inspect.getattr_static(kind, name, _UNKNOWN)
    if isinstance(declared, _COMPUTED):
        return declared
    if not isinstance(owner, _Some):
        return getattr(owner, name, _UNKNOWN)
    return MethodType(declared, owner) if isinstance(declared, FunctionType) else _UNKNOWN


def _hints(function: FunctionType) -> dict[str, object]:
    """Return the types of parameters and of what is returned, as far as they can be found at run time."""
    try:
        return dict(get_type_hints(function))
    except NameError:  # named for the type checker only
        return {}


def _unwrapped(function: object) -> tuple[FunctionType | None, object | None]:
    """Return the plain function, and the object it is bound to."""
    owner: object | None = None
    while not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            owner = function.__self__
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            return None, None
    return function, owner


def _is_ours(function: FunctionType) -> bool:
    top, _, _ = function.__module__.partition(".")
    return top in ("holdfast", "functions") and function.__name__ != "<lambda>"


def _statements(definition: ast.stmt) -> list[ast.stmt]:
    return definition.body if isinstance(definition, ast.FunctionDef) else []


def _bound(
    function: FunctionType, arguments: Sequence[object], keywords: Mapping[str, object]
) -> dict[str, object]:
    """Return which parameters are known objects."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    found = dict(zip(names, arguments, strict=False)) | dict(keywords)
    return {name: value for name, value in found.items() if value is not _UNKNOWN}

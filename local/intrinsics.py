"""
CloudFormation's intrinsic functions, enough of them to know what a template says about its functions.

The local cloud reads the very `template.yaml` that is deployed, so that a route, a variable or a timeout cannot differ
between the two. What this module does not know it refuses, loudly: a guess would hide a difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REGION = "eu-central-1"
ACCOUNT = "123456789012"
PARTITION = "aws"

_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": PARTITION,
    "AWS::Region": REGION,
    "AWS::StackName": "local",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()
_SUBSTITUTE = re.compile(r"\$\{(!?)([^}]+)\}")


class TemplateError(Exception):
    """The template says something that is wrong, or that the local cloud does not understand."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (`!Ref x`)."""


def _short_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _short_form)


def load(path: Path) -> dict[str, Any]:
    """Return the template at `path` with its intrinsic functions in long form. Raises `TemplateError`."""
    try:
        template = yaml.load(path.read_text(), _Loader)
    except yaml.YAMLError as error:
        raise TemplateError(f"{path} is no YAML: {error}") from error
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise TemplateError(f"{path} has no Resources")
    return template


class Resolver:
    """
    Evaluates intrinsic functions against parameter values.

    `attributes` says what `Ref` ("Name") and `GetAtt` ("Name.Attribute") of resources give; a resource that is not in
    it is known by its logical id, and by an ARN made from it. Raises `TemplateError` for an unknown or unset
    parameter.
    """

    def __init__(
        self,
        template: dict[str, Any],
        parameters: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self._resources: dict[str, Any] = template["Resources"]
        self._conditions: dict[str, Any] = template.get("Conditions", {})
        self._mappings: dict[str, Any] = template.get("Mappings", {})
        self._attributes = dict(attributes or {})
        self.parameters = self._parameters(template.get("Parameters", {}), dict(parameters or {}))

    def __call__(self, value: Any) -> Any:
        """Return `value` with every intrinsic function in it replaced by its result."""
        resolved = self._resolve(value)
        return None if resolved is _NO_VALUE else resolved

    def condition(self, name: str) -> bool:
        """Return whether the template's condition `name` holds."""
        if name not in self._conditions:
            raise TemplateError(f"there is no condition {name}")
        return bool(self._resolve(self._conditions[name]))

    @staticmethod
    def _parameters(declared: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
        if unknown := given.keys() - declared.keys():
            raise TemplateError(f"the template has no parameter {', '.join(sorted(unknown))}")
        values: dict[str, Any] = {}
        for name, declaration in declared.items():
            value = given.get(name, declaration.get("Default"))
            if value is None:
                continue  # an error only if somebody asks for it
            text = to_text(value)
            allowed = declaration.get("AllowedValues")
            if allowed and text not in [to_text(item) for item in allowed]:
                raise TemplateError(f"{name} must be one of {allowed}")
            is_list = declaration.get("Type") == "CommaDelimitedList"
            values[name] = [item.strip() for item in text.split(",")] if is_list else text
        return values

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            items = [self._resolve(item) for item in value]
            return [item for item in items if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in ("Ref", "Condition") and isinstance(argument, str):
                return self._ref(argument) if name == "Ref" else self.condition(argument)
            if isinstance(name, str) and name.startswith("Fn::"):
                return self._function(name, argument)
        pairs = {key: self._resolve(item) for key, item in value.items()}
        return {key: item for key, item in pairs.items() if item is not _NO_VALUE}

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Fn::GetAtt":
                parts = argument.split(".", 1) if isinstance(argument, str) else argument
                return self._attribute(*parts)
            case "Fn::Sub":
                return self._substitute(argument)
            case "Fn::Join":
                separator, items = argument
                return separator.join(to_text(item) for item in self._resolve(items))
            case "Fn::Split":
                separator, text = argument
                return self._resolve(text).split(separator)
            case "Fn::Select":
                index, items = argument
                return self._resolve(items)[int(self._resolve(index))]
            case "Fn::FindInMap":
                mapping, first, second = self._resolve(argument)
                return self._mappings[mapping][first][second]
            case "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self.condition(condition) else no)
            case "Fn::Equals":
                left, right = (self._resolve(item) for item in argument)
                return to_text(left) == to_text(right)
            case "Fn::Not":
                return not self._resolve(argument[0])
            case "Fn::And":
                return all(self._resolve(item) for item in argument)
            case "Fn::Or":
                return any(self._resolve(item) for item in argument)
        raise TemplateError(f"the local cloud does not know {name}")

    def _substitute(self, argument: Any) -> str:
        text, extra = argument if isinstance(argument, list) else (argument, {})

        def replace(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in extra:
                return to_text(self._resolve(extra[name]))
            return to_text(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))

        return _SUBSTITUTE.sub(replace, text)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        for known in (_PSEUDO_PARAMETERS, self._attributes, self.parameters):
            if name in known:
                return known[name]
        if name in self._resources:
            return name
        raise TemplateError(f"{name} is no resource, and no parameter with a value")

    def _attribute(self, name: str, attribute: str) -> str:
        if f"{name}.{attribute}" in self._attributes:
            return self._attributes[f"{name}.{attribute}"]
        if name not in self._resources:
            raise TemplateError(f"there is no resource {name}")
        if attribute != "Arn":
            raise TemplateError(f"the local cloud does not know {name}.{attribute}")
        service = self._resources[name]["Type"].split("::")[1].lower()
        return f"arn:{PARTITION}:{service}:{REGION}:{ACCOUNT}:{name}"


def to_text(value: Any) -> str:
    """Return a scalar as CloudFormation writes it: `true`, not `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Typed YAML configs with `key=value` overrides, shared by `vidtrack train` and `vidtrack pretrain`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pretrain.errors import InputError


class Config(BaseModel):
    """Base of every config: unknown keys are errors, and a value never changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=Config)


def find_config(name: str, bundled: Path) -> Path:
    """The file that `--config NAME` means: a path if it exists, else `bundled/NAME.yaml`.

    Raises:
        InputError: neither exists; the message lists the bundled names.
    """
    for path in (Path(name), bundled / f"{name}.yaml"):
        if path.is_file():
            return path
    names = sorted(p.relative_to(bundled).with_suffix("").as_posix() for p in bundled.rglob("*.yaml"))
    raise InputError(
        f"there is no config {name!r}: give the path of a YAML file or one of {', '.join(names)}."
    )


def load_config(schema: type[C], name: str, overrides: Iterable[str], bundled: Path) -> C:
    """Read a YAML config and apply `key=value` overrides (dots descend: `optimizer.steps=100`).

    Below a key that holds a mapping, `key.name=value` adds to it, also to its default where the file has no
    such key; `key={name: value}` replaces the whole.

    Args:
        schema: pydantic model of the whole config.
        name: bundled name such as `track/laptop`, or a path.
        overrides: strings `key=value`; the value is parsed as YAML.
        bundled: folder of the configs that come with the package.

    Raises:
        InputError: no such config, invalid YAML, an unknown key (the nearest valid one is named), a
            wrong type.
    """
    path = find_config(name, bundled)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold `key: value` lines, not {type(values).__name__}.")
    for override in overrides:
        _set(values, override, schema)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise InputError(f"config {name}: {_explain(schema, error)}") from error


def _set(values: dict[str, Any], override: str, schema: type[BaseModel]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r} is not an override: write key=value, e.g. optimizer.steps=100.")
    *parents, last = key.strip().split(".")
    kind: Any = schema
    for parent in parents:
        field = kind.model_fields.get(parent) if _is_model(kind) else None
        default = field.get_default(call_default_factory=True) if field else None
        values = values.setdefault(parent, default if isinstance(default, dict) else {})
        kind = field.annotation if field else None
        if not isinstance(values, dict):
            raise InputError(f"{override!r}: {parent} is a single value, it has no keys below it.")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{override!r}: {text!r} is not a valid YAML value.") from error


def _explain(schema: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    unknown = first["type"] == "extra_forbidden" or names[-1:] == ["[key]"]  # the latter: of a mapping
    key = ".".join(name for name in names if name != "[key]")
    if not unknown:
        return f"{key or 'the whole'}: {first['msg']} (got {first['input']!r})."
    valid = _keys(schema)
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"valid keys are {', '.join(valid)}."
    return f"there is no key {key}; {hint}"


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in schema.model_fields.items():
        kind: Any = field.annotation
        if _is_model(kind):
            keys += _keys(kind, f"{prefix}{name}.")
        elif get_origin(kind) is dict and get_origin(get_args(kind)[0]) is Literal:
            keys += [f"{prefix}{name}.{known}" for known in get_args(get_args(kind)[0])]
        else:
            keys.append(prefix + name)
    return keys

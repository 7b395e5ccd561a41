"""Typed YAML configs with `key=value` overrides, shared by `vidtrack train` and `vidtrack pretrain`."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pretrain.errors import InputError

LARGEST = 100_000  # bytes of a config, and values in it: a few dozen are usual
BRACKETS = 500  # that open: the time that YAML takes for nested ones grows with the square of their number
# YAML's own errors, and those of Python's numbers, dates and stack, which it lets through.
INVALID = (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError)


class Config(BaseModel):
    """Base of every config: unknown keys and infinite numbers are errors, and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


def find_config(name: str, bundled: Path) -> Path:
    """The file that `--config NAME` means: a path if it exists, else `bundled/NAME.yaml`.

    Raises:
        InputError: neither exists; the message has the nearest bundled name, or all.
    """
    for path in (Path(name), bundled / f"{name}.yaml"):
        with contextlib.suppress(OSError):  # a name too long for a file
            if path.is_file():
                return path
    names = sorted(p.relative_to(bundled).with_suffix("").as_posix() for p in bundled.rglob("*.yaml"))
    last = {known.rsplit("/", 1)[-1]: known for known in names}  # folders are alike in many
    file = name.endswith((".yaml", ".yml"))
    near = [] if file else difflib.get_close_matches(name.rsplit("/", 1)[-1], last, n=1, cutoff=0.7)
    which = f": give the path of a YAML file or one of {', '.join(names)}."
    hint = f"; did you mean {last[near[0]]}?" if near else which
    raise InputError(f"there is no config {_short(name)!r}{hint}")


def load_config(schema: type[C], name: str, overrides: Iterable[str], bundled: Path) -> C:
    """Read a YAML config and apply `key=value` overrides (dots descend: `optimizer.steps=100`).

    Below a key that holds a mapping, `key.name=value` adds to it, also to its default where the file has no
    such key; `key={name: value}` replaces the whole. What a section leaves out has the default that the
    schema gives to that section, which may differ from the defaults of the section's own type.

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
    values = read_yaml(path) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold `key: value` lines, not {type(values).__name__}.")
    for override in overrides:
        _set(values, override, schema)
    try:
        return schema.model_validate(_completed(values, schema))
    except ValidationError as error:
        raise InputError(f"config {name}: {_explain(schema, error)}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file: plain values, lists and mappings, never objects.

    Raises:
        InputError: it can't be read, is no YAML, or is larger than any config.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise InputError(f"{path} is larger than any config: give a YAML file of `key: value` lines.")
        return _parsed(content.decode("utf-8"))
    except InputError:
        raise
    except (OSError, *INVALID) as error:
        raise InputError(f"{path} is not valid YAML: {_reason(error)}.") from error


def _parsed(text: str) -> Any:
    """Plain values of YAML; raises one of `INVALID`, also for aliases that grow without end."""
    if text.count("[") + text.count("{") > BRACKETS:
        raise ValueError("it holds too many brackets")
    value = yaml.safe_load(text)
    waiting, seen = [value], 0
    while waiting:
        seen += 1
        if seen > LARGEST:
            raise ValueError("its aliases make it too large")
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, (list, tuple, set)):
            waiting += one
        elif isinstance(one, int) and abs(one) >= 1 << 63:
            raise ValueError("it holds a number that is larger than any setting")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return _short(" ".join(str(error).split()).rstrip(".") or type(error).__name__)


def _shown(value: Any) -> str:
    try:
        return _short(repr(value))
    except RecursionError:
        return f"a {type(value).__name__} in many others"


def _short(text: str) -> str:
    """As much of a text as a message has room for."""
    return text if len(text) <= 300 else f"{text[:300]}..."


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
        values[last] = _parsed(text)
    except INVALID as error:
        raise InputError(f"{_short(override)!r}: {_short(text)!r} is not a valid YAML value.") from error


def _completed(values: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """The values, and below each section of them what the schema's default of that section sets."""
    found = dict(values)
    for name, field in schema.model_fields.items():
        kind: Any = field.annotation
        if not (_is_model(kind) and isinstance(found.get(name), dict)):
            continue
        if isinstance(field.default, BaseModel):
            found[name] = _merged(field.default.model_dump(exclude_unset=True), found[name])
        found[name] = _completed(found[name], kind)
    return found


def _merged(below: dict[str, Any], above: dict[Any, Any]) -> dict[Any, Any]:
    """Both mappings in one; where both hold a mapping, that one too, else the value of `above`."""
    both = {key: (below[key], above[key]) for key in below.keys() & above.keys()}
    deeper = {
        key: _merged(a, b) for key, (a, b) in both.items() if isinstance(a, dict) and isinstance(b, dict)
    }
    return below | above | deeper


def _explain(schema: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    unknown = first["type"] == "extra_forbidden" or names[-1:] == ["[key]"]  # the latter: of a mapping
    key = _short(".".join(name for name in names if name != "[key]"))
    if not unknown:
        said = first["msg"].removeprefix("Value error, ")  # what pydantic puts before a validator's own words
        return f"{key or 'the whole'}: {said} (got {_shown(first['input'])})."
    valid = _keys(schema)
    inside: Any = first["input"]
    while isinstance(inside, dict) and len(inside) == 1:  # of an unknown section, what was set in it
        name, inside = next(iter(inside.items()))
        key = _short(f"{key}.{name}")
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

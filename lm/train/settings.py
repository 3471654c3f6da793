"""Settings from TOML: one file into frozen dataclasses, by their type hints; an unknown key is an error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class RecipeError(ValueError):
    """The recipe has an unknown key or a value of the wrong type."""


T = TypeVar("T")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file, on any supported Python.

    Raises:
        RecipeError: not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from None


def build_settings(kind: type[T], raw: Mapping[str, Any], where: str) -> T:
    """An object of the dataclass `kind`; `where` is what messages call the origin.

    Fields are numbers, strings, booleans, tuples or string-keyed mappings of these, and dataclasses of such fields.

    Raises:
        RecipeError: an unknown key, or a value of the wrong type.
    """
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise RecipeError(f"{where}: unknown key {key!r}; known here: {', '.join(known)}")
        if is_dataclass(hints[key]) and isinstance(value, Mapping):
            values[key] = build_settings(hints[key], value, f"{where} [{key}]")
        else:
            values[key] = _typed(value, hints[key], f"{where}: {key}")
    return kind(**values)


def _typed(value: Any, hint: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise RecipeError(f"{where}: expected {len(inner)} values, found {value!r}")
        return tuple(_typed(item, inner[0], where) for item in value)
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _typed(item, inner[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    name = {tuple: "list", None: getattr(hint, "__name__", str(hint))}.get(origin, "table")
    raise RecipeError(f"{where}: expected {name}, found {value!r}")

"""Read the values of options from the command line or a TOML recipe.

A `Kind` defines for one kind of value its reader, its type on the command line, and its JSON schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import SpecError

INPUT_TYPES = ("int64", "int32", "int16", "int8", "uint8", "bool", "float32", "float64", "float16", "bfloat16")


def shape_of(where: str, value: object) -> tuple[int, ...]:
    """Read the shape of one input, without the batch: `3x224x224`, [3, 224, 224] or `20:int64`."""
    sizes = _numbers(value.partition(":")[0] if isinstance(value, str) else value, "x")
    if not sizes or min(sizes) < 1:
        raise SpecError(f"{where}: {value!r} is not a shape such as 3x224x224 (channels, height, width; no batch)")
    type_of(where, value)
    return sizes


def type_of(where: str, value: object) -> str | None:
    """Read the type of one input, `int64` in `20:int64`; None where the shape names none."""
    _, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if colon and name not in INPUT_TYPES:
        raise SpecError(f"{where}: {value!r} names no type of numbers; after the colon goes {', '.join(INPUT_TYPES)}")
    return name or None


def classes_of(where: str, value: object) -> tuple[int, ...]:
    """Read the class of the network for each label: `0,217,482` or [0, 217, 482]."""
    listed = _numbers(value, ",")
    if not listed:
        raise SpecError(f"{where}: {value!r} is not a list of classes such as 0,217,482, one for each label")
    return listed


def patterns_of(where: str, value: object) -> tuple[str, ...]:
    """Read patterns of layer names: `layer4.*`, or a list of such."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) and one.strip() for one in listed):
        raise SpecError(f"{where}: {value!r} is not a pattern of layer names such as 'layer4.*', or a list of them")
    return tuple(listed)


def limits_of(where: str, value: object) -> Mapping[str, float]:
    """Read removable shares of channels: `layer4.*=0.3`, a list of such, or {"layer4.*" = 0.3}."""
    pairs: Any = value.items() if isinstance(value, Mapping) else ()
    try:
        pairs = pairs or [one.rpartition("=")[::2] for one in patterns_of(where, value)]
        found = {str(pattern): float(share) for pattern, share in pairs}
    except (TypeError, ValueError):
        found = {"": -1.0}
    if not all(pattern and 0 <= share <= 1 for pattern, share in found.items()):
        raise SpecError(f"{where}: {value!r} is not PATTERN=SHARE, such as 'layer4.*=0.3': the share from 0 to 1")
    return found


def _numbers(value: object, separator: str) -> tuple[int, ...] | None:
    parts = value.split(separator) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(str(part).strip().isdecimal() for part in parts):
        return None
    return tuple(int(str(part)) for part in parts)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"{where}: expected text, not {value!r}")
    return value


def _texts(where: str, value: object) -> tuple[str, ...]:
    return tuple(_text(where, item) for item in (value if isinstance(value, (list, tuple)) else [value]))


def _number(where: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise SpecError(f"{where}: expected a number, not {value!r}")
    return value


def _path(where: str, value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(where, value))


def _joined(where: str, value: object) -> str:
    """Read text, or join a list of texts with commas."""
    return ",".join(_text(where, item) for item in value) if isinstance(value, (list, tuple)) else _text(where, value)


def _preprocess(where: str, value: object) -> str | Mapping[str, object]:
    return value if isinstance(value, Mapping) else _text(where, value)


def _align(where: str, value: object) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(where, value)


def _flag(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SpecError(f"{where}: expected true or false, not {value!r}")
    return value


@dataclass(frozen=True)
class Kind:
    """Describe a kind of value: reader, type on the command line, JSON schema."""

    read: Callable[[str, object], Any]  # of (where it is given, value); raises SpecError
    given: Any = str  # type that the command line hands over
    schema: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({"type": "string"}))


def whole(least: int) -> Kind:
    """Describe whole numbers of at least `least`."""

    def read(where: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SpecError(f"{where}: expected a whole number of at least {least}, not {value!r}")
        return value

    return Kind(read, int, {"type": "integer", "minimum": least})


def choice(names: type[Enum]) -> Kind:
    """Describe one of the names of an enumeration."""
    return Kind(lambda where, value: names(value), names, {"enum": [str(one.value) for one in names]})


def _list_of(**item: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


def _either(*kinds: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(kinds)}


_STRING: Mapping[str, Any] = {"type": "string"}
TEXT = Kind(_text)
TEXTS = Kind(_texts, list[str], _either(_STRING, _list_of(type="string")))
NUMBER = Kind(_number, float, {"type": "number"})
PATH = Kind(_path, Path)
FLAG = Kind(_flag, bool, {"type": "boolean"})
SPECS = Kind(_joined, str, _either(_STRING, _list_of(type="string")))
TARGETS = Kind(_joined, list[str], _either(_STRING, _list_of(type="string")))
PATTERNS = Kind(patterns_of, list[str], _either(_STRING, _list_of(type="string")))
LIMITS = Kind(
    limits_of,
    list[str],
    _either(
        {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
        _STRING,
        _list_of(type="string"),
    ),
)
WIDTHS = Kind(_align, str, _either(_STRING, {"type": "integer", "minimum": 1}))
SHAPE = Kind(shape_of, str, _either(_list_of(type="integer", minimum=1), _STRING))
CLASSES = Kind(classes_of, str, _either(_list_of(type="integer", minimum=0), _STRING))
PREPROCESS = Kind(_preprocess, str, _either(_STRING, {"type": "object"}))

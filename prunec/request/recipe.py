"""A recipe: what `prunec compress` is told, in a TOML file that can be kept, compared and sent to a colleague.

    [model]                                  [compress]
    source = "nets.py:resnet56"              target = "macs:0.5"
    weights = "resnet56.safetensors"         selector = "obs"
    input_shape = [3, 32, 32]                allocator = "portfolio"
    [data]                                   compensator = "sequential{ridge=1e-4}"
    source = "train.npz"                     seed = 0
    preprocess = "mean=0.49,std=0.25"        opset = 18
    images = 1024                            batch = 64
    labelled = "test.npz"                    freeze = ["layer4.*"]
                                             limit = {"layer1.*" = 0.3}
                                             round_to = 8
                                             on = "ort-cpu{batch=8}"

What the command line gives wins over the recipe, and the recipe over the defaults of `Options`. Paths are as on the
command line: relative to the folder where prunec is run.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import SpecError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


INPUT_TYPES = ("int64", "int32", "int16", "int8", "uint8", "bool", "float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Options:
    """Everything that `prunec compress` may be told about the model, the images and the method."""

    model: str = ""
    weights: Path | None = None
    opaque: tuple[str, ...] = ()  # sub-modules that are left as they are
    input_shape: tuple[int, ...] | None = None  # without the batch
    data: str = ""
    preprocess: str | Mapping[str, object] | None = None
    images: int = 1024
    labelled: str | None = None  # images with labels, for the accuracy before and after
    classes: tuple[int, ...] | None = None
    target: str = ""
    selector: str | None = None  # of this and the next three None is the default of `prunec.compress`
    allocator: str | None = None
    compensator: str | None = None
    decomposer: str | None = None
    keep_branches: bool = False  # of residual blocks none goes whole
    pipeline: str | None = None
    freeze: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    limit: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    round_to: int = 1
    align: str | None = None
    on: str | None = None  # the engine that a latency target means
    opset: int = 18
    seed: int = 0
    batch: int | None = None
    threads: int | None = None
    device: str | None = None  # where PyTorch computes; None: where the network is
    provider: str = "cpu"  # of ONNX Runtime, for the latency before and after
    cache: Path | None = None

    @staticmethod
    def merged(given: Mapping[str, object], recipe: Path | None = None) -> Options:
        """Defaults, then what `recipe` says, then what is `given` (field to text or value; None is not given).

        Raises SpecError for what does not parse, and for a model, images or a target that neither of the two names.
        """
        values = {} if recipe is None else read_recipe(recipe)
        for name, value in given.items():
            if value is not None:
                values[name] = READERS[name](f"--{name.replace('_', '-')}", value)
        for name, how in NEEDED.items():
            if not values.get(name):
                raise SpecError(f"nothing says {how}")
        return Options(**values)


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of `Options` that a recipe gives. Raises SpecError with the table and the key at fault."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"the recipe {path} cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"the recipe {path} is not TOML: {error}") from error
    values = {}
    for table, entries in tables.items():
        keys = TABLES[_known(table, TABLES, f"the recipe {path}", "table")]
        if not isinstance(entries, Mapping):
            raise SpecError(f"the recipe {path} gives {table} a value: write [{table}], and its keys below")
        for key, value in entries.items():
            name = keys[_known(key, keys, f"[{table}] in {path}", "key")]
            values[name] = READERS[name](f"{key} in [{table}] of {path}", value)
    return values


def spoken_of(recipe: Path) -> dict[str, str]:
    """By field of `Options` that the recipe gives, how it is said there."""
    said = {name: f"{key} in [{table}] of {recipe}" for table, keys in TABLES.items() for key, name in keys.items()}
    return {name: said[name] for name, value in read_recipe(recipe).items() if value is not False}


def shape_of(where: str, value: object) -> tuple[int, ...]:
    """`3x224x224`, [3, 224, 224] or `20:int64`: the shape of one input, without the batch."""
    sizes = _numbers(value.partition(":")[0] if isinstance(value, str) else value, "x")
    if not sizes or min(sizes) < 1:
        raise SpecError(f"{where}: {value!r} is not a shape such as 3x224x224 (channels, height, width; no batch)")
    type_of(where, value)
    return sizes


def type_of(where: str, value: object) -> str | None:
    """The type of one input, `int64` in `20:int64`; None where the shape names none."""
    _, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if colon and name not in INPUT_TYPES:
        raise SpecError(f"{where}: {value!r} names no type of numbers; after the colon goes {', '.join(INPUT_TYPES)}")
    return name or None


def classes_of(where: str, value: object) -> tuple[int, ...]:
    """`0,217,482` or [0, 217, 482]: the class of the network that each label stands for."""
    listed = _numbers(value, ",")
    if not listed:
        raise SpecError(f"{where}: {value!r} is not a list of classes such as 0,217,482, one for each label")
    return listed


def patterns_of(where: str, value: object) -> tuple[str, ...]:
    """`layer4.*`, or a list of such patterns of layer names."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) and one.strip() for one in listed):
        raise SpecError(f"{where}: {value!r} is not a pattern of layer names such as 'layer4.*', or a list of them")
    return tuple(listed)


def limits_of(where: str, value: object) -> Mapping[str, float]:
    """`layer4.*=0.3`, a list of such, or {"layer4.*" = 0.3}: the share of the channels that may be removed."""
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


def _path(where: str, value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(where, value))


def _joined(where: str, value: object) -> str:
    """Text, or a list of texts with commas put between them."""
    return ",".join(_text(where, item) for item in value) if isinstance(value, (list, tuple)) else _text(where, value)


def _preprocess(where: str, value: object) -> str | Mapping[str, object]:
    return value if isinstance(value, Mapping) else _text(where, value)


def _align(where: str, value: object) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(where, value)


def _whole(least: int) -> Callable[[str, object], int]:
    def read(where: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SpecError(f"{where}: expected a whole number of at least {least}, not {value!r}")
        return value

    return read


def _flag(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SpecError(f"{where}: expected true or false, not {value!r}")
    return value


def _known(name: str, names: Mapping[str, object], where: str, what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    raise SpecError(
        f"{where} has a {what} '{name}' that prunec does not know; "
        + (f"did you mean '{near[0]}'?" if near else f"it may have: {', '.join(names)}.")
    )


READERS: Mapping[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("model", "data", "labelled"), _text),
    "target": _joined,
    **dict.fromkeys(("selector", "allocator", "compensator", "decomposer", "provider", "device", "on"), _text),
    "align": _align,
    **dict.fromkeys(("images", "batch", "threads", "opset", "round_to"), _whole(1)),
    **dict.fromkeys(("freeze", "only", "opaque"), patterns_of),
    "limit": limits_of,
    "keep_branches": _flag,
    "seed": _whole(0),
    "weights": _path,
    "cache": _path,
    "input_shape": shape_of,
    "preprocess": _preprocess,
    "classes": classes_of,
    "pipeline": _joined,
}
_COMPRESS = (
    "target", "selector", "allocator", "compensator", "decomposer", "keep_branches", "pipeline", "freeze", "only",
    "limit", "round_to", "align", "on", "opset", "seed", "batch", "threads", "device", "provider", "cache",
)  # fmt: skip
TABLES: Mapping[str, Mapping[str, str]] = {
    "model": {"source": "model", "weights": "weights", "input_shape": "input_shape", "opaque": "opaque"},
    "data": {"source": "data", **{key: key for key in ("preprocess", "images", "labelled", "classes")}},
    "compress": {key: key for key in _COMPRESS},
}
NEEDED = {
    "model": "which network: give MODEL, for instance nets.py:resnet56, or source in [model] of a recipe",
    "data": "which images to calibrate with: give --data, for instance a folder of images or a .npz file",
    "target": "how much may remain: give --target, for instance macs:0.5 to keep half of the MACs",
}

"""Read a recipe: the options of `prunec compress` in a TOML file.

    [model]                                  [compress]
    source = "nets.py:resnet56"              target = "macs:0.5"
    weights = "resnet56.safetensors"         compensator = "sequential{ridge=1e-4}"
    input_shape = [3, 32, 32]                freeze = ["layer4.*"]
    [data]                                   limits = {"layer1.*" = 0.3}
    source = "train.npz"                     on = "ort-cpu{batch=8}"

The keys are the fields of `CompressRequest`; `prunec list --schema` prints them for editors. The command line wins over
the recipe, and the recipe over the defaults. Paths are as on the command line: relative to the folder where prunec is
run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SpecError, near
from .config import CompressRequest
from .options import Field, options_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

C = TypeVar("C")


def merged(config: type[C], given: Mapping[str, object], recipe: Path | None = None) -> C:
    """Make a record of options from its defaults, a recipe, and the command line.

    `given` maps fields to text or values; None is not given. Raises SpecError for what does not parse, and for a model,
    images or a target that neither of the two names.
    """
    options = {one.name: one for one in options_of(config)}
    values = {} if recipe is None else read_recipe(recipe, config)
    for name, value in given.items():
        if value is not None:
            values[name] = _read(options[name], options[name].place, value)
    for name, one in options.items():
        if one.option.needed and not values.get(name):
            raise SpecError(f"nothing says {one.option.needed}")
    return config(**values)


def read_recipe(path: Path, config: type = CompressRequest) -> dict[str, Any]:
    """Read the fields of `config` from a recipe. Raises SpecError with the table and the key at fault."""
    return {one.name: _read(one, where, value) for one, where, value in _entries(path, config)}


def spellings(recipe: Path) -> dict[str, str]:
    """Map each field in a recipe to its place: `seed in [compress] of net.toml`."""
    return {one.name: where for one, where, value in _entries(recipe, CompressRequest) if value is not False}


def tables_of(config: type) -> dict[str, dict[str, Field]]:
    """Map table and key of a recipe to the option, preferred keys first."""
    tables: dict[str, dict[str, Field]] = {}
    for one in options_of(config):
        if one.option.kind is not None and one.option.table is not None:
            tables.setdefault(one.option.table, {}).update(dict.fromkeys(one.keys, one))
    return tables


def _read(one: Field, where: str, value: object) -> Any:
    assert one.option.kind is not None, one.name
    return one.option.kind.read(where, value)


def _entries(path: Path, config: type) -> Iterator[tuple[Field, str, object]]:
    """Yield each option of a recipe with its place and value. Raises SpecError for unknown and doubled keys."""
    tables, seen = tables_of(config), dict[str, str]()
    for table, entries in _parsed(path).items():
        keys = tables[_known(table, tables, f"the recipe {path}", "table")]
        if not isinstance(entries, Mapping):
            raise SpecError(f"the recipe {path} gives {table} a value: write [{table}], and its keys below")
        for key, value in entries.items():
            one = keys[_known(key, keys, f"[{table}] in {path}", "key")]
            if one.name in seen:
                raise SpecError(f"[{table}] in {path} has {seen[one.name]} and {key}, which are one: leave out one")
            seen[one.name] = key
            yield one, f"{key} in [{table}] of {path}", value


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"the recipe {path} cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"the recipe {path} is not TOML: {error}") from error


def _known(name: str, names: Mapping[str, object], where: str, what: str) -> str:
    if name in names:
        return name
    hint = near(name, names, f"it may have: {', '.join(names)}.")
    raise SpecError(f"{where} has a {what} '{name}' that prunec does not know; {hint}")

"""Read a latency table from JSON and check every entry.

A wrong number would silently change the plan. Each check raises ValueError with the place and the fault; `load` makes
one sentence from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..cost.hardware import TARGETS
from ..errors import DataError
from ..files.digest import of_json
from .layer_shapes import CLIP, CONVOLUTION, LINEAR, RELU, TRANSPOSED, LayerShape
from .table import FORMAT, Grid, Table, Whole, Within

SHA256 = "sha256"
SHAPE = ("op", "size", "kernel", "stride", "padding", "dilation", "groups", "group", "after")
TEXTS = ("engine", "cpu", "target")


def load(path: Path) -> Table:
    """Read a user's table file. Raises DataError if unreadable or wrong. A checksum is checked if present."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"the latency table {path} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:
        raise DataError(f"{path} is no latency table ({error}): {_ADVICE}") from error
    return parsed(text, str(path))


_ADVICE = "make one with prunec profile MODEL -o table.json"


def parsed(text: str, name: str, sealed: bool = False) -> Table:
    """Parse a table, called `name` in errors; `sealed` requires its checksum. Raises DataError if anything is wrong."""
    try:
        found = json.loads(text)
        _require(isinstance(found, dict), "it holds no object at the top")
        _require(found.get("format") == FORMAT, f"its format is {found.get('format')}, this prunec reads {FORMAT}")
        if sealed or SHA256 in found:
            _require(found.get(SHA256) == digest(found), f"it is not what was written: its {SHA256} does not agree")
        return _table(found)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{name} is no latency table ({reason}): {_ADVICE}") from error


def digest(found: Mapping[str, Any]) -> str:
    """Compute the sha256 of a table as JSON, without its own entry."""
    content = {key: value for key, value in found.items() if key != SHA256}
    return of_json(content)


def _table(found: Mapping[str, Any]) -> Table:
    machine: Any = found.get("machine")
    layers: Any = found.get("layers")
    networks: Any = found.get("networks")
    _require(isinstance(machine, dict), "it does not say of which machine it is")
    for name in TEXTS:
        _require(isinstance(machine.get(name), str), f"its machine has no {name}")
    _require(
        machine["target"] in TARGETS, f"its machine is a {machine['target']}, which is none of {', '.join(TARGETS)}"
    )
    batch, threads = (_count(found.get(name), name) for name in ("batch", "threads"))
    _require(isinstance(layers, list), "it has no list of layers")
    _require(isinstance(networks, dict), "it has no networks, not even none")
    grids: dict[LayerShape, Grid] = {}
    for place, one in enumerate(layers):
        shape, grid = _layer(one, f"layer {place + 1}")
        _require(shape not in grids, f"{shape} is there twice")
        grids[shape] = grid
    wholes = {name: _network(one, f"network {name[:12]}", grids) for name, one in networks.items()}
    return Table(machine, batch, threads, grids, wholes)


def _layer(one: Any, where: str) -> tuple[LayerShape, Grid]:
    _require(isinstance(one, dict), f"{where} is no object")
    shape = _shape(one.get("shape"), where)
    where = f"{where}, {shape}"
    ins, outs = (_widths(one.get(side), f"{where}: {side}") for side in ("ins", "outs"))
    _require(not shape.group or ins == (1,), f"{where}: groups are removed whole, so ins is [1]")
    rows = one.get("ms")
    _require(
        isinstance(rows, list) and len(rows) == len(ins), f"{where}: ms has {_length(rows)} rows for {len(ins)} ins"
    )
    for place, row in enumerate(rows):
        fits = isinstance(row, list) and len(row) == len(outs)
        _require(fits, f"{where}: row {place + 1} of ms has {_length(row)} times for {len(outs)} outs")
    times = tuple(tuple(_time(value, f"{where}: a time in ms") for value in row) for row in rows)
    odd_in, odd_out = (_number(one.get(name), f"{where}: {name}", least=1.0) for name in ("odd_in", "odd_out"))
    return shape, Grid(ins, outs, times, odd_in, odd_out)


def _network(one: Any, where: str, grids: Mapping[LayerShape, Grid]) -> Whole:
    _require(isinstance(one, dict) and isinstance(one.get("within"), list), f"{where} has no list of its layers")
    ms, kernels = _time(one.get("ms"), f"{where}: ms"), _count(one.get("kernels"), f"{where}: kernels")
    rest = _number(one.get("rest_ms"), f"{where}: rest_ms", least=0.0)
    within: dict[LayerShape, Within] = {}
    for place, entry in enumerate(one["within"]):
        shape, found = _within(entry, f"{where}, layer {place + 1}")
        _require(shape not in within, f"{where}: {shape} is there twice")
        _require(shape in grids, f"{where} has a layer {shape} that the table does not know")
        most = 1 if shape.group else grids[shape].ins[-1], grids[shape].outs[-1]
        known = all(into <= most[0] and out <= most[1] for into, out in found.widths)
        _require(known, f"{where}: {shape} is wider there than the table knows")
        within[shape] = found
    return Whole(ms, kernels, rest, within)


def _within(one: Any, where: str) -> tuple[LayerShape, Within]:
    _require(isinstance(one, dict), f"{where} is no object")
    shape, widths = _shape(one.get("shape"), where), one.get("widths")
    where = f"{where}, {shape}"
    _require(isinstance(widths, list) and bool(widths), f"{where}: no widths")
    for pair in widths:
        _require(isinstance(pair, list) and len(pair) == 2, f"{where}: {pair} is not what a layer reads and makes")
    pairs = tuple((_count(into, f"{where}: a width"), _count(out, f"{where}: a width")) for into, out in widths)
    return shape, Within(_time(one.get("ms"), f"{where}: ms"), pairs)


def _shape(fields: Any, where: str) -> LayerShape:
    """Parse a layer shape and check that its axes agree."""
    _require(isinstance(fields, list) and len(fields) == len(SHAPE), f"{where}: its shape is not {', '.join(SHAPE)}")
    named = dict(zip(SHAPE, fields, strict=True))
    for name in ("size", "kernel", "stride", "padding", "dilation", "group"):
        least = 0 if name == "padding" else 1
        whole = isinstance(named[name], list) and all(_is_whole(value, least) for value in named[name])
        _require(whole, f"{where}: {name} is {named[name]!r}, not whole numbers from {least}")
    _require(named["op"] in (CONVOLUTION, TRANSPOSED, LINEAR), f"{where}: there is no layer {named['op']!r}")
    _require(named["after"] in ("", RELU, CLIP), f"{where}: there is no activation {named['after']!r}")
    _count(named["groups"], f"{where}: groups")
    axes = 0 if named["op"] == LINEAR else len(named["size"])
    lengths = [len(named[name]) for name in ("kernel", "stride", "padding", "dilation")]
    _require(set(lengths) == {axes}, f"{where}: kernel, stride, padding and dilation need {axes} numbers each")
    _require(axes > 0 or named["op"] == LINEAR, f"{where}: a convolution needs a size")
    _require(len(named["group"]) in (0, 2), f"{where}: group is not what one reads and makes")
    return LayerShape.from_json(fields)


def _widths(given: Any, where: str) -> tuple[int, ...]:
    _require(isinstance(given, list) and bool(given), f"{where} is not a list of widths")
    found = tuple(_count(one, where) for one in given)
    _require(all(less < more for less, more in pairwise(found)), f"{where} do not grow: {', '.join(map(str, given))}")
    return found


def _count(value: Any, where: str) -> int:
    _require(_is_whole(value, 1), f"{where} is {value!r}, not a whole number from 1")
    return int(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _time(value: Any, where: str) -> float:
    found = _number(value, where, least=0.0)
    _require(found > 0, f"{where} is 0")
    return found


def _number(value: Any, where: str, least: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(is_number, f"{where} is {value!r}, not a finite number")
    _require(value >= least, f"{where} is {value!r}, less than {least:g}")
    return float(value)


def _length(value: Any) -> str:
    return str(len(value)) if isinstance(value, Sequence) else "no"


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)

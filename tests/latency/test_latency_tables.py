"""Latency tables on disk: what is wrong in one is said, nothing kept is lost, and a user's table stays apart."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from prunec.api import prepared
from prunec.cli import app
from prunec.errors import BackendError, DataError, PrunecWarning, SpecError
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.latency import engine, layer_shapes, measure, search, table_cache, table_file, whole_network
from prunec.latency.engine import checked, table_of
from prunec.latency.layer_shapes import LayerShape
from prunec.latency.table import Grid, Table, Whole, Within
from prunec.request.engine import On

CONV = LayerShape("conv", (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
GRID = Grid((8, 16), (8, 16, 24), ((1.0, 2.0, 3.0), (2.0, 3.0, 4.0)))
WHOLE = Whole(5.0, 3, 1.0, {CONV: Within(3.0, ((16, 24), (8, 8)))})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("PRUNEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plain() -> Table:
    return table_of(On()).with_grids({CONV: GRID}).with_whole("ab", WHOLE)


def conv(side: int) -> LayerShape:
    return replace(CONV, size=(side, side))


# Files


def at(*place: Any, value: Any) -> Callable[[Any], None]:
    """Set one entry of a document."""

    def change(found: Any) -> None:
        for key in place[:-1]:
            found = found[key]
        found[place[-1]] = value

    return change


LAYER, NETWORK = ("layers", 0), ("networks", "ab")
FAULTS = {
    "a negative time": (at(*LAYER, "ms", 0, 1, value=-1.0), "a time in ms is -1.0, less than 0"),
    "no time": (at(*LAYER, "ms", 1, 2, value=0), "a time in ms is 0"),
    "no number": (at(*LAYER, "ms", 0, 0, value=float("nan")), "a time in ms is nan, not a finite number"),
    "endless": (at(*LAYER, "ms", 0, 0, value=float("inf")), "a time in ms is inf, not a finite number"),
    "text": (at(*LAYER, "ms", 0, 0, value="1"), "a time in ms is '1', not a finite number"),
    "a truth": (at(*LAYER, "ms", 0, 0, value=True), "a time in ms is True, not a finite number"),
    "a row less": (at(*LAYER, "ms", value=[[1, 2, 3]]), "ms has 1 rows for 2 ins"),
    "a time less": (at(*LAYER, "ms", 1, value=[1, 2]), "row 2 of ms has 2 times for 3 outs"),
    "no rows": (at(*LAYER, "ms", value=None), "ms has no rows"),
    "out of order": (at(*LAYER, "outs", value=[8, 24, 16]), "outs do not grow: 8, 24, 16"),
    "a width twice": (at(*LAYER, "ins", value=[8, 8]), "ins do not grow"),
    "half a width": (at(*LAYER, "ins", value=[8, 16.5]), "ins is 16.5, not a whole number from 1"),
    "no widths": (at(*LAYER, "ins", value=[]), "ins is not a list of widths"),
    "cheap odd numbers": (at(*LAYER, "odd_in", value=0.5), "odd_in is 0.5, less than 1"),
    "another layer": (at(*LAYER, "shape", 0, value="pool"), "there is no layer 'pool'"),
    "a flat kernel": (at(*LAYER, "shape", 2, value=[3]), "need 2 numbers each"),
    "half a shape": (at(*LAYER, "shape", value=["conv"]), "its shape is not op, size"),
    "a layer of text": (at(*LAYER, value="conv"), "layer 1 is no object"),
    "no layers": (at("layers", value={}), "no list of layers"),
    "another version": (at("format", value=2), "its format is 2, this prunec reads 3"),
    "no batch": (at("batch", value=0), "batch is 0, not a whole number from 1"),
    "no machine": (at("machine", value=[]), "does not say of which machine"),
    "a machine without a name": (at("machine", "cpu", value=3), "its machine has no cpu"),
    "an unknown target": (at("machine", "target", value="abacus"), "abacus, which is none of"),
    "a network without time": (at(*NETWORK, "ms", value=0), "network ab: ms is 0"),
    "a network with less": (at(*NETWORK, "rest_ms", value=-1), "rest_ms is -1, less than 0"),
    "a network of no layers": (at(*NETWORK, "within", value=None), "network ab has no list of its layers"),
    "an unknown layer": (at(*NETWORK, "within", 0, "shape", 1, value=[9, 9]), "that the table does not know"),
    "a wider layer": (at(*NETWORK, "within", 0, "widths", 0, value=[16, 32]), "is wider there than the table knows"),
    "half a layer": (at(*NETWORK, "within", 0, "widths", 0, value=[16]), "is not what a layer reads and makes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_is_wrong_in_a_table_is_said_in_one_sentence_before_any_work(name: str, tmp_path: Path) -> None:
    change, said = FAULTS[name]
    found = plain().to_json()
    found = json.loads(json.dumps(found))
    change(found)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(found))
    with pytest.raises(DataError) as caught:
        checked(str(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "prunec profile" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'"x"'])
def test_files_that_are_no_tables(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(data)
    with pytest.raises(DataError, match="is no latency table"):
        checked(str(tmp_path / "table.json"))
    with pytest.raises(DataError, match="cannot be read"):
        checked(str(tmp_path / "none.json"))


# Kept


def test_what_is_kept_is_found_again_and_by_nobody_else(cache: Path) -> None:
    kept = table_cache.keep(plain())
    assert table_of(On()) == kept == plain()
    assert table_of(On()).own
    assert table_of(On(batch=8)).grids == table_of(On(threads=2)).grids == {}
    assert [path.name for path in cache.glob("latency/*.json")] == [table_cache.path_of(kept).name]


def test_a_copy_of_a_kept_table_can_be_handed_in_and_not_changed(cache: Path, tmp_path: Path) -> None:
    table_cache.keep(plain())
    path = tmp_path / "copy.json"
    path.write_bytes(table_cache.path_of(plain()).read_bytes())
    handed = table_of(On.parse(str(path)))
    assert handed == plain()
    assert not handed.own
    path.write_text(path.read_text().replace("5.0", "6.0"))
    with pytest.raises(DataError, match="it is not what was written"):
        checked(str(path))


def test_a_table_of_the_users_is_never_kept(cache: Path, tmp_path: Path) -> None:
    plain().save(tmp_path / "table.json")
    handed = table_of(On.parse(str(tmp_path / "table.json")))
    assert engine.is_here(handed)
    more = handed.with_grids({conv(4): GRID})
    assert table_cache.keep(more) is more
    assert not cache.exists()


@pytest.mark.parametrize("spoil", [b"{", b"", b"\xff\xff", None])
def test_a_damaged_table_is_set_aside_and_measured_anew(spoil: bytes | None, cache: Path) -> None:
    kept = table_cache.keep(plain())
    path = table_cache.path_of(kept)
    path.write_bytes(path.read_bytes().replace(b"4.0", b"4.5") if spoil is None else spoil)
    with pytest.warns(PrunecWarning, match=r"was set aside as .*, and what is needed is measured anew"):
        found = table_of(On())
    assert (found.grids, found.wholes) == ({}, {})
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").exists()
    assert table_cache.keep(found.with_grids({CONV: GRID})).grids == {CONV: GRID}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert table_of(On()).grids == {CONV: GRID}


def test_a_table_of_another_machine_under_this_name_is_damaged() -> None:
    kept = table_cache.keep(plain())
    other = replace(kept, machine={**kept.machine, "cpu": "another"})
    table_cache.keep(other)
    table_cache.path_of(other).rename(table_cache.path_of(kept))
    with pytest.warns(PrunecWarning, match="is of another machine"):
        assert table_of(On()).grids == {}


@pytest.mark.parametrize("place", ["a file", "below a file", "a folder of that name"])
def test_where_nothing_can_be_kept_the_run_goes_on(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("")
    folder = {"a file": tmp_path / "taken", "below a file": tmp_path / "taken" / "cache"}.get(place, tmp_path)
    monkeypatch.setenv("PRUNEC_CACHE", str(folder))
    if place == "a folder of that name":
        path = table_cache.path_of(Table(engine.machine(), 1, 1))
        path.with_name(f"{path.name}.lock").mkdir(parents=True)
    table = table_of(On()).with_grids({CONV: GRID})
    with pytest.warns(PrunecWarning, match="counts for this run alone; set PRUNEC_CACHE"):
        table = table_cache.keep(table)
    assert table.grids == {CONV: GRID}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert table_cache.keep(table) == table


def test_the_command_says_so_in_a_sentence_and_writes_the_file(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNEC_CACHE", str(tmp_path / "nets.py"))
    (tmp_path / "nets.py").write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 4, 3)\n")
    command = ["profile", "nets.py:make", "--input-shape", "3x8x8", "-o", "table.json", "--decomposer", "none"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (said,) = (line for line in done.stderr.splitlines() if "warning" in line)
    assert said.startswith("warning: latency tables cannot be kept in")
    assert "the table is in table.json" in done.stderr
    assert len(table_file.load(tmp_path / "table.json").grids) == 1


# Several processes


def test_many_writers_lose_nothing() -> None:
    empty = [table_of(On()) for _ in range(12)]

    def write(side: int) -> None:
        table_cache.keep(empty[side].with_grids({conv(side + 1): GRID}).with_whole(str(side), Whole(1.0, 1, 0.0, {})))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(write, range(12)))
    found = table_of(On())
    assert set(found.grids) == {conv(side + 1) for side in range(12)}
    assert set(found.wholes) == {str(side) for side in range(12)}


def test_of_two_grids_the_one_that_knows_more_stays_and_else_all_is_measured_again() -> None:
    ours = table_of(On())
    narrow, wide = (Grid((8, one), (8, one), ((1.0, 2.0), (2.0, 3.0))) for one in (21, 27))
    both = Grid((8, 21, 27), (8, 21, 27), ((1.0,) * 3,) * 3)
    assert table_cache.keep(ours.with_grids({CONV: narrow})).grids[CONV] == narrow
    again = replace(narrow, ms=((9.0, 9.0), (9.0, 9.0)))
    assert table_cache.keep(ours.with_grids({CONV: again})).grids[CONV] == narrow  # the first who measured it
    there = table_cache.keep(ours.with_grids({CONV: wide}))
    assert there.grids[CONV] == narrow
    needs = {CONV: measure.Span(frozenset({27}), frozenset({27}), 27, 27)}
    (span,) = measure.missing(there, needs).values()
    assert {21, 27} <= span.ins & span.outs
    assert table_cache.keep(ours.with_grids({CONV: both})).grids[CONV] == both
    assert table_cache.keep(ours.with_grids({CONV: wide})).grids[CONV] == both


def test_a_network_keeps_the_parts_that_others_measured() -> None:
    parts = {conv(4): Within(1.0, ((8, 8),))}
    table = table_of(On()).with_grids({CONV: GRID, conv(4): GRID})
    table_cache.keep(table.with_whole("ab", replace(WHOLE, within={**WHOLE.within, **parts})))
    found = table_cache.keep(table.with_whole("ab", replace(WHOLE, ms=6.0))).wholes["ab"]
    assert found == Whole(6.0, 3, 1.0, {**WHOLE.within, **parts})


# Networks


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def seen(module: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> Program:
    return prepared(capture(module.to(dtype), (torch.zeros(shape, dtype=dtype),)))


def test_whole_networks_are_told_apart_by_all_that_their_time_depends_on() -> None:
    first = seen(net(), 2, 3, 12, 12)
    gelu, fewer = net(), net()
    assert isinstance(gelu, nn.Sequential)
    gelu[1] = nn.GELU()
    torch.nn.init.zeros_(next(fewer.parameters()))
    others = [
        seen(net(), 2, 3, 16, 16), seen(net(), 2, 3, 12, 16), seen(gelu, 2, 3, 12, 12), seen(fewer, 2, 3, 12, 12),
        seen(net(), 2, 3, 12, 12, dtype=torch.float64), replace(first, dynamic_batch=False),
    ]  # fmt: skip
    digests = [whole_network.digest_of(one) for one in (first, *others)]
    assert len(set(digests)) == len(digests)
    assert whole_network.digest_of(seen(net(), 2, 3, 12, 12)) == digests[0]
    assert whole_network.digest_of(replace(first, example_inputs=(torch.zeros(5, 3, 12, 12),))) == digests[0]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is run: a layer takes as many ms as it has channels, a network 100; what was asked for is listed."""
    asked: list[str] = []

    def grids(needs: measure.Needs, table: Table, *_: Any, **__: Any) -> dict[LayerShape, Grid]:
        asked.extend(map(str, needs))
        rungs = {shape: measure._Rungs.of(shape, span, table) for shape, span in needs.items()}
        return {
            shape: Grid(one.ins, one.outs, tuple(tuple(float(i + o) for o in one.outs) for i in one.ins))
            for shape, one in rungs.items()
        }

    def network(*_: Any) -> Whole:
        asked.append("a network")
        return Whole(100.0, 5, 1.0, {})

    monkeypatch.setattr(measure, "grids", grids)
    monkeypatch.setattr(whole_network, "measured", network)
    return asked


def test_one_network_at_two_sizes_is_two_networks(measured: list[str]) -> None:
    for side in (12, 16):
        program = seen(net(), 2, 3, side, side)
        table, _ = search.filled(table_of(On()), program, layer_shapes.layers_of(program))
    assert len(table.wholes) == 2
    assert measured.count("a network") == 2
    assert measured.count("linear") == 1
    search.filled(table_of(On()), program, layer_shapes.layers_of(program))
    assert measured.count("a network") == 2


def test_what_a_users_table_lacks_is_measured_and_not_kept(measured: list[str], cache: Path, tmp_path: Path) -> None:
    Table(engine.machine(), 1, 1).save(tmp_path / "table.json")
    program = seen(net(), 2, 3, 12, 12)
    table, _ = search.filled(table_of(On.parse(str(tmp_path / "table.json"))), program, layer_shapes.layers_of(program))
    assert len(table.wholes) == 1
    assert len(measured) == 3
    assert not cache.exists()
    assert json.loads((tmp_path / "table.json").read_text())["layers"] == []


def test_two_that_measure_a_shape_at_other_widths_end_with_both(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes its widths just before this one; finally, every time."""
    program = seen(net(), 2, 3, 12, 12)
    shape = layer_shapes.layers_of(program)[0].shape
    keep, others = table_cache.keep, iter([(5, 21), (5, 22)])

    def disturbed(table: Table) -> Table:
        for into, out in others:
            keep(table_of(On()).with_grids({shape: Grid((into,), (out,), ((1.0,),))}))
            break
        return keep(table)

    monkeypatch.setattr(search, "keep", disturbed)
    table, _ = search.filled(table_of(On()), program, layer_shapes.layers_of(program))
    grid = table.grids[shape]
    assert {3, 5} <= set(grid.ins)
    assert {8, 21} <= set(grid.outs)
    assert table_of(On()).grids[shape] == grid
    monkeypatch.setattr(search, "keep", lambda table: replace(table, grids={}))
    with pytest.raises(BackendError, match="run again"):
        search.filled(Table(engine.machine(), 1, 1), program, layer_shapes.layers_of(program))


def test_a_network_that_fixes_its_batch_is_measured_at_no_other(measured: list[str]) -> None:
    program = replace(seen(net(), 2, 3, 12, 12), dynamic_batch=False)
    with pytest.raises(SpecError, match=r"takes 2 samples at once .* ask for ort-cpu\{batch=2\}"):
        search.filled(table_of(On()), program, layer_shapes.layers_of(program))
    table, _ = search.filled(table_of(On(batch=2)), program, layer_shapes.layers_of(program))
    assert len(table.wholes) == 1

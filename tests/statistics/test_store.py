"""Stored statistics are used only for their own inputs, and only if intact."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from micro import three
from torch import nn

import prunec
from prunec.api import Result, prepared
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.passes import calibrate
from prunec.pipeline.context import Context
from prunec.statistics import store
from prunec.statistics.facts import Statistics
from prunec.statistics.moments import Moments

IMAGES = torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def compressed(folder: Path | None, target: str = "macs:0.7", **options: object) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return prunec.compress(three(6, 6, 6), IMAGES, target=target, align="none", cache=folder, **options)  # type: ignore[call-overload,no-any-return]


def calibrated(folder: Path, module: nn.Module | None = None, **options: object) -> tuple[dict[str, Moments], Context]:
    context = Context(calibration=as_images(IMAGES), cache=folder, **options)  # type: ignore[arg-type]
    program = prepared(capture(module or three(6, 6, 6), (IMAGES[:2],)))
    found = calibrate.Calibrate().run(program, context)
    return dict(found.fact(Statistics).moments), context


def test_the_layers_that_are_measured_are_in_the_name(tmp_path: Path) -> None:
    first = compressed(tmp_path, freeze=["0", "2"])
    second = compressed(tmp_path)
    assert second.plan.keep == compressed(None).plan.keep
    assert first.plan.keep == compressed(tmp_path, freeze=["0", "2"]).plan.keep
    assert "cache" not in second.report["notes"]["calibrate"]


def test_what_is_kept_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = calibrated(tmp_path)
    monkeypatch.setattr(calibrate.Calibrate, "_measured", lambda *_: pytest.fail("measured again"))
    again, context = calibrated(tmp_path)
    assert again.keys() == found.keys()
    assert all(torch.equal(again[name].zz, found[name].zz) for name in found)
    assert "cache" not in context.notes["calibrate"]


def test_each_thing_that_the_numbers_depend_on_is_in_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated(tmp_path)
    calibrated(tmp_path, seed=1)
    calibrated(tmp_path, batch=8)
    other = three(6, 6, 6)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-3
    calibrated(tmp_path, other)
    monkeypatch.setattr(store, "versions", lambda: {"prunec": "9.9"})
    calibrated(tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 5


def one_bit(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 0x40]) + data[-2:]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "a bit is another": one_bit,
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "of another kind": lambda _: b"PK\x03\x04 not safetensors at all",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_has_changed_is_measured_anew(tmp_path: Path, how: str) -> None:
    found, _ = calibrated(tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(BROKEN[how](whole))
    with pytest.warns(RuntimeWarning, match="measured anew"):
        again, context = calibrated(tmp_path)
    assert all(torch.equal(again[name].zz, found[name].zz) for name in found)
    assert path.read_bytes() == whole
    (said,) = context.notes["calibrate"]["cache"]
    assert str(path) in said


def test_a_folder_that_cannot_be_written_does_not_fail_the_run(tmp_path: Path) -> None:
    taken = tmp_path / "a file"
    taken.write_text("")
    with pytest.warns(RuntimeWarning, match="the statistics are not kept for the next run"):
        found, context = calibrated(taken / "below")
    assert found
    assert len(context.notes["calibrate"]["cache"]) == 1


def test_weights_that_the_graph_does_not_hold_are_not_kept(tmp_path: Path) -> None:
    prunec.compress(three(6, 6, 6), IMAGES, target="macs:0.9", align="none", cache=tmp_path, opaque=["2"])
    assert not list(tmp_path.iterdir())


def _writes(path: Path) -> None:
    rows = torch.randn(8, 1, 40, generator=torch.Generator().manual_seed(7))
    one, half = Moments(), Moments()
    one.add(rows)
    half.add(rows[:4])
    for _ in range(30):
        assert not store.save(path, Statistics({"a": one}, {"a": half}, 4))
        found, said = store.load(path, ["a"])
        assert not said
        assert found is not None
        assert torch.equal(found.moments["a"].zz, one.zz)
        assert torch.equal(found.part["a"].zz, half.zz)
        assert found.read == 4


def test_two_processes_that_write_the_same_statistics_never_fail(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    workers = [context.Process(target=_writes, args=(tmp_path / "below" / "one.safetensors",)) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert [each.exitcode for each in workers] == [0, 0]
    assert [each.name for each in (tmp_path / "below").iterdir()] == ["one.safetensors"]

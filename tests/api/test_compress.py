"""The pipeline as a whole: laws on small networks, real numbers on real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from conftest import needs_shared
from measures import relative_error
from micro import networks
from shared_nets import cifar, load
from torch import nn

import prunec
from prunec.channels.analysis import analyse
from prunec.cost import macs
from prunec.errors import BudgetError, DataError, SpecError
from prunec.files.artefacts import verify_manifest
from prunec.grammar.registry import STRATEGIES

NETS = networks()
IMAGES = torch.randn(96, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [name for name in NETS if name != "outer_product"])  # all of it is frozen
def test_every_pattern_compresses_to_its_budget(name: str) -> None:
    result = prunec.compress(NETS[name], IMAGES, target="macs:0.7", batch=32)
    share = result.report["macs"]["share"]
    assert share <= 0.7
    assert macs.total_macs(analyse(result.program)) == result.report["macs"]["compressed"]
    with torch.no_grad():
        wanted, compensated, alone = NETS[name](IMAGES), result.module(IMAGES), result.pruned_only()(IMAGES)
    least = 1e-5 if name == "class_token" else 1e-6  # its constant is fitted to those of the folds' networks
    assert relative_error(compensated, wanted) < max(0.9 * relative_error(alone, wanted), least)


EVERY = [(kind.removesuffix("s"), name) for kind, folder in STRATEGIES.items() for name in folder.names()]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in EVERY if kind != "criteria"])
def test_every_strategy_runs(kind: str, name: str) -> None:
    named: Any = {kind: name}
    result = prunec.compress(NETS["residual"], IMAGES, target="macs:0.6", **named)
    assert result.report["macs"]["share"] <= 0.6
    with torch.no_grad():
        assert bool(torch.isfinite(result.module(IMAGES)).all())


def test_a_shortcut_that_is_broadcast_is_no_target() -> None:
    result = prunec.compress(NETS["broadcast_add"], IMAGES, target="macs:0.2", allocator="uniform")
    assert len(result.plan.keep["a"]) < 12  # so both operands of the add drift
    with torch.no_grad():
        wanted = NETS["broadcast_add"](IMAGES)
        better, worse = (relative_error(one(IMAGES), wanted) for one in (result.module, result.pruned_only()))
    assert better < worse


def test_a_duplicated_channel_is_compensated_exactly() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    model = nn.Sequential(*layers).eval()
    first = model[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    with torch.no_grad():  # channels 4..7 repeat 0..3
        first.weight[4:], first.bias[4:] = first.weight[:4].clone(), first.bias[:4].clone()
    pipeline = (
        "fold-bn,explicit-bias,analyse,calibrate,select{method=obs{ridge=1e-9}},sensitivity,allocate,"
        "compensate{method=sequential{ridge=1e-9}},slice"
    )
    result = prunec.compress(model, IMAGES, target="macs:0.55", pipeline=pipeline)
    assert len(result.plan.keep["0"]) == 4
    with torch.no_grad():
        assert relative_error(result.module(IMAGES), model(IMAGES)) < 1e-6


def test_very_wide_linear_layers_are_refitted_by_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunec.channels.matrix.WIDEST", 20)
    result = prunec.compress(NETS["flat"], IMAGES, target="macs:0.7")
    with torch.no_grad():
        wanted = NETS["flat"](IMAGES)
        better, worse = (relative_error(one(IMAGES), wanted) for one in (result.module, result.pruned_only()))
    assert better < worse


def test_saved_files_are_whole_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prunec.compress(NETS["residual"], IMAGES, target="macs:0.5").save(tmp_path / name)
        assert verify_manifest(tmp_path / name) == []
    for name in ("plan.json", "model.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    plan = json.loads((tmp_path / "one" / "plan.json").read_text())
    kinds = {row["name"]: row["kind"] for row in plan["spaces"]}
    assert {name for name, kind in kinds.items() if kind == "channels"} == {"a", "b", "fc"}
    assert {"a:rank", "b:rank"} <= {name for name, kind in kinds.items() if kind == "ranks"}
    stamped = {item.key: item.value for item in onnx.load(tmp_path / "one" / "model.onnx").metadata_props}
    assert stamped["prunec.target"] == "macs:0.5"
    again = torch.export.load(tmp_path / "one" / "model.pt2").module()
    result = prunec.compress(NETS["residual"], IMAGES, target="macs:0.5")
    with torch.no_grad():
        torch.testing.assert_close(again(IMAGES), result.module(IMAGES))
    with pytest.raises(DataError, match="force"):
        result.save(tmp_path / "one")


def test_a_compressed_network_can_be_compressed_again(tmp_path: Path) -> None:
    prunec.compress(NETS["residual"], IMAGES, target="macs:0.7").save(tmp_path / "out")
    exported = torch.export.load(tmp_path / "out" / "model.pt2")
    assert prunec.compress(exported, IMAGES, target="macs:0.7").report["macs"]["share"] <= 0.7


def test_an_infeasible_target_says_what_is_reachable_and_frozen() -> None:
    with pytest.raises(BudgetError, match=r"least to ask for.*fc: it reaches the network's output"):
        prunec.compress(NETS["plain"], IMAGES, target="macs:0.001")


def test_labels_of_a_loader_are_dropped() -> None:
    loader = [(IMAGES[:48], torch.zeros(48, dtype=torch.int64)), (IMAGES[48:], torch.ones(48, dtype=torch.int64))]
    with_labels = prunec.compress(NETS["plain"], loader, target="macs:0.5")
    assert with_labels.plan.keep == prunec.compress(NETS["plain"], IMAGES, target="macs:0.5").plan.keep


def test_a_pipeline_that_lacks_a_pass_is_refused_before_any_work() -> None:
    with pytest.raises(SpecError, match="needs"):
        prunec.compress(NETS["plain"], IMAGES, target="macs:0.5", pipeline="fold-bn,allocate,slice")


@needs_shared
def test_resnet56_loses_little_at_half_its_macs() -> None:
    model = load("cifar_resnet56")
    images, _ = cifar("train_8192", 1024)
    test, labels = cifar("test", 2000)
    result = prunec.compress(model, images, target="macs:0.5")
    with torch.no_grad():
        dense, found, alone = (
            100 * float((torch.cat([net(one) for one in test.split(500)]).argmax(1) == labels).float().mean())
            for net in (model, result.module, result.pruned_only())
        )
    assert dense - found < 1.5  # 0.6 on all 10,000 images: bench/accuracy.py; this is a subset
    assert found - alone > 5

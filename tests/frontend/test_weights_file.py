"""Checkpoints as trainers write them: the one set of weights that fits is found, or the keys are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunec.errors import CaptureError
from prunec.frontend.load import load_model, load_weights


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1)))


STATE = network(1).state_dict()
PREFIXES = [
    "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.", "model._orig_mod.", "a.b.c.",
]  # fmt: skip
KEYS = [
    "state_dict", "model_state_dict", "model", "params", "params_ema", "generator", "net", "ema", "network", "weights",
]  # fmt: skip


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


CHECKPOINTS: dict[str, Any] = {
    **{f"prefix {prefix}": prefixed(prefix) for prefix in PREFIXES},
    **{f"key {key}": {"epoch": 3, key: STATE} for key in KEYS},
    "lightning": {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(4)}, "pytorch-lightning_version": "2"},
    "averaged": {**prefixed("module."), "n_averaged": torch.tensor(3)},
    "a part is compiled": {key.replace("2.0.", "2._orig_mod.0."): value for key, value in STATE.items()},
    "nested": {"checkpoint": {"state_dict": prefixed("module.")}},
    "optimizer too": {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(4, 3, 3, 3)}}}},
    "the same twice": {"model": STATE, "ema": {key: value.clone() for key, value in STATE.items()}},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_weights_of_a_checkpoint_are_found(name: str, tmp_path: Path) -> None:
    net, path = network(), tmp_path / "file.pt"
    torch.save(CHECKPOINTS[name], path)
    load_weights(net, path)
    torch.testing.assert_close(net.state_dict(), STATE, rtol=0, atol=0)


def refusal(held: Any, path: Path) -> str:
    net, before = network(), network().state_dict()
    torch.save(held, path)
    with pytest.raises(CaptureError) as caught:
        load_weights(net, path)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    return str(caught.value)


def test_two_sets_that_fit_and_differ_are_named(tmp_path: Path) -> None:
    said = refusal({"params": STATE, "params_ema": network(2).state_dict()}, tmp_path / "file.pt")
    assert "holds 2 sets of weights that fit the network, params, params_ema: save the one that you want" in said
    twins = {**prefixed("model."), **prefixed("ema_model.", network(2).state_dict())}
    assert "2 sets of weights that fit the network, model, ema_model" in refusal(twins, tmp_path / "file.pt")


def test_where_none_fits_the_keys_are_said(tmp_path: Path) -> None:
    other = {**STATE, "3.weight": torch.ones(2)}
    said = refusal({"epoch": 1, "g_ema": other, "d": {"0.weight": torch.ones(1)}}, tmp_path / "file.pt")
    assert "do not fit the network (of the keys epoch, g_ema, d, g_ema comes nearest); 1 unexpected: 3.weight" in said


def test_a_layer_of_a_larger_network_is_not_taken_for_a_network(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save(nn.Sequential(nn.Linear(3, 3), nn.ReLU()).state_dict() | {"1.bias": torch.ones(3)}, path)
    with pytest.raises(CaptureError, match="do not fit"):
        load_weights(nn.Linear(3, 3), path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_network_and_torchscript_are_told_apart_from_weights(tmp_path: Path, legacy: bool) -> None:
    whole, script, cut = tmp_path / "whole.pt", tmp_path / "script.pt", tmp_path / "cut.pt"
    torch.save(network(), whole, _use_new_zipfile_serialization=not legacy)
    scripted: Any = torch.jit.script(network())
    scripted.save(script)
    cut.write_bytes(whole.read_bytes()[:-300])
    said = {}
    for path in (whole, script, cut):
        with pytest.raises(CaptureError) as caught:
            load_weights(network(), path)
        said[path.stem, 0] = str(caught.value)
        with pytest.raises(CaptureError) as caught:
            load_model(str(path))
        said[path.stem, 1] = str(caught.value)
    assert all("Python objects (torch.nn.modules.container.Sequential)" in said["whole", one] for one in (0, 1))
    assert all("is TorchScript (torch.jit)" in said["script", one] for one in (0, 1))
    assert all("cut off, or no file of torch.save" in said["cut", one] or legacy for one in (0, 1))
    raw = ("weights_only", "Re-running", "two options", "\x1b", "\n", "TorchScript archives passed")
    assert [text for text in said.values() if any(word in text for word in raw)] == []


def test_a_factory_that_gives_torchscript_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\ndef make(): return torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3))\n"
    )
    with pytest.raises(CaptureError, match=r"nets\.py:make is TorchScript"):
        load_model(f"{tmp_path / 'nets.py'}:make")

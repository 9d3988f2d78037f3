"""The process is as it was after prunec has run, also where it fails."""

from __future__ import annotations

import logging
import random
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunec
from prunec.deploy.ort import runtime
from prunec.errors import PrunecError
from prunec.frontend.process_state import flushes_denormals, kept_process_state


def settings() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "denormals": flushes_denormals(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "logging": logging.root.manager.disable,
        "warnings": list(warnings.filters),
        "streams": (sys.stdout, sys.stderr),
    }


def disturb() -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    torch.set_num_threads(torch.get_num_threads() % 2 + 1)
    torch.set_flush_denormal(not flushes_denormals())
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(not torch.is_grad_enabled())
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    logging.disable(logging.ERROR)
    warnings.simplefilter("error")
    sys.stderr = sys.stdout


class Rude(nn.Module):
    """Changes the process in forward."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.layer, self.fails = nn.Linear(4, 3), fails

    def forward(self, x: Tensor) -> Tensor:
        gradients = torch.is_grad_enabled()
        disturb()
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(gradients)
        warnings.simplefilter("ignore")
        if self.fails:
            raise KeyError("in forward")
        found: Tensor = self.layer(x)
        return found


@pytest.mark.parametrize("fails", [False, True])
def test_every_setting_is_restored(fails: bool) -> None:
    before = settings()
    try:
        with kept_process_state():
            disturb()
            assert [name for name, value in settings().items() if value == before[name]] == ["tf32"]
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert settings() == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_network_that_changes_the_process_is_inspected_and_the_process_is_as_it_was(fails: bool) -> None:
    net, inputs = Rude(fails), (torch.randn(2, 4),)
    before = settings()
    try:
        prunec.inspect(net, inputs)
    except PrunecError:
        assert fails
    assert settings() == before


@pytest.mark.parametrize("flushed", [False, True])
def test_onnx_runtime_leaves_denormals_as_they_were(flushed: bool) -> None:
    try:
        torch.set_flush_denormal(flushed)
        with runtime.denormals_as_zero():
            assert flushes_denormals()
        assert flushes_denormals() is flushed
    finally:
        torch.set_flush_denormal(False)

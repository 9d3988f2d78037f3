"""Export random networks and compare ONNX Runtime with the user's own module.

    make test                     500 networks, the same each time
    make test-long                20,000, others each time; the seed is printed

An export takes a second however small the network, so twenty networks share one; if it is wrong, each is exported
alone, and the wrong ones are named by their steps.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from random_networks import DRAWN, Drawn, Several, linear, norm
from torch import nn

from prunec.api import PREPARE
from prunec.cli.export import FOLDED
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort.runtime import Array, run, session
from prunec.frontend.capture import capture
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline

EACH = 20  # networks an export
NETWORKS = int(os.environ.get("PRUNEC_RANDOM_NETWORKS", "500"))
SEED = int(os.environ.get("PRUNEC_RANDOM_SEED", "0"))
PARTS = max(5, NETWORKS // 500)  # a test each: enough for workers to share, and for the bar to move
BATCHES = (None, None, None, 1, 3)
TOLERANCE = 1e-4


def differences(networks: list[Drawn], batch: int | None, passes: str) -> list[float]:
    """Return each output's deviation from the module's, relative to the largest if above 1."""
    model = Several(networks).eval()
    examples = tuple(torch.randn(batch or 2, *one.shape) for one in networks)
    program = Pipeline.parse(passes).run(capture(model, examples), Context())
    assert (program.only_batch == batch) is True, program.notes
    engine = session(export_onnx(program.module, program.example_inputs, dynamic_batch=program.dynamic_batch))
    worst = [0.0] * len(networks)
    for size in (1, 5) if batch is None else (batch,):
        inputs = tuple(torch.randn(size, *one.shape) for one in networks)
        with torch.no_grad():
            wanted = [value.numpy() for value in model(*inputs)]
        found = [_difference(*pair) for pair in zip(wanted, run(engine, inputs), strict=True)]
        worst = [max(pair) for pair in zip(worst, found, strict=True)]
    return worst


def _difference(wanted: Array, found: Array) -> float:
    assert wanted.shape == found.shape
    assert np.isfinite(wanted).all()
    return float(np.abs(wanted - found).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("part", range(PARTS))
def test_an_exported_network_is_the_users_own(part: int) -> None:
    @seed(SEED + part)
    @settings(max_examples=-(-NETWORKS // (PARTS * EACH)), phases=[Phase.generate], deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(DRAWN, min_size=EACH, max_size=EACH), st.sampled_from(BATCHES), st.sampled_from([FOLDED, PREPARE]))
    def check(drawn: list[Any], batch: int | None, passes: str) -> None:
        torch.manual_seed(0)
        networks = [Drawn(one, batch) for one in drawn]
        try:
            together = f"off by {max(differences(networks, batch, passes)):.2g}"
        except Exception as error:
            together = f"{type(error).__name__}: {error}"
        else:
            if float(together.removeprefix("off by ")) <= TOLERANCE:
                return
        alone = [line for one in networks if (line := _alone(one, batch, passes))]
        pytest.fail(f"seed {SEED + part}, batch {batch}, {passes}: {together[:500]}; alone: {alone}", pytrace=False)

    check()


def _alone(network: Drawn, batch: int | None, passes: str) -> str:
    try:
        (off,) = differences([network], batch, passes)
    except Exception as error:
        return f"{network.described}: {type(error).__name__}: {error}"
    return "" if off <= TOLERANCE else f"{network.described}: off by {off:.2g}"


def test_a_fold_along_the_wrong_axis_is_found() -> None:
    """The check sees what it is for: a norm over tokens that is folded into the rows of the linear layer before it."""
    torch.manual_seed(0)
    network, x = Drawn(([4, 4], [(linear, 1), (norm, 1)]), None), torch.randn(5, 4, 4)
    layer, after = list(network.layers)
    assert isinstance(after, nn.BatchNorm1d)
    assert after.running_mean is not None
    assert after.running_var is not None
    with torch.no_grad():
        folded = (layer(x) - after.running_mean) * after.weight / (after.running_var + after.eps).sqrt() + after.bias
        assert _difference(network(x).numpy(), folded.numpy()) > 100 * TOLERANCE

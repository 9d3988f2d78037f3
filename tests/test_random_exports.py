"""Random networks, exported and run in ONNX Runtime beside the user's own module, which no pass has touched.

    make test                     500 networks, the same each time
    make test-long                20,000, others each time; the seed is printed by hypothesis where one fails

An export takes a second however small the network, so twenty networks share one; where it is wrong, each is exported
alone, and those that are wrong by themselves are named by their steps.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_networks import DRAWN, Drawn, Several
from torch import Tensor

from prunec.capture import capture
from prunec.cli.export import FOLDED
from prunec.compression import PREPARE
from prunec.deploy.export import export_onnx
from prunec.deploy.runtime import run, session
from prunec.pipeline import Pipeline
from prunec.program import Context

EACH = 20  # networks an export
NETWORKS = int(os.environ.get("PRUNEC_RANDOM_NETWORKS", "500"))
TOLERANCE = 1e-4


def differences(networks: list[Drawn], batch: int | None, passes: str) -> list[float]:
    """How far each output of the exported file is from the module's, relative to the largest if above 1."""
    model = Several(networks).eval()
    examples = tuple(torch.randn(batch or 2, *one.shape) for one in networks)
    program = Pipeline.parse(passes).run(capture(model, examples), Context())
    assert program.only_batch == batch, program.notes
    engine = session(export_onnx(program.module, program.example_inputs, dynamic_batch=program.dynamic_batch))
    worst = [0.0] * len(networks)
    for size in (1, 5) if batch is None else (batch,):
        inputs = tuple(torch.randn(size, *one.shape) for one in networks)
        with torch.no_grad():
            wanted = [value.numpy() for value in model(*inputs)]
        found = [_difference(*pair) for pair in zip(wanted, run(engine, inputs), strict=True)]
        worst = [max(pair) for pair in zip(worst, found, strict=True)]
    return worst


def _difference(wanted: np.ndarray, given: np.ndarray) -> float:
    assert wanted.shape == given.shape
    assert np.isfinite(wanted).all()
    return float(np.abs(wanted - given).max() / max(1.0, np.abs(wanted).max()))


@settings(
    max_examples=max(1, NETWORKS // EACH),
    deadline=None,
    derandomize="PRUNEC_RANDOM_NETWORKS" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    database=None,
)
@given(
    st.lists(DRAWN, min_size=EACH, max_size=EACH), st.sampled_from([None, None, None, 1, 3]), st.sampled_from([FOLDED, PREPARE])
)  # fmt: skip
def test_an_exported_network_is_the_users_own(drawn: list, batch: int | None, passes: str) -> None:
    torch.manual_seed(0)
    networks = [Drawn(one, batch) for one in drawn]
    try:
        if max(differences(networks, batch, passes)) <= TOLERANCE:
            return
    except Exception as error:
        together = f"{type(error).__name__}: {error}"
    else:
        together = "wrong"
    pytest.fail(f"{together}; alone: {[line for one in networks if (line := _alone(one, batch, passes))]}")


def _alone(network: Drawn, batch: int | None, passes: str) -> str:
    try:
        (off,) = differences([network], batch, passes)
    except Exception as error:
        return f"{network.described}: {type(error).__name__}: {error}"
    return "" if off <= TOLERANCE else f"{network.described}: off by {off:.2g}"


def test_a_drawn_network_that_is_wrong_is_found() -> None:
    """The check sees a fold along the wrong axis: the same layers, with the norm moved into the linear layer's rows."""
    from random_networks import linear, norm

    torch.manual_seed(0)
    network = Drawn(([4, 4], [(linear, 1), (norm, 1)]), None)
    x = torch.randn(5, 4, 4)
    layer, after = network.layers
    assert isinstance(layer, torch.nn.Linear)

    def folded(x: Tensor) -> Tensor:
        scale = after.weight / (after.running_var + after.eps).sqrt()  # type: ignore[operator, union-attr]
        return (layer(x) - after.running_mean) * scale + after.bias  # type: ignore[operator]

    with torch.no_grad():
        assert _difference(network(x).numpy(), folded(x).numpy()) > TOLERANCE

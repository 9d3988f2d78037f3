"""ONNX Runtime: what was asked for, or a sentence that says why not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from prunec.deploy.ort.runtime import Model, run, session
from prunec.errors import BackendError, DataError, SpecError
from prunec.machine import environment

DOUBLE = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 18]>
    double (float[batch, 3] input) => (float[batch, 3] output) { output = Add(input, input) }
""")
ONES = torch.ones(2, 3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "double.onnx"
    path.write_bytes(DOUBLE.SerializeToString())
    return path


def test_bytes_file_and_proto_run_alike(saved: Path) -> None:
    models: tuple[Model, ...] = (DOUBLE, saved, saved.read_bytes())
    for model in models:
        np.testing.assert_array_equal(run(session(model), (ONES,))[0], 2 * np.ones((2, 3)))
    np.testing.assert_array_equal(run(session(DOUBLE), (ONES.numpy(),))[0], 2 * np.ones((2, 3)))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_denormals_and_spinning(threads: int) -> None:
    options = session(DOUBLE, threads=threads).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    if threads > 1:
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_without_onnxruntime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r'pip install "prunec\[cpu\]"') as caught:
        session(DOUBLE)
    assert caught.value.exit_code == 7


def test_unreadable_models(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"there is no model file '.*gone\.onnx'"):
        session(tmp_path / "gone.onnx")
    saved.write_bytes(saved.read_bytes()[:-20])
    with pytest.raises(BackendError, match=r"cannot load '.*double\.onnx': "):
        session(saved)
    for broken in (b"", b"not a model"):
        with pytest.raises(BackendError, match="ONNX Runtime cannot load the model: ") as caught:
            session(broken)
        assert "\n" not in str(caught.value)


def test_threads_below_one() -> None:
    with pytest.raises(SpecError, match="0 threads"):
        session(DOUBLE, threads=0)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((ONES, ONES), "2 inputs instead of 1"),
        ((), "given nothing"),
        ((torch.ones(2, 4),), r"takes input float\[batch, 3\], given float32\[2, 4\]"),
        ((ONES.long(),), r"given int64\[2, 3\]"),
    ],
)
def test_inputs_that_do_not_fit(inputs: tuple[torch.Tensor, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        run(session(DOUBLE), inputs)


def test_inputs_come_in_the_width_that_the_model_takes() -> None:
    for kind in (torch.float64, torch.float16):
        np.testing.assert_array_equal(run(session(DOUBLE), (ONES.to(kind),))[0], run(session(DOUBLE), (ONES,))[0])
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (int32[batch, 3] x) => (int32[batch, 3] y) { y = Identity(x) }'
    )
    small = torch.tensor([[1, -2, 3]])
    assert run(session(model), (small,))[0].tolist() == small.tolist()
    with pytest.raises(DataError, match="given int64"):
        run(session(model), (small + 2**40,))


def test_environment_names_the_machine() -> None:
    facts = environment()
    assert {"cpu", "isa", "cores", "affinity", "load_average", "packages"} <= facts.keys()
    assert facts["cpu"]
    assert facts["packages"]["onnx"] == onnx.__version__
    json.dumps(facts, allow_nan=False)

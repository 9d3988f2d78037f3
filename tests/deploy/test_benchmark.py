"""Benchmark: no difference where there is none, the right direction where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from bench_schema import checked
from onnx import numpy_helper

from prunec.deploy.benchmark.contestant import Entry
from prunec.deploy.benchmark.point import Point, document
from prunec.deploy.benchmark.sampling import WALL, Run, Stages, race
from prunec.deploy.benchmark.statistics import Speedup, paired_speedup, spread, undisturbed
from prunec.deploy.benchmark.sweep import Sweep, measure
from prunec.errors import DataError, SpecError

pytestmark = pytest.mark.timed
T = TypeVar("T")
FINE = (1.0, 1.01, 0.99, 1.0, 1.005, 0.995) * 10


def network(width: int, batch: str = "batch", size: str = "128", kind: str = "float") -> onnx.ModelProto:
    """A linear layer from 128 to `width`, a ReLU and one to 10."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g ({kind}[{batch}, {size}] input) => (float[{batch}, 10] output)
        {{ x = Cast<to = 1>(input)  a = MatMul(x, w)  b = Relu(a)  output = MatMul(b, v) }}
    """)
    generator = np.random.default_rng(0)
    for name, shape in (("w", (128, width)), ("v", (width, 10))):
        values = generator.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def times(factor: float, samples: tuple[float, ...] = FINE) -> tuple[float, ...]:
    return tuple(sample * factor for sample in samples)


def comparison(factor: float, control: float = 1.0) -> Point:
    """Simulate B at `factor` of A's time, and a second opening of A at `control`."""
    a = spread([FINE, times(control)])
    b = spread([times(factor * (1 + control) / 2, FINE[::-1])] * 2)
    return Point(1, 1, ("a", "b"), ({WALL: a}, {WALL: b}), ({}, {}), openings=2)


def compare(a: onnx.ModelProto, b: onnx.ModelProto, batch: int = 1, **given: Any) -> Point:
    """Time two models at one batch with one thread."""
    inputs = given.pop("inputs", None)
    (found,) = measure([Entry("a", model=a), Entry("b", model=b)], Sweep((batch,), **given), inputs=inputs)
    return found


def test_a_network_against_itself() -> None:
    found = compare(network(512), network(512), batch=8, seconds=0.4)
    assert found.verdict() == "no difference above the noise floor"
    assert found.noise_floor >= 0.02


def test_four_times_wider_is_slower_and_the_other_way_faster() -> None:
    small, large = network(512), network(2048)
    slower = compare(small, large, batch=8, seconds=0.2)
    assert slower.verdict().startswith("B is ")
    assert "slower" in slower.verdict()
    assert slower.speedups[0].high < 0.7
    faster = compare(large, small, batch=8, seconds=0.2)
    assert "faster" in faster.verdict()
    assert faster.speedups[0].low > 1.4


def test_the_record_is_whole_and_finite() -> None:
    said: list[str] = []

    def track(steps: Iterable[T], what: str, /) -> Iterable[T]:
        said.append(what)
        return steps

    pair, sweep = [Entry(name, model=network(64)) for name in "ab"], Sweep(threads=(2,), seconds=0, iterations=5)
    (found,) = measure(pair, sweep, track=track)
    record = checked(json.loads(json.dumps(document("ab", [found]), allow_nan=False)))
    assert said == ["opening the models", "running each once", "all in turn, batch 1, 2 threads"]
    (point,) = record["points"]
    first, second = point["models"]
    assert [len(one["samples"][WALL]) for one in (first, second)] == [18, 18]
    assert (record["models"], second["name"], point["openings"]) == (["a", "b"], "b (onnxruntime)", 3)
    assert first["p50_ms"] <= first["p90_ms"]
    assert second["verdict"] == found.verdict()
    assert (point["batch"], point["threads"], first["ran_with"]["provider"]) == (1, 2, "cpu")
    assert {"cpu", "isa", "cores", "load_average", "load_average_after"} <= point["environment"].keys()


def test_the_interval_is_the_same_for_the_same_samples() -> None:
    generator = np.random.default_rng(3)
    a, b = (tuple(generator.lognormal(size=50)) for _ in "ab")
    assert paired_speedup(a, b, seed=1) == paired_speedup(a, b, seed=1)
    assert paired_speedup(a, b, seed=1) != paired_speedup(a, b, seed=2)
    found = paired_speedup(a, b)
    assert found.low <= found.ratio <= found.high
    assert paired_speedup((2.0, 4.0), (1.0, 2.0)) == Speedup(2.0, 2.0, 2.0)


def test_the_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(40):
        noise = np.exp(0.3 * generator.standard_normal(60))
        found = paired_speedup(tuple(1.3 * noise), (1.0,) * 60, seed)
        covered += found.low <= 1.3 <= found.high
    assert covered >= 34


@pytest.mark.parametrize(
    ("factor", "control", "verdict"),
    [
        (0.5, 1.0, "B is 2.00x faster (1.99..2.01)"),
        (2.0, 1.0, "B is 2.00x slower (1.99..2.01)"),
        (1.015, 1.0, "no difference above the noise floor"),
        (0.9, 0.8, "no difference above the noise floor"),
        (1.1, 0.8, "no difference above the noise floor"),
    ],
)
def test_verdicts(factor: float, control: float, verdict: str) -> None:
    assert comparison(factor, control).verdict() == verdict


def teller(name: str, calls: list[str]) -> Run:
    """A run that only says that it was called."""

    def run() -> Stages:
        calls.append(name)
        return {}

    return run


@pytest.mark.parametrize(
    ("names", "order"), [("ab", "abba" + "baab" + "abba"), ("abc", "abccba" + "bcaacb" + "cabbac")]
)
def test_models_run_in_turn_there_and_back_twice_each(names: str, order: str) -> None:
    calls: list[str] = []
    found = race([teller(name, calls) for name in names], range(3), warm_up=0)
    assert "".join(calls[-2 * len(order) :: 2]) == "".join(calls[1 - 2 * len(order) :: 2]) == order
    assert [len(each[WALL]) for each in found] == [6] * len(names)
    assert len(calls) - 2 * len(order) == 10 * len(names)


def test_a_disturbance_that_not_all_feel_alike_is_left_out() -> None:
    """Load slows A by 1.3 and B by 1.5 most of the time."""
    generator = np.random.default_rng(4)
    busy = np.arange(600) % 60 < 40
    a, b = (generator.lognormal(0, 0.02, busy.size) * np.where(busy, slower, 1.0) for slower in (1.3, 1.5))
    times_of_a = tuple((1.6 * a).tolist())
    assert paired_speedup(times_of_a, tuple(b.tolist())).ratio == pytest.approx(1.6 * 1.3 / 1.5, rel=0.02)
    assert undisturbed(times_of_a, tuple(b.tolist())).ratio == pytest.approx(1.6, rel=0.01)
    same = tuple((a * generator.lognormal(0, 0.02, busy.size)).tolist())
    assert undisturbed(tuple(a.tolist()), same).ratio == pytest.approx(1.0, abs=0.01)


def test_given_images_are_used() -> None:
    symbolic = network(64, size="features")
    with pytest.raises(SpecError, match=r"float\[batch, features\]: noise needs numbers and fixed sizes; give real"):
        compare(symbolic, symbolic)
    images = (torch.ones(4, 128),)
    found = compare(symbolic, symbolic, 4, inputs=images, seconds=0, iterations=2)
    assert len(found.samples[0][WALL]) == 6  # of three sessions
    with pytest.raises(SpecError, match="batch 5 needs that many images"):
        compare(symbolic, symbolic, batch=5, inputs=images)


def test_refusals() -> None:
    with pytest.raises(SpecError, match="its batch is fixed, so ask for batch 2"):
        compare(network(64, batch="2"), network(64))
    with pytest.raises(DataError, match=r"takes input float\[2, 128\], given float32\[1, 128\]"):
        compare(network(64), network(64, batch="2"))
    with pytest.raises(SpecError, match="noise needs numbers"):
        compare(network(64, size="features", kind="int64"), network(64))
    with pytest.raises(SpecError, match="below 1 cannot be timed"):
        compare(network(64), network(64), batch=0)

"""The parts of a benchmark: verdicts that hold still, trtexec's numbers, stages of a GPU, cores, nvidia-smi."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_benchmark import network
from test_engine_runner import Event, StandIn

from prunec.deploy.benchmark import cores, engine_runs
from prunec.deploy.benchmark.contestant import Entry, Setup
from prunec.deploy.benchmark.gpu_stages import StagedRun
from prunec.deploy.benchmark.gpu_state import gpu_state, throttled
from prunec.deploy.benchmark.metrics import cautions, compared, latency, metrics
from prunec.deploy.benchmark.point import Point
from prunec.deploy.benchmark.sampling import WALL, Samples
from prunec.deploy.benchmark.statistics import MIN_EFFECT, Speedup, Times, noise_floor, paired_speedup
from prunec.deploy.benchmark.sweep import Sweep, measure
from prunec.deploy.tensorrt.runner import Runner
from prunec.errors import BackendError
from prunec.report.benchmark import point_lines

SMI = "NVIDIA H200, GPU-1234, 570.86, P0, 1980, 1980, 3201, 120.5, 700.00, 35, 0x0000000000000020"
ON_GPU: Samples = {
    WALL: (3.0, 3.2), "enqueueMs": (0.9, 0.9), "h2dMs": (0.5, 0.5), "computeMs": (1.0, 1.2), "d2hMs": (0.1, 0.1),
}  # fmt: skip


def drift(generator: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Noise in which neighbours are alike."""
    found = generator.standard_normal(count)
    for place in range(1, count):
        found[place] += 0.9 * found[place - 1]
    return found


def busy_machine(generator: np.random.Generator, count: int) -> tuple[Times, Times]:
    """Simulate paired times under a varying load that affects both runs alike."""
    load = 0.3 * drift(generator, count)
    own = 0.1 * generator.standard_normal((2, count))
    spikes = generator.random((2, count)) < 0.05
    first, second = np.exp(load + own) * np.where(spikes, 3.0, 1.0)
    return tuple(first), tuple(second)


def simulated(seed: int, factor: float = 1.0) -> str:
    """Return the verdict on B at `factor` of A's time, on a busy machine."""
    generator = np.random.default_rng(seed)
    floor = noise_floor(paired_speedup(*busy_machine(generator, 80), seed))
    a, b = busy_machine(generator, 80)
    return paired_speedup(a, tuple(factor * each for each in b), seed).verdict(floor)


def test_a_against_a_is_not_told_apart_on_a_simulated_busy_machine() -> None:
    told = [verdict for verdict in map(simulated, range(50)) if not verdict.startswith("no difference")]
    assert len(told) <= 2, told


def test_what_is_a_third_faster_is_told_on_the_same_machine() -> None:
    assert sum("faster" in simulated(seed, 0.75) for seed in range(50)) >= 45


def test_one_real_model_against_itself(tmp_path: Path) -> None:
    """Check that the verdict follows from the measurement, whatever the load."""
    onnx.save(network(64), tmp_path / "a.onnx")
    entry = Entry.parse(str(tmp_path / "a.onnx"))
    (point,) = measure([entry, entry], Sweep(seconds=0.1, warm_up=0.01))
    (it,) = point.speedups
    claims = it.low > 1 + point.noise_floor or it.high < 1 / (1 + point.noise_floor)
    assert (not point.verdict(1).startswith("no difference")) == claims
    assert point.noise_floor >= MIN_EFFECT
    assert point.noise_floor >= max(point.noise.high, 1 / point.noise.low) - 1


@pytest.mark.parametrize(
    ("slower", "told"), [(1.5, "; 1.60x the speed of A while the machine was quickest"), (1.3, "")]
)
def test_what_an_undisturbed_machine_would_say_is_said_where_it_differs(slower: float, told: str) -> None:
    busy = np.arange(600) % 60 < 40
    a, b = 1.6 * np.where(busy, 1.3, 1.0), np.where(busy, slower, 1.0)
    samples = tuple({WALL: tuple(times.tolist())} for times in (a, b))
    point = Point(1, 1, ("a", "b"), samples, ({}, {}), {"cpu": "one", "cores": 2})
    assert point_lines(point.to_json()).plain.splitlines()[-1] == point.verdict(1) + told


def test_the_interval_knows_that_neighbours_are_alike() -> None:
    """Correlated ratios must give a wider interval than shuffled ones."""
    generator = np.random.default_rng(0)
    ratios = np.exp(0.1 * drift(generator, 400))
    alike, apart = (
        paired_speedup(tuple(each), (1.0,) * 400) for each in (ratios, np.random.default_rng(1).permutation(ratios))
    )
    assert alike.high - alike.low > 1.3 * (apart.high - apart.low)


@pytest.mark.parametrize(
    ("speedup", "gate", "floor", "passes"),
    [
        (Speedup(1.3, 1.25, 1.35), 1.2, 0.02, True),
        (Speedup(1.3, 1.15, 1.45), 1.2, 0.02, False),
        (Speedup(1.3, 1.25, 1.35), 1.2, 0.30, False),
        (Speedup(1.0, 0.97, 1.03), 0.95, 0.10, True),
        (Speedup(1.0, 0.90, 1.10), 0.95, 0.02, False),
    ],
)
def test_a_gate_asks_for_the_whole_interval_above_the_noise(
    speedup: Speedup, gate: float, floor: float, passes: bool
) -> None:
    assert speedup.passes(gate, floor) is passes
    b = tuple(1 / each for each in (speedup.low, speedup.ratio, speedup.ratio, speedup.high))
    point = Point(1, 1, ("a", "b"), ({WALL: (1.0,) * 4}, {WALL: b}), ({}, {}))
    assert point.misses(1000)[0].startswith("B has 1.")
    assert point.misses(0.0001) == []


def test_metrics_have_the_names_and_sums_of_trtexec() -> None:
    assert latency(ON_GPU) == pytest.approx((1.6, 1.8))
    found = metrics(ON_GPU, 8)
    assert found["Latency"]["median"] == pytest.approx(1.7)
    assert found["GPU Compute Time"]["max"] == 1.2
    assert found["H2D Latency"]["percentile(90%)"] == 0.5
    assert found["Enqueue Time"]["percentile(99%)"] is None
    assert found["Throughput"] == pytest.approx(2 / 6.2e-3)
    assert found["Images a second"] == pytest.approx(8 * 2 / 6.2e-3)
    assert found["Total GPU Compute Time"] == pytest.approx(2.2e-3)
    assert "GPU Compute Time" not in metrics({WALL: (1.0, 2.0)}, 1)
    assert metrics({WALL: (1.0,) * 1000}, 1)["Latency"]["percentile(99%)"] == 1.0


def test_models_are_compared_by_compute_only_where_all_have_it() -> None:
    assert compared([ON_GPU, ON_GPU]) == "computeMs"
    assert compared([ON_GPU, {WALL: (1.0,)}]) == WALL
    found = " ".join(cautions(ON_GPU))
    assert "--cuda-graph" in found
    assert "vary by 9.1%" in found
    assert cautions({WALL: (1.0, 9.0)}) == []


@pytest.mark.parametrize("transfers", [True, False])
def test_stages_of_a_run_copy_and_wait_as_asked(transfers: bool) -> None:
    held, result = torch.ones(2, 3), torch.zeros(2, 3)
    events: list[Event] = []

    def event() -> Event:
        events.append(Event())
        return events[-1]

    def start() -> list[torch.Tensor]:
        time.sleep(0.002)
        result.copy_(2 * held)
        return [result]

    run = StagedRun(start, [held], None, transfers, event=event)
    held.fill_(7)
    stages = run()
    assert set(stages) == {"enqueueMs", "h2dMs", "computeMs", "d2hMs"}
    assert stages["computeMs"] >= stages["enqueueMs"] >= 2
    assert [hasattr(each, "waited") for each in events] == [False, False, False, True]
    assert result.unique().tolist() == ([2.0] if transfers else [14.0])  # the host's ones came over, or did not


def test_an_engine_runs_through_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for TensorRT that reads and writes real memory, and events of the host: the rest is as on a GPU."""
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: Event())
    profile = SimpleNamespace(covers=lambda batch: batch <= 4)
    record = {"inputs": {"x": {"type": "float16", "shape": [-1, 3]}}}
    engine: Any = SimpleNamespace(record=record, profile=profile, package="stand_in 1")
    opened = engine_runs.opened(engine, Runner(StandIn(), b"plan", device="cpu"), Setup())
    assert opened.takes is not None
    run = opened.bind(opened.takes.noise(2, 0))
    assert run()["computeMs"] > 0
    assert opened.facts["cuda_graph"] is False
    with pytest.raises(BackendError, match="and not 8"):
        opened.bind(opened.takes.noise(8, 0))


def test_tensorrt_rtx_records_a_graph_by_itself() -> None:
    trt: Any = StandIn()
    trt.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    assert Runner(trt, b"plan", device="cpu", cuda_graph=True).captures
    assert not Runner(trt, b"plan", device="cpu").captures
    assert not Runner(StandIn(), b"plan", device="cpu", cuda_graph=True).captures  # captured by hand


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for nvidia-smi is a shell script")
def test_the_state_of_a_gpu_is_read_and_a_hot_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_state() == {"missing": "there is no nvidia-smi"}
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{SMI}'\n")
    program.chmod(0o755)
    state = gpu_state()
    assert (state["gpu"], state["sm_mhz"], state["watts"], state["slowed_by"]) == ("NVIDIA H200", 1980, 120.5, ["heat"])
    assert throttled({"before": state, "after": state | {"sm_mhz": 1200.0}}) == [
        "the GPU was slowed down by heat: let it rest, and repeat",
        "the GPU's clock went from 1980 to 1200 MHz: lock it with nvidia-smi -lgc",
    ]
    program.write_text("#!/bin/sh\necho no devices were found\nexit 6\n")
    assert gpu_state() == {"missing": "nvidia-smi failed: no devices were found"}


@pytest.mark.skipif(not cores.can_pin(), reason="this system cannot pin threads")
def test_cores_are_those_allowed_and_quiet_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    assert set(cores.quietest(1)) <= allowed
    assert cores.quietest(len(allowed) + 5) == tuple(sorted(allowed))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "_idle", lambda _: {0: 1, 1: 9, 2: 9, 3: 5})
    monkeypatch.setattr(cores, "_place_in_core", lambda core: int(core == 1))  # a second thread of core 0
    assert cores.quietest(2) == (2, 3)
    assert cores.parse("none", 1) is None

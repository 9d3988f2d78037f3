"""Compression of a network that is on a GPU, played by the CPU (`simulated_device`): the same plan, no device mixed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import micro
import pytest
import torch
from micro import three
from simulated_device import CPU, CUDA, Simulated, simulated
from torch import Tensor, fx, nn

import prunec
from prunec import api, device
from prunec.api import PIPELINE, PREPARE
from prunec.channels.spaces import Channels
from prunec.data.images import Images, as_images
from prunec.deploy.ort import parity
from prunec.errors import BackendError, CaptureError, SpecError
from prunec.evaluate import accuracy
from prunec.frontend.capture import capture
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.outcome import calibrated
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass, Pipeline, Verify
from prunec.request.target import Target
from prunec.statistics import store
from prunec.surgery import identity
from prunec.surgery.plan import Plan

IMAGES = torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(1))
FOLDER = Path(prunec.__file__).parent / "passes"
CHEAP: dict[str, Any] = {"selector": "top{by=l1}", "allocator": "uniform", "compensator": "lstsq", "decomposer": "none"}
QUICK = {
    "dais": "dais{steps=4}",
    "cap-search": "cap-search{calls=11,tolerances=2,rounds=2}",
    "evolve": "evolve{generations=1,population=2}",
}


def strategies(folder: str) -> list[str]:
    """The names of all strategies of a kind."""
    names = sorted(path.stem.replace("_", "-") for path in (FOLDER / folder).glob("[a-z]*.py"))
    assert names
    return names


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU that prunec finds."""
    monkeypatch.setattr(calibrated, "named", lambda text: CUDA if text == "cuda" else device.named(text))
    with simulated():
        yield


@cache
def captured(name: str) -> Program:
    return capture(micro.networks()[name].eval(), (IMAGES[:2],))


def both(name: str, pipeline: str | None = None, **options: str) -> tuple[Program, Program]:
    """Run the pipeline on a small network, on the CPU and on a simulated GPU."""
    passes = Pipeline.parse(pipeline or PIPELINE.format(**{**CHEAP, **options}))
    made = []
    for place in (CPU, CUDA):
        context = Context(Target.parse("macs:0.6"), calibration=as_images(IMAGES).on(place))
        made.append(passes.run(captured(name).on(place), context, (Verify(),)))
    return made[0], made[1]


def state(module: fx.GraphModule) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in module.state_dict().items()}


def require_alike(here: Program, there: Program) -> None:
    """Check for equal channels and weights on either device."""
    assert there.fact(Plan).to_json() == here.fact(Plan).to_json()
    assert {value.device for value in there.module.state_dict().values()} == {CUDA}
    found, wanted = state(there.module), state(here.module)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("gpu")
def test_the_same_plan_the_same_accuracy_and_the_same_files(tmp_path: Path) -> None:
    network = three(16, 16, 16)
    here = prunec.compress(network, IMAGES, target="macs:0.5", round_to=4)
    there = prunec.compress(network, IMAGES, target="macs:0.5", round_to=4, device="cuda")
    require_alike(here.program, there.program)
    assert (here.report["capture"]["device"], there.report["capture"]["device"]) == ("cpu", "cuda:0")
    test = Images((IMAGES,), network(IMAGES).argmax(1), "test")
    assert accuracy(there.module, test) == accuracy(here.module, test)
    assert accuracy(there.pruned_only(), test) == accuracy(here.pruned_only(), test)
    assert there.save(tmp_path / "there")["parity"]["ok"]
    here.save(tmp_path / "here")
    for name in ("model.onnx", "model.safetensors", "plan.json"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
    loaded = torch.export.load(tmp_path / "there" / "model.pt2")
    assert {value.device for value in loaded.state_dict.values()} == {CPU}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", strategies("compensators"))
def test_compensators(name: str) -> None:
    require_alike(*both("residual", compensator=name))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", [*(one for one in strategies("selectors") if one != "top"), "obs{swap=2}"])
def test_selectors(name: str) -> None:
    require_alike(*both("batch_norm_after", selector=name))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", strategies("criteria"))
def test_criteria(name: str) -> None:
    require_alike(*both("batch_norm_after", selector=f"top{{by={QUICK.get(name, name)}}}"))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", strategies("allocators"))
def test_allocators(name: str) -> None:
    require_alike(*both("batch_norm_after", allocator=QUICK.get(name, name)))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", strategies("decomposers"))
def test_decomposers(name: str) -> None:
    require_alike(*both("residual", allocator="knapsack", decomposer=name))


PATTERNS = ("permuted_channels", "rolled_channels", "transposed", "flat", "windows", "layer_norm", "fused_attention")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    here, there = both(name, selector="top{by=taylor}", compensator="sequential")
    require_alike(here, there)
    few = IMAGES[:3]
    torch.testing.assert_close(there.module(few.to(CUDA)).cpu(), here.module(few), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("gpu")
def test_norms_that_stay_are_measured_anew() -> None:
    steps = (
        f"{PREPARE},calibrate,select{{method=top{{by=l1}}}},allocate{{method=uniform}},compensate,slice,reestimate-bn"
    )
    require_alike(*both("batch_norm_before", steps))


@pytest.mark.usefixtures("gpu")
def test_the_identity_is_proved_there() -> None:
    for name in ("batch_norm_after", "layer_norm", "mean_over_channels", "permuted_channels"):
        program = api.prepared(captured(name).on(CUDA))
        assert identity.prove(program, program.fact(Channels)) < 1e-9


@pytest.mark.usefixtures("gpu")
def test_images_may_be_there_too_and_onnx_comes_from_the_cpu() -> None:
    model, options = micro.networks()["residual"].eval(), {"target": "macs:0.6", **CHEAP}
    here = prunec.compress(model, IMAGES, **options)
    there = prunec.compress(model, IMAGES.to("cuda"), device="cuda", **options)
    require_alike(here.program, there.program)
    assert there.report["calibration"] == here.report["calibration"]
    assert there.dense_onnx().SerializeToString() == here.dense_onnx().SerializeToString()
    assert parity.compare(there.program.module, here.onnx(), (IMAGES[:4],)).ok


@pytest.mark.usefixtures("gpu")
def test_images_stay_where_they_are_and_their_batches_do_not() -> None:
    images = as_images(IMAGES).on(CUDA).take(20, 0)
    assert {one.device for one in images.inputs} == {CPU}
    assert [(batch[0].device, len(batch[0])) for batch in images.batches(8)] == [(CUDA, 8), (CUDA, 8), (CUDA, 4)]


class Positions(nn.Module):
    """Makes a tensor on the device where it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x)).mean((2, 3))
        return self.fc(y * torch.arange(8, device=x.device, dtype=x.dtype).add(1)[None])  # type: ignore[no-any-return]


@pytest.mark.usefixtures("gpu")
def test_what_the_graph_makes_moves_too() -> None:
    program = capture(Positions().eval(), (IMAGES[:2],))
    there = program.on(CUDA)
    named = [node.kwargs["device"] for node in there.module.graph.nodes if "device" in node.kwargs]
    assert named == [CUDA]
    found = there.module(IMAGES[:2].to(CUDA))
    assert found.device == CUDA
    torch.testing.assert_close(found.cpu(), program.module(IMAGES[:2]))
    back = there.on(CPU)
    assert str(back.module.graph) == str(program.module.graph)
    assert program.on(CPU) is program
    assert program.on(None) is program


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("cudda", SpecError, "'cudda' is no device that prunec computes on: give cpu, cuda"),
        ("mps", SpecError, "'mps' is no device that prunec computes on"),
        pytest.param(
            "cuda",
            BackendError,
            "there is no device cuda: torch .* (finds no GPU|was built without CUDA); leave it out",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
    ],
)
def test_a_device_that_is_not_there(text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        prunec.compress(nn.Identity(), IMAGES, target="macs:0.6", device=text)


def test_devices_are_named() -> None:
    assert device.named("cpu") == CPU
    assert device.named(CPU) == CPU
    assert device.named(None) is None


@pytest.mark.usefixtures("gpu")
def test_statistics_of_a_gpu_are_kept_apart(tmp_path: Path) -> None:
    context = Context(calibration=as_images(IMAGES), cache=tmp_path)
    here, there = (store.place(captured("residual").on(one), context, 64) for one in (CPU, CUDA))
    assert here != there


@pytest.mark.usefixtures("gpu")
def test_a_network_on_two_devices_is_refused() -> None:
    model = micro.networks()["residual"]
    model.get_submodule("fc").to("cuda")
    with pytest.raises(CaptureError, match="the network lies on cpu and cuda:0: move all of it to one device"):
        prunec.inspect(model, (IMAGES[:2],))


def test_too_little_memory_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Pass, program: Program, context: Context) -> Program:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    step = Pipeline.parse("fold-bn")
    monkeypatch.setattr(type(step.passes[0]), "run", full)
    with pytest.raises(BackendError, match=r"'fold-bn' needs more memory than cpu has.*give fewer images"):
        step.run(captured("residual"), Context())


def test_float32_is_float32_for_a_while() -> None:
    def told() -> tuple[Any, ...]:
        cudnn: Any = torch.backends.cudnn
        places = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
        older = (cudnn.allow_tf32, torch.get_float32_matmul_precision(), cudnn.deterministic, cudnn.benchmark)
        return (*(place.fp32_precision for place in places), *older)

    before = told()
    with device.full_float32():
        assert told() == ("ieee", "ieee", "ieee", False, "highest", True, False)
    assert told() == before
    torch.set_float32_matmul_precision("high")
    try:
        quick = told()
        with device.full_float32():
            assert told()[:3] == ("ieee", "ieee", "ieee")
        assert told() == quick
    finally:
        torch.set_float32_matmul_precision("highest")


def test_passes_run_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def run(self: Pass, program: Program, context: Context) -> Program:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return program

    step = Pipeline.parse("slice")
    monkeypatch.setattr(type(step.passes[0]), "run", run)
    monkeypatch.setattr(type(step.passes[0]), "requires", ())
    monkeypatch.setattr(type(step.passes[0]), "provides", ())
    step.run(captured("residual"), Context())
    assert seen == ["ieee"]


def test_the_numbers_of_a_network_come_to_the_cpu() -> None:
    with simulated():
        program = captured("residual").on(CUDA)
        found = graph.numbers(program.module, "fc.weight")
    assert type(found) is Tensor
    assert found.dtype == torch.float64


def test_images_are_handed_on_with_their_device() -> None:
    images = Images((IMAGES,), torch.zeros(32, dtype=torch.int64), "here").on(CUDA)
    assert images.unlabelled().device == images.in_steps(5).device == CUDA
    assert Simulated(IMAGES).device == CUDA

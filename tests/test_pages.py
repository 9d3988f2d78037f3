"""The examples of README and CONTRIBUTING are complete files, and do what the pages say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.grammar.spec import bind, parse, text_of
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.config import CompressRequest
from prunec.request.recipe import merged
from prunec.selection.evidence import Evidence

ROOT = Path(__file__).resolve().parents[1]


def example(page: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the page shows as `…/name.py`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"passes/[a-z/]*{name}\.py`:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} shows no {name}.py"
    path = folder / f"{name}.py"
    path.write_text(found[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + 1) + 2


def test_the_pass_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = example("README.md", "census", tmp_path, monkeypatch).Census
    step = bind(parse("census{top=1}"), kind, {}, None)
    assert str(step) == "census{top=1}"
    program, context = Program(fx.symbolic_trace(Net()), (torch.zeros(2, 3),)), Context()
    after = Pipeline((step,)).run(program, context)
    assert after.module is program.module
    assert list(context.notes["census"].values()) == [2]


def test_the_criterion_of_contributing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = example("CONTRIBUTING.md", "peak", tmp_path, monkeypatch).Peak
    assert text_of(kind(power=2)) == "peak{power=2}"
    context = Context(calibration=as_images(torch.randn(4, 3, 8, 8)))
    program = prepared(capture(small().eval(), (torch.randn(2, 3, 8, 8),)))
    space = program.fact(Channels).prunable[0]
    (weight,) = (value for name, value in program.module.named_parameters() if name.endswith("0.weight"))
    found = kind(power=2).scores(Evidence(program, context, space))
    assert torch.allclose(found, weight.abs().amax((1, 2, 3)).double() ** 2)


def test_the_lines_of_the_readme_compress_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## In Python\n\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    generator = torch.Generator().manual_seed(0)
    monkeypatch.chdir(tmp_path)
    torch.save(torch.randn(128, 3, 8, 8, generator=generator), "calibration.pt")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names: dict[str, Any] = {"MyNetwork": small}
        exec(found[1], names)
    assert names["logits"].shape == (8, 10)
    macs = names["result"].report["macs"]
    assert macs["compressed"] <= 0.5 * macs["dense"]
    written = ["manifest.json", "model.onnx", "model.pt2", "model.safetensors", "plan.json", "report.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written


def test_the_recipe_of_the_readme(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    (tmp_path / "net.toml").write_text(found[1], encoding="utf-8")
    options = merged(CompressRequest, {}, tmp_path / "net.toml")
    assert (options.model, options.images, options.compensator) == ("nets.py:make", 1024, "sequential{ridge=1e-4}")


def small() -> nn.Module:
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def test_the_page_of_the_house_names_every_room_and_only_files_that_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (ROOT / "prunec").glob("*/__init__.py")]
    assert [room for room in rooms if f"`{room}/" not in text] == []
    rows = re.findall(r"^\| `(\w+/)(?:`.*`\w+/)?` \|.*\| `([\w/]+\.py)` \|$", text, re.MULTILINE)
    assert len(rows) > 15
    places = {row: (f"prunec/{row[0]}", "prunec", ".") for row in rows}
    assert [row for row, tops in places.items() if not any((ROOT / top / row[1]).is_file() for top in tops)] == []


def test_the_page_of_the_benchmarks_names_every_script() -> None:
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)\.py", text)) | {"coverage_compress", "coverage_process", "coverage_table"}
    assert sorted({path.stem for path in (ROOT / "bench").glob("*.py")} - named) == ["coverage_torch_pruning"]
    results = re.findall(r"\| `(\w+\.(?:json|md))` \|$", text, re.MULTILINE)
    assert len(results) > 6
    assert [name for name in results if not (ROOT / "bench/results" / name).is_file()] == []

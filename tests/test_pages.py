"""Pages: the examples run, and what the pages name is there."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import DOCS, PAGES, ROOT, blocks
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
from prunec.request.options import optional
from prunec.request.recipe import merged
from prunec.request.values import whole
from prunec.selection.evidence import Evidence

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def example(page: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the page shows as `…/name.py`."""
    (text,) = (block.text for block in blocks(page) if block.file == name)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
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


def test_the_pass_of_the_page_of_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = example("docs/passes.md", "census", tmp_path, monkeypatch).Census
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


WRITTEN = ["manifest.json", "model.onnx", "model.pt2", "model.safetensors", "plan.json", "report.json"]


@pytest.mark.parametrize("page", ["README.md", *DOCS, "CONTRIBUTING.md"])
def test_the_lines_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all blocks that are no file, in order, beside a network and its images."""
    code = [block.text for block in blocks(page) if block.language == "python" and not block.file]
    monkeypatch.chdir(tmp_path)
    torch.save(torch.randn(128, 3, 8, 8, generator=torch.Generator().manual_seed(0)), "calibration.pt")
    names: dict[str, Any] = {"MyNetwork": small, "optional": optional, "whole": whole}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for each in code:
            exec(each, names)
    if page in ("README.md", "docs/python.md"):
        assert names["logits"].shape == (8, 10)
        macs = names["result"].report["macs"]
        assert macs["compressed"] <= (0.5 if page == "README.md" else 0.6) * macs["dense"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == WRITTEN


def test_every_file_that_a_page_shows_is_tested() -> None:
    shown = [(page, block.file) for page in PAGES for block in blocks(page) if block.file]
    assert shown == [("docs/passes.md", "census"), ("CONTRIBUTING.md", "peak")]


@pytest.mark.parametrize("page", ["README.md", *DOCS, "CONTRIBUTING.md"])
def test_the_toml_of_a_page_is_read(page: str, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "toml" and "compress" in tomllib.loads(block.text):
            (tmp_path / "net.toml").write_text(block.text, encoding="utf-8")
            options = merged(CompressRequest, {}, tmp_path / "net.toml")
            assert options.model in ("nets.py:make", "prunec.demo:load_network")
            assert options.compensator in (None, "sequential{ridge=1e-4}")


def test_the_page_of_recipes_has_one() -> None:
    assert blocks("docs/recipes.md")[0].language == "toml"


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

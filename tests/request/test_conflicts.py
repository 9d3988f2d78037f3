"""Options that cannot both hold, or of which one has no effect: refused with both names, in every door."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import prunec
from prunec.cli import app
from prunec.cli.commands import COMMANDS
from prunec.cli.rules import RULES
from prunec.errors import SpecError

NET = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
IMAGES = torch.zeros(4, 3, 8, 8)
PIPELINE = "analyse,calibrate,select,allocate,slice"
COMPRESS = ["compress", "nets.py:make", "--data", "x.npz", "--target", "macs:0.5"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"selector": "obs", "pipeline": PIPELINE}, ("selector=", "pipeline=")),
        ({"allocator": "knapsack", "pipeline": PIPELINE}, ("allocator=", "pipeline=")),
        ({"compensator": "sequential", "pipeline": PIPELINE}, ("compensator=", "pipeline=")),
        ({"decomposer": "none", "pipeline": PIPELINE}, ("decomposer=", "pipeline=")),
        ({"keep_branches": True, "pipeline": PIPELINE}, ("keep_branches=", "pipeline=")),
        ({"pipeline": "analyse", "cache": Path("kept")}, ("cache=kept", "pipeline")),
        ({"on": "ort-cpu"}, ("on=ort-cpu", "target=macs:0.5")),
        ({"align": "auto", "round_to": 8}, ("align=auto", "round_to=8")),
    ],
)
def test_the_library_refuses(options: dict[str, object], named: tuple[str, str]) -> None:
    with pytest.raises(SpecError) as caught:
        prunec.compress(NET, IMAGES, target="macs:0.5", **options)  # type: ignore[call-overload]
    assert all(name in str(caught.value) for name in named), caught.value


def test_a_fixed_batch_takes_no_other() -> None:
    exported = torch.export.export(NET, (IMAGES[:1],))
    with pytest.raises(SpecError, match="batch=2 cannot hold for a network of batches of 1 alone"):
        prunec.compress(exported, IMAGES, target="macs:0.5", batch=2)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ([*COMPRESS, "-o", "out", "--selector", "obs", "--pipeline", PIPELINE], ("--selector", "--pipeline")),
        ([*COMPRESS, "-o", "out", "--keep-branches", "--pipeline", PIPELINE], ("--keep-branches", "--pipeline")),
        ([*COMPRESS, "-o", "out", "--no-bench", "--provider", "cpu"], ("--provider", "--no-bench")),
        ([*COMPRESS, "-o", "out", "--no-bench", "--on", "ort-cpu"], ("--on", "latency")),
        ([*COMPRESS, "-o", "out", "--align", "auto", "--round-to", "8"], ("--align", "--round-to")),
        ([*COMPRESS, "-o", "out", "--classes", "0,1"], ("--classes", "--evaluate")),
        ([*COMPRESS, "-o", "out", "--stop-after", "analyse"], ("--output", "--stop-after")),
        ([*COMPRESS, "--force", "--stop-after", "analyse"], ("--force", "--stop-after")),
        ([*COMPRESS, "--stop-after", "reestimate-bn"], ("--stop-after", "no such pass")),
        ([*COMPRESS, "-o", "out", "--print-after", "reestimate-bn"], ("--print-after", "no such pass")),
        (["export", "n.py:m", "-o", "a.onnx", "--preprocess", "none"], ("--preprocess", "--data")),
        (["inspect", "n.py:m", "--round-to", "8"], ("--round-to", "--how-far")),
        (["lint", "a.onnx", "--images", "64"], ("--images", "--data")),
        (["cast", "a.onnx", "--data", "x", "-o", "b", "--fp16", "--classes", "1"], ("--classes", "--evaluate")),
        (["quantize", "a.onnx", "--data", "x", "-o", "b", "--int8", "--classes", "1"], ("--classes", "--evaluate")),
        (["build", "a.onnx", "--check-only", "-o", "b.engine"], ("--output", "--check-only")),
        (["build", "a.onnx", "--check-only", "--cache", "d"], ("--cache", "--check-only")),
        (["run", "a.engine", "--preprocess", "none"], ("--preprocess", "--data")),
        (["verify", "a.engine", "--preprocess", "none"], ("--preprocess", "--data")),
        (["bench", "a.onnx", "--preprocess", "none"], ("--preprocess", "--data")),
        (["bench", "a.onnx", "--no-transfers"], ("--no-transfers", "a.onnx")),
        (["bench", "a.onnx", "b.onnx", "--transfers"], ("--transfers", "a.onnx")),
        (["bench", "a.onnx", "--no-spin", "--provider", "cuda"], ("--no-spin", "a.onnx")),
        (["bench", "n.py:m", "--spin"], ("--spin", "n.py:m")),
        (["diff", "a.onnx", "b.onnx", "--batch", "1"], ("--batch", "--profile")),
        (["diff", "a.onnx", "b.onnx", "--provider", "cpu"], ("--provider", "--profile")),
        (["evaluate", "n.py:m", "--data", "x", "--as-written"], ("--as-written", "n.py:m")),
    ],
)
def test_commands_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: list[str], named: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, line)
    assert done.exit_code == 2, done.output
    assert all(name in done.output for name in named), done.output


def test_a_recipe_and_the_command_line_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text('[compress]\nselector = "obs"\n')
    done = CliRunner(env={"COLUMNS": "160"}).invoke(
        app, [*COMPRESS, "-o", "out", "--recipe", "r.toml", "--pipeline", PIPELINE]
    )
    assert done.exit_code == 2, done.output
    assert "selector in [compress] of r.toml has no effect beside --pipeline" in done.output


def test_rules_name_options_that_are_there() -> None:
    parameters = {each.__name__: each.__annotations__ for each in COMMANDS}
    for command, rules in RULES.items():
        for rule in rules:
            assert {*rule.options, rule.other} <= parameters[command].keys(), (command, rule)


FILES = {
    "bench": (["a.onnx"], ["--json", "--plot"]),
    "run": (["a.engine"], ["--json", "-o"]),
    "verify": (["a.engine"], ["--json"]),
    "sensitivity": (["n.py:m", "--data", "x.npz"], ["--plot"]),
    "profile": (["n.py:m"], ["-o"]),
    "inspect": (["n.py:m"], ["--html"]),
}


@pytest.mark.parametrize(
    ("command", "option"), [(name, each) for name, (_, options) in FILES.items() for each in options]
)
def test_a_file_that_cannot_be_written_is_named_before_the_work(tmp_path: Path, command: str, option: str) -> None:
    for place, said in ((tmp_path / "none" / "file", "there is no folder"), (tmp_path, "is a folder")):
        done = CliRunner(env={"COLUMNS": "160"}).invoke(app, [command, *FILES[command][0], option, str(place)])
        assert done.exit_code == 8, done.output
        assert said in done.output, done.output


def test_each_file_that_a_command_writes_is_checked_before_the_work() -> None:
    files = {
        (each.__name__, name)
        for each in COMMANDS
        for name, kind in each.__annotations__.items()
        if "Path" in str(kind) and name in ("to_json", "plot", "html", "output")
    }
    ours = {
        "cast",
        "quantize",
        "export",
        "build",
        "compress",
        "demo",
        "sweep",
    }  # check their `output` themselves: --force
    assert {(name, option) for name, option in files if name not in ours} == {
        ("bench", "to_json"), ("bench", "plot"), ("run", "to_json"), ("run", "output"), ("verify", "to_json"),
        ("sensitivity", "plot"), ("profile", "output"), ("inspect", "html"),
    }  # fmt: skip

"""The command line: every command once for good, and every bad input with its sentence, its exit code and no debris."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from bench_schema import checked
from command import prunec
from PIL import Image
from rich.console import Console

from prunec import demo as assets
from prunec.cli import console
from prunec.deploy.onnx import provenance
from prunec.files.artefacts import verify_manifest
from prunec.progress import silent

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return self.fc(x.mean((2, 3)))

def make():
    return Net()

def broken():
    raise KeyError("no such layer")
"""
IMAGES = {"model.onnx", "model.safetensors", "model.pt2", "plan.json", "report.json", "report.html", "manifest.json"}
NORM = ("--preprocess", "mean=0.5,std=0.25")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, arrays of images and folders of pictures. Tests write elsewhere."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (48, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "train.npz", images=pixels[:32])
    np.savez(folder / "test.npz", images=pixels, labels=rng.integers(0, 5, 48))
    np.savez(folder / "gray.npz", inputs=rng.standard_normal((8, 1, 8, 8)).astype(np.float32))
    (folder / "empty").mkdir()
    (folder / "photos").mkdir()
    for number in range(6):
        Image.fromarray(np.kron(pixels[number], np.ones((4, 4, 1), np.uint8))).save(folder / f"photos/{number}.jpg")
    whole = (folder / "photos/0.jpg").read_bytes()
    (folder / "photos/torn.jpg").write_bytes(whole[: len(whole) // 2])
    torch.save({"wrong": torch.zeros(2)}, folder / "wrong.pt")
    return folder


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to write in, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done(place: Path) -> tuple[Path, str]:
    """A folder that `prunec compress` wrote, and what it said."""
    out = place / "out"
    args = compress(place, "--evaluate", place / "test.npz", "--time", "--dump", place / "dump", *NORM, output=out)
    code, said = prunec(*args)
    assert code == 0, said
    return out, said


def compress(place: Path, *more: object, output: Path | str | None = "out", **given: object) -> list[str]:
    """The arguments of a good compression, `given` in the place of some."""
    values = {"model": f"{place / 'nets.py'}:make", "data": place / "train.npz", "target": "macs:0.5", **given}
    tail = ["--data", values["data"], "--target", values["target"], *(() if output is None else ("-o", output)), *more]
    return ["compress", *map(str, [values["model"], *tail])]


# Good paths


def test_compress_writes_the_whole_folder(done: tuple[Path, str]) -> None:
    out, said = done
    assert {each.name for each in out.iterdir()} == IMAGES
    assert verify_manifest(out) == []
    assert "nets.py:make to macs:0.5" in said
    rows = "top-1 accuracy", "MACs an image", "parameters", "ONNX bytes", "latency p50", "where the time", "48 images"
    for row in rows:
        assert row in said


def test_the_report_says_everything(done: tuple[Path, str], place: Path) -> None:
    report = json.loads((done[0] / "report.json").read_text())
    assert report["macs"]["compressed"] <= 0.5 * report["macs"]["dense"]
    assert report["macs"]["dense"] == 64 * 9 * 16 * (3 + 16) + 16 * 5
    assert set(report["accuracy"]) == {"dense", "pruned", "compressed", "images"}
    assert checked(report["latency"])["models"] == ["dense", "compressed"]
    assert report["parity"]["ok"]
    assert report["calibration"]["images"] == 32
    assert report["calibration"]["skipped"] == 0
    assert report["model"]["source"] == f"{place / 'nets.py'}:make"


def test_dumps_are_numbered(done: tuple[Path, str], place: Path) -> None:
    names = sorted(each.name for each in (place / "dump").iterdir())
    assert names
    assert [name[:3] for name in names] == [f"{number:02d}-" for number in range(1, len(names) + 1)]
    assert "## graph" in (place / "dump" / names[-1]).read_text()


def test_evaluate_agrees_between_torch_onnx_and_report(done: tuple[Path, str], place: Path) -> None:
    report = json.loads((done[0] / "report.json").read_text())
    for model, key in ((f"{place / 'nets.py'}:make", "dense"), (done[0] / "model.onnx", "compressed")):
        code, said = prunec("evaluate", model, "--data", place / "test.npz", "--json", *NORM)
        assert code == 0, said
        assert json.loads(said)["top1"] == pytest.approx(report["accuracy"][key])
    code, said = prunec("evaluate", done[0] / "model.pt2", "--data", place / "test.npz", *NORM)
    assert code == 0, said
    assert f"{report['accuracy']['compressed']:.2f}% of 48 images" in said


def test_a_compressed_network_is_exported_again_with_its_story(done: tuple[Path, str], room: Path) -> None:
    code, said = prunec("export", done[0] / "model.pt2", "--opset", "bf16", "-o", "again.onnx")
    assert code == 0, said
    first, again = (provenance.read(onnx.load(path)) for path in (done[0] / "model.onnx", room / "again.onnx"))
    assert again == first
    assert {"version", "source", "pipeline", "plan", "calibration", "target", "seed"} == set(again)


def test_bench(done: tuple[Path, str], room: Path) -> None:
    model = done[0] / "model.onnx"
    code, said = prunec("bench", model, model, "--seconds", "0.05", "--json", "times.json")
    assert code == 0, said
    assert "95% interval" in said
    assert json.loads((room / "times.json").read_text())["models"] == [str(model), str(model)]


def test_inspect(place: Path) -> None:
    model = f"{place / 'nets.py'}:make"
    code, said = prunec("inspect", model, "--input-shape", "3x8x8", "--prove")
    assert code == 0, said
    assert "2 of " in said
    assert "Proved" in said
    code, said = prunec("inspect", model, "--input-shape", "3x8x8", "--json")
    assert code == 0, said
    facts = json.loads(said)
    assert facts["totals"]["prunable"] == 2
    assert facts["totals"]["macs"] == 64 * 9 * 16 * (3 + 16) + 16 * 5
    assert all(space["frozen"] for space in facts["spaces"] if space["size"] != 16)


def test_a_torn_picture_is_skipped_with_a_warning_and_counted(place: Path, room: Path) -> None:
    how = ("--preprocess", "size=8")
    code, said = prunec(*compress(place, "--no-bench", *how, data=place / "photos"))
    assert code == 0, said
    assert "warning: skipped 1 of 7 images" in said
    assert "torn.jpg" in said
    report = json.loads((room / "out/report.json").read_text())
    assert (report["calibration"]["images"], report["calibration"]["skipped"]) == (6, 1)


def test_a_recipe_will_do(place: Path, room: Path) -> None:
    (room / "recipe.toml").write_text(
        f'[model]\nsource = "{place / "nets.py"}:make"\n[data]\nsource = "{place / "train.npz"}"\nimages = 16\n'
        '[compress]\ntarget = "macs:0.9"\n'
    )
    code, said = prunec("compress", "--recipe", "recipe.toml", "--target", "macs:0.6", "-o", "out", "--no-bench")
    assert code == 0, said
    report = json.loads((room / "out/report.json").read_text())
    assert (report["target"], report["calibration"]["images"]) == ("macs:0.6", 16)
    assert onnx.load(room / "out/model.onnx").graph.input[0].name == "input"


def test_stop_after_writes_nothing(place: Path, room: Path) -> None:
    code, said = prunec(*compress(place, "--stop-after", "analyse", "--print-after", "analyse", output=None))
    assert code == 0, said
    assert "## graph" in said
    assert "nothing was written" in said
    assert list(room.iterdir()) == []


def test_list_names_every_strategy() -> None:
    code, said = prunec("list")
    assert code == 0
    for word in ("passes", "selectors", "allocators", "compensators", "obs", "knapsack", "lstsq", "fold-bn"):
        assert word in said
    assert "cannot be imported" not in said


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["compress"],
        ["inspect"],
        ["sensitivity"],
        ["evaluate"],
        ["export"],
        ["cast"],
        ["quantize"],
        ["bench"],
        ["demo"],
    ],
)
def test_help_teaches_by_example(command: list[str]) -> None:
    code, said = prunec(*command, "--help")
    assert code == 0
    assert "    prunec " in said or "prunec inspect" in said


def test_help_and_version_do_not_wait_for_torch() -> None:
    code = "import sys, prunec.cli; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
    assert prunec("--version")[1].startswith("prunec ")


def test_demo(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole demo, on an eighth of its images."""
    calibration, test = assets.calibration_images().take(128, 0), assets.test_images().take(250, 0)
    monkeypatch.setattr(assets, "calibration_images", lambda: calibration)
    monkeypatch.setattr(assets, "test_images", lambda: test)
    code, said = prunec("demo", "--target", "macs:0.5")
    assert code == 0, said
    assert "ResNet-20 on Fashion-MNIST to macs:0.5" in said
    assert "Open it in a browser: demo-out/report.html" in said
    assert "The networks differ on" in (room / "demo-out/report.html").read_text()
    accuracy = json.loads((room / "demo-out/report.json").read_text())["accuracy"]
    assert accuracy["dense"] > 90
    assert accuracy["compressed"] > accuracy["dense"] - 5
    assert accuracy["compressed"] > accuracy["pruned"]
    (room / "demo-out/manifest.json").unlink()
    refused(room, 8, "prunec did not write it", ["demo"])


def test_progress_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    with console.progress() as track:
        assert track is silent
    shown = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(console, "err", shown)
    with console.progress() as track:
        assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
        assert list(track(iter("ab"), "spelling")) == ["a", "b"]
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "counting" in text
    assert "0/3" in text
    assert "spelling" in text


# Bad inputs: a sentence, an exit code, and nothing left behind


def refused(room: Path, code: int, said: str, args: list[str]) -> None:
    before = sorted(room.rglob("*"))
    found, output = prunec(*args)
    assert (found, said in output) == (code, True), output
    assert "Traceback" not in output
    assert "should not have" not in output
    assert len(output.strip().splitlines()) <= 2, output  # the sentence, and which step it was
    assert sorted(room.rglob("*")) == before


@pytest.mark.parametrize(
    ("code", "said", "given"),
    [
        (3, "there is no file none.py", {"model": "none.py:make"}),
        (3, "is not a model that prunec can find", {"model": "nets"}),
        (8, "there are no images at none", {"data": "none"}),
        (2, "a target says what remains", {"target": "macs:0"}),
        (2, "a target says what remains", {"target": "macs:1.5"}),
        (2, "'banana' is not a number", {"target": "macs:banana"}),
        (2, "not of the form macs:SHARE", {"target": "0.5"}),
    ],
)
def test_arguments_that_do_not_do(room: Path, place: Path, code: int, said: str, given: dict[str, str]) -> None:
    refused(room, code, said, compress(place, **given))


@pytest.mark.parametrize(
    ("code", "said", "more"),
    [
        (2, "did you mean knapsack?", ["--allocator", "knapsak"]),
        (2, "no selector is called", ["--selector", "xyz"]),
        (2, "has no option 'ridg'", ["--compensator", "lstsq{ridg=1}"]),
        (2, "no pass is called", ["--pipeline", "fold-bm"]),
        (2, "no pass of analyse makes a plan", ["--pipeline", "analyse"]),
        (8, "cannot be used: Not a directory", ["--dump", "/dev/null/dump"]),
        (2, "no pass is called", ["--print-after", "nothing-like-it"]),
        (2, "opset 7 cannot be exported", ["--opset", "7"]),
        (2, "--images: expected a whole number of at least 1", ["--images", "0"]),
        (2, "is not a shape such as 3x224x224", ["--input-shape", "big"]),
        (2, "preprocess has no", ["--preprocess", "imagnet"]),
        (8, "come as 3x8x8, not 3x9x9", ["--input-shape", "3x9x9"]),
    ],
)
def test_options_that_do_not_do(room: Path, place: Path, code: int, said: str, more: list[str]) -> None:
    refused(room, code, said, compress(place, *more))


def test_a_factory_that_raises(room: Path, place: Path) -> None:
    refused(room, 3, "no such layer", compress(place, model=f"{place / 'nets.py'}:broken"))


def test_weights_that_do_not_fit(room: Path, place: Path) -> None:
    refused(room, 3, "do not fit the network", compress(place, "--weights", place / "wrong.pt"))


def test_an_empty_image_folder(room: Path, place: Path) -> None:
    refused(room, 8, "holds no images", compress(place, data=place / "empty"))


def test_images_of_a_wrong_shape(room: Path, place: Path) -> None:
    refused(room, 8, "which come as 1x8x8", compress(place, data=place / "gray.npz"))


def test_labels_that_are_none(room: Path, place: Path) -> None:
    refused(room, 8, "holds no labels", compress(place, "--evaluate", place / "train.npz"))


def test_a_target_that_cannot_be_reached(room: Path, place: Path) -> None:
    refused(room, 5, "", compress(place, target="macs:0.0001"))


def test_an_output_folder_that_exists(room: Path, place: Path) -> None:
    (room / "out").mkdir()
    (room / "out/mine").touch()
    refused(room, 8, "is not empty: choose another folder, or replace it with --force", compress(place))
    refused(room, 8, "will not remove it", compress(place, "--force"))
    refused(room, 8, "is a file: choose another", compress(place, output="out/mine/deep"))


def test_nowhere_to_write(room: Path, place: Path) -> None:
    refused(room, 2, "give -o", [arg for arg in compress(place) if arg not in ("-o", "out")])


def test_ctrl_c_while_compressing(room: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunec.cli.work.compress", interrupt)
    refused(room, 130, "interrupted; nothing was written", compress(place))


@pytest.mark.parametrize(("failure", "code"), [(KeyboardInterrupt, 130), (OSError(28, "No space left"), 8)])
def test_ctrl_c_and_a_full_disk_while_writing(
    room: Path, place: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, code: int
) -> None:
    def fsync(descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fsync)
    refused(room, code, "disk is full" if code == 8 else "nothing was written", compress(place, "--no-bench"))


def test_an_unknown_failure_is_owned_up_to(room: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("prunec.cli.work.compress", fail)
    code, said = prunec(*compress(place))
    assert (code, "ZeroDivisionError: by zero" in said, "Traceback" in said) == (1, True, False)
    code, said = prunec(*compress(place, "--debug"))
    assert (code, "Traceback" in said) == (1, True)


def interrupt(*args: object, **kwargs: object) -> Iterator[Any]:
    raise KeyboardInterrupt

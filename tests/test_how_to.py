"""Run the commands and the Python of each page of docs/how-to/, beside a small network."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import prunec
from pages import HOW_TO, Block, blocks, text_of
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FILE = re.compile(r"# (\w+\.py)\n")  # first line of a block that is a file
NETS = re.search(r"```python\n# nets\.py\n(.*?)```", text_of("docs/how-to/your-own-network.md"), re.DOTALL)
CODES = {"verify": (0, 7)}  # of success: 7 where there is no GPU to run the engine on
GATES = ("--gate", "lint")
ENGINE = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed: no engine is built"
)
RACES = ("docs/how-to/latency-target.md", "docs/how-to/profile-on-device.md")
MARKS = {**dict.fromkeys(RACES, pytest.mark.timed), "docs/how-to/tensorrt.md": ENGINE}
ALL = [pytest.param(page, marks=MARKS.get(page, ())) for page in HOW_TO]
MADE = {"docs/how-to/your-own-network.md": ("out", "net.safetensors", "nets.py"), "docs/how-to/onnx-file.md": ("out",)}
ELSEWHERE = {  # blocks that run with packages or a network that the tests lack; they have to parse
    "yolo_nets.py": "ultralytics",
    "decode.py": "ultralytics",
    "to_executorch.py": "executorch",
    "to_litert.py": "litert_torch",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a network, its images, its ONNX file and a compression in `out`."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        torch.manual_seed(0)
        pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), dtype=np.uint8)
        assert NETS
        (folder / "nets.py").write_text(NETS[1], encoding="utf-8")
        network = _network()
        save_file(network.state_dict(), "net.safetensors")
        _pictures(pixels, network)
        target = ("--target", "macs:0.5", "-o", "out/")
        for words in (
            ("compress", "nets.py:make", "--weights", "net.safetensors", "--data", "train.npz", *target),
            ("export", "nets.py:make", "--weights", "net.safetensors", "--input-shape", "3x32x32", "-o", "dense.onnx"),
        ):
            code, said = prunec(*words)
            assert code == 0, said
        yield folder


def _network() -> nn.Module:
    names: dict[str, Any] = {}
    assert NETS
    exec(NETS[1], names)
    network: nn.Module = names["make"]().eval()
    return network


def _pictures(pixels: np.ndarray[Any, Any], network: nn.Module) -> None:
    """Write images as files of each kind, labelled by the network itself."""
    inputs = torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        labels = network((inputs - 0.5) / 0.25).argmax(1).numpy()
    ready = ((inputs - 0.5) / 0.25).numpy()
    np.savez("train.npz", inputs=ready)
    np.savez("test.npz", inputs=ready, labels=labels)
    torch.save(torch.from_numpy(ready), "calibration.pt")
    for place in range(10):  # a class is a folder, empty or not
        Path("labelled", str(place)).mkdir(parents=True)
    Path("photos").mkdir()
    for place, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        for folder in (Path("labelled", str(label)), Path("photos")):
            Image.fromarray(image).save(folder / f"{place}.png")


@pytest.mark.parametrize("page", ALL)
def test_every_command_and_block_of_a_page_runs(
    page: str, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    shutil.copytree(bench, place, ignore=shutil.ignore_patterns(*MADE.get(page, ())))
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    names: dict[str, Any] = {"MyNetwork": _loaded}
    with torch.random.fork_rng():
        for block in blocks(page):
            run(block, names)
    sys.modules.pop("nets", None)


def _loaded() -> nn.Module:
    network = _network()
    network.load_state_dict(load_file("net.safetensors"))
    return network


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block: a file is written, commands are called, code is executed; text is for reading."""
    if block.language == "sh":
        for line in block.text.replace("\\\n", " ").splitlines():
            call(line)
    elif block.language == "python":
        file = FILE.match(block.text)
        if file:
            Path(file[1]).write_text(block.text, encoding="utf-8")
            compile(block.text, file[1], "exec")
        else:
            exec(block.text, names)
    elif block.language == "yaml":
        assert_steps_are_commands(block.text)


def call(line: str) -> None:
    """Call a command of prunec as a shell would. Raises AssertionError where it fails."""
    words = shlex.split(line, comments=True)
    target = words.index(">") if ">" in words else len(words)
    code, said = prunec(*words[1:target])
    right = CODES.get(words[1], (0, 9) if any(gate in words for gate in GATES) else (0,))
    assert words[0] == "prunec"
    assert code in right, f"{line}\n{said}"
    if target < len(words):
        Path(words[target + 1]).write_text(said, encoding="utf-8")


def assert_steps_are_commands(text: str) -> None:
    """Check that each step of a workflow runs a known command or uses an action."""
    assert "\t" not in text
    steps = re.findall(r"^ +- (\w+): (.+)$", text, re.MULTILINE)
    assert len(steps) > 3
    assert {kind for kind, _ in steps} == {"uses", "run"}
    assert {line.split()[0] for kind, line in steps if kind == "run"} == {"pip", "prunec"}


def test_files_that_only_parse_are_those_that_need_other_packages() -> None:
    texts = [block.text for page in HOW_TO for block in blocks(page) if block.language == "python"]
    files = {file[1]: text for text in texts if (file := FILE.match(text))}
    assert set(files) == {"nets.py", *ELSEWHERE}
    assert [
        name for name, package in ELSEWHERE.items() if not re.search(rf"^(import|from) {package}", files[name], re.M)
    ] == []


def test_a_wrong_command_would_be_noticed(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench)
    with pytest.raises(AssertionError, match="there is no model file"):
        call("prunec evaluate nothing.onnx --data test.npz")
    with pytest.raises(AssertionError):
        run(Block("python", "assert 1 == 2", ""), {})


def test_the_bench_is_what_the_pages_speak_of(bench: Path) -> None:
    report = json.loads((bench / "out/report.json").read_text())
    assert report["macs"]["share"] <= 0.5
    found: Tensor = _network()(torch.zeros(2, 3, 32, 32))
    assert found.shape == (2, 10)

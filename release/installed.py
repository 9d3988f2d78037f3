"""Check an installed prunec in a bare environment, without any tool for tests: `make wheel-test`.

    build/bare/bin/python -I release/installed.py

Reads nothing of the checkout: the network is written to a temporary folder, and the commands start there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import onnx
import onnxruntime

import prunec
from prunec.grammar.registry import PASSES, STRATEGIES

TOOLS = ("pytest", "hypothesis", "mypy", "ruff", "torchvision", "timm")  # of the tests, and of no user
COMMANDS = ("compress", "sweep", "report", "inspect", "export", "bench", "doctor", "demo", "list")
PROGRAM = Path(sys.executable).with_name("prunec")
NETWORK = """
import torch
from torch import nn


def make() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()
"""


def run(folder: Path, *arguments: str) -> str:
    """Return all that a command of the installed program printed. Raises AssertionError unless it exits with 0."""
    done = subprocess.run(
        [str(PROGRAM), *arguments],
        cwd=folder,
        env={**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"prunec {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr[-4000:]}"
    return done.stdout


def check_that_it_is_the_installed_one(folder: Path) -> None:
    """Compare the place and version of the package with the environment's."""
    assert Path(prunec.__file__).resolve().is_relative_to(Path(sys.prefix).resolve()), prunec.__file__
    assert run(folder, "--version").split()[-1] == importlib.metadata.version("prunec")
    assert Path(prunec.__file__).with_name("py.typed").is_file()


def check_that_the_environment_is_bare(folder: Path) -> None:
    """Find none of the packages that only the tests need."""
    assert [name for name in TOOLS if importlib.util.find_spec(name)] == []


def check_help(folder: Path) -> None:
    """Find the commands in the help."""
    text = run(folder, "--help")
    assert [name for name in COMMANDS if f" {name} " not in text] == []


def check_doctor(folder: Path) -> None:
    """Run the doctor, whose self-test compresses a network."""
    json.loads(run(folder, "doctor", "--json"))


def check_passes(folder: Path) -> None:
    """Load every pass and strategy, and find each in the list."""
    text = run(folder, "list")
    for kind in (PASSES, *STRATEGIES.values()):
        names = kind.names()
        assert names, f"no {kind.kind} is installed"
        assert [name for name in names if not kind.load(name) or name not in text] == []


def check_entry_points(folder: Path) -> None:
    """Find a criterion of another package, and load it."""
    information = folder / "their-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their\nVersion: 0.1\n", encoding="utf-8")
    (information / "entry_points.txt").write_text("[prunec.passes.criteria]\npeak = peak:Peak\n", encoding="utf-8")
    (folder / "peak.py").write_text("class Peak:\n    pass\n", encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        assert "peak" in STRATEGIES["criteria"].names()
        assert STRATEGIES["criteria"].load("peak").__module__ == "peak"
    finally:
        sys.path.remove(str(folder))


def check_compress(folder: Path) -> None:
    """Halve a small network with the defaults, and run what comes out."""
    images = numpy.random.default_rng(0).normal(size=(64, 3, 16, 16)).astype("float32")
    numpy.savez(folder / "images.npz", inputs=images)
    run(folder, "compress", "net.py:make", "--data", "images.npz", "--target", "macs:0.5", "-o", "out")
    made = {path.name for path in (folder / "out").iterdir()}
    assert {"model.onnx", "model.safetensors", "model.pt2", "plan.json", "report.json", "report.html"} <= made, made
    assert _weights(folder / "out/model.onnx") < _weights_of_dense(folder)
    assert _outputs(folder / "out/model.onnx", images[:4]).shape == (4, 10)


def check_export(folder: Path) -> None:
    """Export the dense network, check the file, and run it at another batch size."""
    run(folder, "export", "net.py:make", "--input-shape", "3x16x16", "-o", "net.onnx")
    onnx.checker.check_model(onnx.load(folder / "net.onnx"), full_check=True)
    assert _outputs(folder / "net.onnx", numpy.zeros((3, 3, 16, 16), "float32")).shape == (3, 10)


def _weights(path: Path) -> int:
    """Return the number of weights in an ONNX file."""
    return sum(int(numpy.prod(each.dims)) for each in onnx.load(path).graph.initializer)


def _weights_of_dense(folder: Path) -> int:
    """Return the number of weights of the dense network's ONNX file."""
    run(folder, "export", "net.py:make", "--input-shape", "3x16x16", "-o", "dense.onnx")
    return _weights(folder / "dense.onnx")


def _outputs(path: Path, images: numpy.ndarray) -> numpy.ndarray:
    """Return the first output of an ONNX file, by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return numpy.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


CHECKS: tuple[Callable[[Path], None], ...] = (
    check_that_it_is_the_installed_one,
    check_that_the_environment_is_bare,
    check_help,
    check_doctor,
    check_passes,
    check_entry_points,
    check_compress,
    check_export,
)


def main() -> int:
    """Run all checks; return 1 if one failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.py").write_text(NETWORK, encoding="utf-8")
        for check in CHECKS:
            started = time.monotonic()
            try:
                check(folder)
                word = "passed"
            except Exception as error:  # each check is reported, and the exit code tells
                failed, word = failed + 1, f"FAILED: {type(error).__name__}: {error}"
            print(f"{check.__name__} {time.monotonic() - started:.1f} s {word}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

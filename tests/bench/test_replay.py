"""`bench/replay.py`: today's bytes are those recorded, and a plan that moved is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTHING = 77
PRETENDED = """
import pathlib

class Result:
    def save(self, folder):
        folder.mkdir()
        (folder / "plan.json").write_text("{plan}")
        (folder / "model.onnx").write_text("a model")

def compress(module, images, *, target, align, seed):
    assert (target, align, seed) == ("macs:0.5", "none", 0)
    return Result()
"""


def replay(*options: object) -> tuple[int, str]:
    """The exit code of bench/replay.py, and what it printed."""
    command = [sys.executable, str(ROOT / "bench" / "replay.py"), *map(str, options)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    return run.returncode, run.stdout + run.stderr


def pretended(folder: Path, plan: str) -> Path:
    """A checkout whose prunec writes this plan for every network."""
    (folder / "prunec").mkdir(parents=True, exist_ok=True)
    (folder / "prunec" / "__init__.py").write_text(PRETENDED.format(plan=plan))
    return folder


def test_small_networks_give_the_bytes_that_were_recorded() -> None:
    """If this fails and the change is intended: `python bench/replay.py --record`, and say so in the commit."""
    code, said = replay("--check", "--quick")
    if code == NOTHING:
        pytest.skip(said.strip().replace("\n", "; "))
    assert code == 0, said
    assert said.count(": same, same after") == 3


def test_a_plan_that_moved_and_a_network_that_fails_are_noticed(tmp_path: Path) -> None:
    hashes, only = tmp_path / "hashes.json", ("--only", "micro:option_a")
    checkout = pretended(tmp_path / "other", "a plan")
    code, said = replay(checkout, "--record", hashes, *only)
    assert code == 0, said
    assert "micro:option_a: recorded, recorded after" in said
    pretended(checkout, "a plan that moved")
    code, said = replay(checkout, "--check", hashes, *only)
    assert code == 1
    assert "micro:option_a: DIFFERS, same after" in said
    (checkout / "prunec" / "__init__.py").write_text("def compress(*_, **__):\n    raise ValueError('too small')\n")
    code, said = replay(checkout, "--check", hashes, *only)
    assert code == 1
    assert "micro:option_a: failed, failed" in said
    assert "ValueError: too small" in said


def test_hashes_of_another_environment_are_no_measure(tmp_path: Path) -> None:
    hashes = tmp_path / "hashes.json"
    other = {"cpu": "another", "packages": {"torch": "1.0"}}
    hashes.write_text(json.dumps({"records": [{"environment": other, "networks": {"micro:option_a": {}}}]}))
    code, said = replay("--check", hashes, "--quick")
    assert code == NOTHING
    assert "recorded with cpu another (here " in said
    assert "torch 1.0 (here " in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give another CHECKOUT to compare with"),
        (("--check", "--only", "lenet"), "no network is called lenet; there are micro:dense_block"),
        (("/nowhere",), "holds no prunec/__init__.py"),
    ],
)
def test_wrong_usage_is_explained(options: tuple[str, ...], told: str) -> None:
    code, said = replay(*options)
    assert (code, told in " ".join(said.split())) == (2, True), said

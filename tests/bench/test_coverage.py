"""The quick part of bench/coverage.py: real architectures, all the way to ONNX Runtime."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WARM = f"""  # the processes forked for each network find the exporter loaded, and its operators parsed
import runpy, sys, torch, onnx_registry
from prunec.frontend.capture import capture
from prunec.deploy.onnx.export import export_onnx
onnx_registry.cache_registry()
program = capture(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval(), (torch.randn(2, 3, 8, 8),))
export_onnx(program.module, program.example_inputs)
sys.argv[0] = {str(ROOT / "bench" / "coverage.py")!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_a_dozen_architectures_pass(tmp_path: Path) -> None:
    rows, printed = _swept(tmp_path, "coverage.json")
    assert len(rows) >= 12
    assert {row["name"]: row["result"] for row in rows if row["result"] != "pass"} == {}
    assert all(row["macs_kept"] == row["macs_counted"] for row in rows)
    assert min(row["prunable_share"] for row in rows) > 0.9
    assert "crashes and hangs: 0" in printed


LOCKED = """
import os, sys, time, types
import coverage_process
parent = os.getpid()

class Locked:  # as a thread of the parent that prints would leave it to a process forked meanwhile
    def write(self, text):
        while os.getpid() != parent:
            time.sleep(1)
    def flush(self):
        pass

def side(one, clock, onnx):
    print("a warning", file=sys.stderr)
    print("a line")
    clock.row["result"] = "pass"

sys.stderr = sys.stdout = Locked()
row = coverage_process.isolated(side, types.SimpleNamespace(name="n", kind="k", size=1), False, 2)
os.write(1, row["result"].encode())
"""


def test_a_printing_thread_of_the_parent_holds_no_network_up() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bench")])}
    command = [sys.executable, "-c", LOCKED]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout == "pass", run.stderr


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_compress_with_its_defaults_runs_on_some(tmp_path: Path) -> None:
    rows, _ = _swept(tmp_path, "coverage_compress.json", "--compress")
    assert {row["name"]: row["result"] for row in rows if row["result"] != "pass"} == {}
    assert len(rows) >= 7
    assert all(0 < row["share"] <= 0.6 for row in rows)
    assert all(row["parity"] < 1e-3 for row in rows)


def _swept(folder: Path, results: str, *more: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a quick run of bench/coverage.py, and what it printed."""
    command = [sys.executable, "-c", WARM, "--quick", "--jobs", "2", "--out", str(folder), *more]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / results).read_text())["rows"], run.stdout

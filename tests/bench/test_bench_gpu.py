"""`bench/gpu.py` runs from an uninstalled checkout, on the CPU, with torch, onnx and onnxruntime alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_schema import checked

ROOT = Path(__file__).resolve().parents[2]
ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys("{missing}".split()))  # importing them fails as if they were not there
sys.path.insert(0, "{bench}")
sys.argv[0] = "bench/gpu.py"
runpy.run_path("{bench}/gpu.py", run_name="__main__")
"""
NOT_NEEDED = "rich typer click safetensors PIL onnx_graphsurgeon onnxscript onnx_ir torchvision timm scipy hypothesis"


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the script without optional packages; return its findings."""
    path = tmp_path_factory.mktemp("gpu") / "found.json"
    code = ALONE.format(missing=NOT_NEEDED, bench=ROOT / "bench")
    options = ["--device", "cpu", "--quick", "--only", "torch,torch-graph,ort-cpu,tensorrt", "--json", str(path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *options], env=environment, cwd=path.parent, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_nothing_is_wrong_and_nothing_failed(findings: dict[str, Any]) -> None:
    assert [key for key, one in findings.items() if isinstance(one, dict) and "failed" in one] == []
    right = {key: one["right"] for key, one in findings.items() if isinstance(one, dict) and "right" in one}
    assert all(right.values())
    assert {"wide batch 8 fp32 torch", "wide batch 8 fp16 ort-cpu", "demo batch 8 fp32 ort-cpu"} <= set(right)
    assert findings["calibrate on the CPU"]["top1"] > 80


def test_it_knows_what_it_did_without(findings: dict[str, Any]) -> None:
    assert findings["machine"]["exporter"] == "torch's older one, without onnx_graphsurgeon, onnxscript"
    assert findings["wide batch 8 fp32 torch-graph"] == {"skipped": "CUDA graphs need a GPU"}
    assert "skipped" in findings["wide batch 8 fp32 tensorrt"]


def test_times_and_curves_are_whole(findings: dict[str, Any]) -> None:
    one = findings["wide batch 8 fp32 ort-cpu"]
    dense, compressed = checked(one["latency"])["points"][0]["models"]
    assert compressed["speedup"]["low"] <= compressed["speedup"]["ratio"] <= compressed["speedup"]["high"]
    assert [len(model["samples"]["wallMs"]) >= 20 for model in (dense, compressed)] == [True, True]
    curve = findings["alignment fp32 torch"]
    assert list(curve) == ["48", "63", "64"]
    assert all(value > 0 for value in curve.values())

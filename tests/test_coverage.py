"""The quick part of bench/coverage.py: real architectures, all the way to ONNX Runtime."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_a_dozen_architectures_pass(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "coverage.py"), "--quick", "--jobs", "2", "--out", str(tmp_path)]
    run = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=900
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads((tmp_path / "coverage.json").read_text())["rows"]
    assert len(rows) >= 12
    assert {row["name"]: row["result"] for row in rows if row["result"] != "pass"} == {}
    assert all(row["macs_kept"] == row["macs_counted"] for row in rows)
    assert min(row["prunable_share"] for row in rows if row["kind"] == "cnn") > 0.9
    assert "crashes and hangs: 0" in run.stdout

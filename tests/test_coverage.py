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

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_a_dozen_architectures_pass(tmp_path: Path) -> None:
    rows, printed = _swept(tmp_path, "coverage.json")
    assert len(rows) >= 12
    assert {row["name"]: row["result"] for row in rows if row["result"] != "pass"} == {}
    assert all(row["macs_kept"] == row["macs_counted"] for row in rows)
    assert min(row["prunable_share"] for row in rows if row["kind"] == "cnn") > 0.9
    assert "crashes and hangs: 0" in printed


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_compress_with_its_defaults_runs_on_some(tmp_path: Path) -> None:
    rows, _ = _swept(tmp_path, "coverage_compress.json", "--compress")
    assert {row["name"]: row["result"] for row in rows if row["result"] != "pass"} == {}
    assert len(rows) >= 7
    assert all(0 < row["share"] <= 0.6 for row in rows)
    assert all(row["parity"] < 1e-3 for row in rows)


def _swept(folder: Path, results: str, *more: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a quick run of bench/coverage.py, and what it printed."""
    command = [
        sys.executable,
        str(ROOT / "bench" / "coverage.py"),
        "--quick",
        "--jobs",
        "2",
        "--out",
        str(folder),
        *more,
    ]
    run = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=900
    )
    assert run.returncode == 0, run.stderr
    return json.loads((folder / results).read_text())["rows"], run.stdout

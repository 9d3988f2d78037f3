"""The quick part of bench/precision.py: a real network, dense, in FP16 and INT8, within the bars."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import SHARED, needs_shared

ROOT = Path(__file__).resolve().parents[2]


@needs_shared
def test_a_real_network_is_within_the_bars(tmp_path: Path) -> None:
    out = tmp_path / "precision.json"
    options = f"--dense --only cifar_resnet56 --precisions fp32,fp16,int8 --test-images 250 --data {SHARED} --out {out}"
    command = [sys.executable, "-W", "ignore", str(ROOT / "bench" / "precision.py"), *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = {row["precision"]: row for row in json.loads(out.read_text())["rows"]}
    assert {name: row["layers"] for name, row in rows.items()} == {"fp32": 0, "fp16": 58, "int8": 56}
    assert all(row["met"] for row in rows.values())
    assert rows["fp32"]["max_abs"] < 1e-4
    assert rows["int8"]["bytes"] < 0.3 * rows["fp32"]["bytes"]

"""Read the state of the GPU from nvidia-smi, and detect throttling."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

TEXTS = {"name": "gpu", "uuid": "uuid", "driver_version": "driver", "pstate": "performance_state"}
NUMBERS = {
    "clocks.sm": "sm_mhz", "clocks.max.sm": "sm_mhz_most", "clocks.mem": "memory_mhz", "power.draw": "watts",
    "power.limit": "watts_most", "temperature.gpu": "celsius",
}  # fmt: skip
REASONS = "clocks_throttle_reasons.active"  # drivers after 535 call them event reasons, and know this name too
SLOWED = {
    0x4: "the power limit", 0x8: "a hardware slowdown", 0x20: "heat", 0x40: "heat (hardware)", 0x80: "the power brake",
}  # fmt: skip
PATIENCE_SECONDS = 10


def gpu_state() -> dict[str, Any]:
    """Return name, driver, clocks, power, temperature and throttling; or `missing` with the reason."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {"missing": "there is no nvidia-smi"}
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    query = f"--query-gpu={','.join((*TEXTS, *NUMBERS, REASONS))}"
    command = [program, "-i", device, query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"missing": f"nvidia-smi failed: {error}"}
    if done.returncode:
        return {"missing": f"nvidia-smi failed: {(done.stdout or done.stderr).strip()[:200]}"}
    return _read(done.stdout)


def throttled(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence if the GPU was throttled or its clock changed between states."""
    reasons = sorted({reason for state in states.values() for reason in state.get("slowed_by", ())})
    found = [f"the GPU was slowed down by {', '.join(reasons)}: let it rest, and repeat"] if reasons else []
    clocks = [state["sm_mhz"] for state in states.values() if state.get("sm_mhz")]
    if clocks and max(clocks) > 1.1 * min(clocks):
        found.append(f"the GPU's clock went from {clocks[0]:g} to {clocks[-1]:g} MHz: lock it with nvidia-smi -lgc")
    return found


def _read(text: str) -> dict[str, Any]:
    values = [part.strip() for part in text.strip().splitlines()[0].split(",")]
    if len(values) != len(TEXTS) + len(NUMBERS) + 1:
        return {"missing": f"nvidia-smi said {text.strip()[:200]}"}
    named = dict(zip((*TEXTS.values(), *NUMBERS.values()), values, strict=False))
    found: dict[str, Any] = {name: named[name] for name in TEXTS.values()}
    found |= {name: _number(named[name]) for name in NUMBERS.values()}
    mask = int(values[-1], 16) if values[-1].startswith("0x") else 0
    return {**found, "slowed_by": [reason for bit, reason in SLOWED.items() if mask & bit]}


def _number(text: str) -> float | None:
    """Parse a number; None for `[N/A]`."""
    try:
        return float(text)
    except ValueError:
        return None

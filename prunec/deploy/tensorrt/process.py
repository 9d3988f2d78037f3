"""Starts the worker in surroundings that are the same each time, and reads what it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import errors
from ...errors import BackendError
from ...progress import Track, silent
from .model import Source
from .package import package
from .settings import Settings

KEPT = ("CUDA", "NVIDIA", "LD_", "TRT", "TENSORRT", "ASAN", "COVERAGE")  # of the environment, and these:
KEPT_WHOLE = {"HOME", "PATH" if os.name == "nt" else "", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP"}
LAST_WORDS = 300  # characters of what a worker that crashed had printed
REDRAW_SECONDS = 0.2


def ask(
    source: Source, settings: Settings, timings: bytes = b"", track: Track = silent, what: str = "building"
) -> tuple[dict[str, Any], bytes, bytes]:
    """Return the facts known of the engine, the engine, and the timing cache after it.

    Raises BackendError for what the worker could not do, and where it crashed.
    """
    request = {
        "settings": settings.to_json(),
        "path": str(source.path.resolve()) if source.external else None,
        "timings": timings.hex(),
    }
    command = [sys.executable, "-m", f"{__package__}.worker", json.dumps(request)]
    with source.path.open("rb") as model, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = subprocess.Popen(
            command, stdin=model, stdout=out, stderr=err, env=_environment(settings), cwd=Path(sys.executable).anchor
        )
        for _ in track(_until_done(started), what):
            pass
        out.seek(0)
        err.seek(0)
        return _answer(out.read(), err.read(), started.returncode, settings.backend)


def _until_done(started: subprocess.Popen[bytes]) -> Iterator[int]:
    """Count while the process works; it is ended where the counting stops early."""
    count = 0
    try:
        while started.poll() is None:  # ends: with the process, which is killed where the reader stops
            try:
                started.wait(REDRAW_SECONDS)
            except subprocess.TimeoutExpired:
                yield (count := count + 1)
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def _answer(out: bytes, err: bytes, code: int, backend: str) -> tuple[dict[str, Any], bytes, bytes]:
    """The reply, or the BackendError that it tells or that its absence is."""
    line, _, rest = out.partition(b"\n")
    if code != 0 or not line:
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = err.decode(errors="replace").strip()[-LAST_WORDS:].replace("\n", " ")
        raise BackendError(f"{backend} ended with {ended} while it built this network: {said or 'it said nothing'}")
    facts: dict[str, Any] = json.loads(line)
    if "error" in facts:
        raise getattr(errors, facts["class"])(facts["error"])
    engine, timings = facts.pop("parts")
    return facts, rest[:engine], rest[engine : engine + timings]


def _environment(settings: Settings) -> dict[str, str]:
    """Only what TensorRT or Python may need: the rest moves addresses about."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_WHOLE or name.startswith(KEPT)}
    return {**kept, "PYTHONPATH": os.pathsep.join(_paths(settings)), "PYTHONHASHSEED": "0"}


def _paths(settings: Settings) -> list[str]:
    """List the folders to import prunec and the package from, so that an uninstalled checkout works too."""
    found = [str(Path(__file__).resolve().parents[3])]
    origin = package(settings.backend).folder()
    return found if origin is None else [*found, str(Path(origin).resolve().parents[1])]

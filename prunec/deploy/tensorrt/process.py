"""Start the worker in a reproducible environment, and read its reply."""

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

KEPT = ("CUDA", "NVIDIA", "LD_", "TRT", "TENSORRT", "ASAN", "COVERAGE")  # prefixes of variables, and whole names:
KEPT_WHOLE = {"HOME", "PATH" if os.name == "nt" else "", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP"}
LAST_WORDS = 300  # characters of a crashed worker's output
REDRAW_SECONDS = 0.2


def ask(
    source: Source, settings: Settings, timings: bytes = b"", track: Track = silent, what: str = "building"
) -> tuple[dict[str, Any], bytes, bytes]:
    """Return facts, the engine and its timing cache. Raises BackendError if the worker fails or crashes."""
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
    """Count while the process runs; kill it if the counting stops early."""
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
    """Parse the reply, or raise the BackendError that it or its absence reports."""
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
    """Return the variables that TensorRT or Python may need; others change memory addresses."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_WHOLE or name.startswith(KEPT)}
    return {**kept, "PYTHONPATH": os.pathsep.join(_paths(settings)), "PYTHONHASHSEED": "0"}


def _paths(settings: Settings) -> list[str]:
    """Return import folders of prunec and the package, for uninstalled checkouts too."""
    found = [str(Path(__file__).resolve().parents[3])]
    origin = package(settings.backend).folder()
    return found if origin is None else [*found, str(Path(origin).resolve().parents[1])]

"""Name the folder that is kept between runs, and lock a file in it.

    latency/       tables of this machine, always kept: KEY.json, and KEY.json.damaged where one was set aside
    statistics/    of calibrations, kept with `--cache`: KEY.safetensors
    engines/       kept with `--cache`: KEY.engine with its record, and KEY.timings of TensorRT's kernels

The folder is `--cache DIR`, else $PRUNEC_CACHE, else the user's cache folder. KEY digests all that an entry depends on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ..errors import DataError

VARIABLE = "PRUNEC_CACHE"
PATIENCE = 60.0  # seconds to wait for another process, which reads and writes in far less than one


def folder(kind: str, given: Path | None = None) -> Path:
    """Return the sub-folder `kind` of the folder `given`, by default of the user's."""
    named = os.environ.get(VARIABLE)
    usual = Path(named).expanduser() if named else user_cache_path("prunec", appauthor=False)
    return (usual if given is None else given) / kind


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, `path`.lock. Raises DataError with the reason, without advice."""
    lock = FileLock(f"{path}.lock", timeout=PATIENCE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise DataError(f"another process has held {path.name}.lock for {PATIENCE:.0f} s") from error
    except (OSError, NotImplementedError) as error:  # the latter: a file system that knows no locks
        raise DataError(getattr(error, "strerror", None) or str(error)) from error
    try:
        yield
    finally:
        lock.release()

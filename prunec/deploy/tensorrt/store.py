"""Store an engine with its record, and cache both for the next build.

net.engine        TensorRT's plan
net.engine.json   package, version, GPUs, profile, sha256 of the ONNX file, flags by name, data types of the layers

Each has a digest of its content. Processes lock an engine of the cache while they read or write it, and share engines.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BackendError, DataError, PrunecWarning, SpecError
from ...files.artefacts import write_bytes, write_json
from ...files.cache import folder, locked
from ...files.digest import of_json
from .model import Source
from .settings import Profile, Settings

FORMAT = 1
RECORD = "record_sha256"  # of the other entries
TIMINGS = b"prunec timings 1 "  # header; then the sha256 of the data, in hexadecimal, and the data


@dataclass(frozen=True)
class Engine:
    """Plan and its record."""

    plan: bytes
    record: Mapping[str, Any]

    @property
    def profile(self) -> Profile | None:
        """Return its batch sizes; None if the network fixes its batch."""
        found = self.record["settings"]["profile"]
        return None if found is None else Profile(**found)

    @property
    def package(self) -> str:
        """Return the package and version, `tensorrt_rtx 1.7.1.116`."""
        return f"{self.record['package']} {self.record['version']}"


def record_path(path: Path) -> Path:
    """Return the path of an engine's record."""
    return path.with_name(f"{path.name}.json")


def key(source: Source, settings: Settings, module: str, version: str, present: str | None) -> str:
    """Return a digest, 32 hexadecimal digits, of all that determines an engine. File names do not count."""
    facts = [FORMAT, module, version, present, source.sha256, settings.to_json()]
    return of_json(facts)[:32]


def require_free(path: Path) -> None:
    """Raise SpecError, before any work, if `save` would overwrite a foreign file."""
    if path.exists() and not record_path(path).is_file():
        raise SpecError(f"{path} is there, and prunec did not build it: choose another name with -o")
    if not path.resolve().parent.is_dir():
        raise DataError(f"{path} cannot be written, for there is no folder {path.parent}: make it first")


def save(engine: Engine, path: Path) -> None:
    """Write the plan and its record; if the disk refuses, keep the former pair.

    The record is written first, with the sha256 of the plan, so `load` refuses a torn pair. Raises as `require_free`,
    DataError if the disk refuses.
    """
    require_free(path)
    _write(engine, path)


def _write(engine: Engine, path: Path) -> None:
    """Write both, or restore the former record. Raises DataError."""
    beside = record_path(path)
    before = beside.read_bytes() if beside.is_file() else None
    record = dict(engine.record)
    write_json(beside, {**record, RECORD: of_json(record)})
    try:
        write_bytes(path, engine.plan)
    except BaseException:
        if before is None:
            beside.unlink(missing_ok=True)
        else:
            write_bytes(beside, before)
        raise


def load(path: Path) -> Engine:
    """Read both. Raises BackendError if one is missing or changed."""
    if not path.is_file():
        raise BackendError(f"there is no engine '{path}'")
    beside = record_path(path)
    if not beside.is_file():
        raise BackendError(
            f"'{path}' has no record {beside.name} beside it, which says for what it was built: copy it too, or build"
            " the engine again with prunec build"
        )
    plan = path.read_bytes()
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
        written, sealed = record["sha256"], record.pop(RECORD, None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"'{beside}' is no record of prunec's: build the engine again with prunec build") from error
    if sealed is not None and sealed != of_json(record):  # older records have none
        raise BackendError(f"'{beside}' is not as prunec wrote it: build the engine again with prunec build")
    if written != hashlib.sha256(plan).hexdigest():
        raise BackendError(f"'{path}' is not the engine that its record describes: build it again with prunec build")
    return Engine(plan, record)


class Cache:
    """Folder of engines by key, and of timing caches by package and GPU."""

    def __init__(self, given: Path) -> None:
        """Create the folder below the one given. Raises BackendError if it is not writable."""
        self._folder = folder("engines", given)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(f"the cache {given} cannot be made, {error.strerror}: choose another") from error
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise BackendError(f"the cache {given} cannot be written: choose another, or leave --cache out")

    def find(self, name: str) -> Engine | None:
        """Return the engine of a key if complete, else None."""
        path = self._engine(name)
        try:
            with locked(path):
                return load(path) if path.is_file() else None
        except (BackendError, DataError):  # damaged, or not to be locked: it is built anew
            return None

    def keep(self, name: str, engine: Engine) -> None:
        """Store an engine unless another process has; warn if the disk refuses."""
        path = self._engine(name)
        try:
            with locked(path):
                if not _is_whole(path):
                    _write(engine, path)
        except (BackendError, DataError) as error:
            warnings.warn(f"the engine is not kept for the next build: {error}", PrunecWarning, stacklevel=2)

    def timings(self, name: str) -> bytes:
        """Return the timing cache of that name; empty if missing or changed."""
        path = self._timings(name)
        try:
            found = path.read_bytes()
        except OSError:  # none yet
            return b""
        head, data = found[: len(TIMINGS) + 64], found[len(TIMINGS) + 64 :]
        return data if head == _sealed(data)[: len(head)] else b""

    def keep_timings(self, name: str, data: bytes) -> None:
        """Store a timing cache; of two processes the last one wins.

        Each holds its start and its own timings, so at most the other's are measured again: only TensorRT could merge
        them. If the disk refuses, warn: the next build takes longer.
        """
        if not data:
            return
        try:
            write_bytes(self._timings(name), _sealed(data))
        except DataError as error:
            warnings.warn(f"TensorRT's timings are not kept for the next build: {error}", PrunecWarning, stacklevel=2)

    def _engine(self, name: str) -> Path:
        return self._folder / f"{name}.engine"

    def _timings(self, name: str) -> Path:
        return self._folder / f"{name}.timings"


def _is_whole(path: Path) -> bool:
    try:
        load(path)
    except BackendError:
        return False
    return True


def _sealed(data: bytes) -> bytes:
    return TIMINGS + hashlib.sha256(data).hexdigest().encode() + data

"""An engine on disk: the plan, its record beside it, and a folder that keeps both for the next build.

net.engine        what TensorRT wrote
net.engine.json   package, version, GPUs, profile, sha256 of the ONNX file, flags by name, data types of the layers
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...artefacts import write_bytes, write_json
from ...errors import BackendError, DataError, SpecError
from .model import Source
from .settings import Profile, Settings

FORMAT = 1


@dataclass(frozen=True)
class Engine:
    """A plan and what is known of it."""

    plan: bytes
    record: Mapping[str, Any]

    @property
    def profile(self) -> Profile | None:
        """The batch sizes that it takes; None where the network fixes its batch."""
        found = self.record["settings"]["profile"]
        return None if found is None else Profile(**found)

    @property
    def package(self) -> str:
        """`tensorrt_rtx 1.7.1.116`"""
        return f"{self.record['package']} {self.record['version']}"


def record_path(path: Path) -> Path:
    """Where the record of an engine is."""
    return path.with_name(f"{path.name}.json")


def key(source: Source, settings: Settings, module: str, version: str, present: str | None) -> str:
    """What an engine depends on, as 32 hexadecimal digits; not on where the ONNX file is or what it is called."""
    facts = [FORMAT, module, version, present, source.sha256, settings.to_json()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def require_free(path: Path) -> None:
    """Raise SpecError, before any work, where `save` would write over what is no engine of prunec's."""
    if path.exists() and not record_path(path).is_file():
        raise SpecError(f"{path} is there, and prunec did not build it: choose another name with -o")
    if not path.resolve().parent.is_dir():
        raise DataError(f"{path} cannot be written, for there is no folder {path.parent}: make it first")


def save(engine: Engine, path: Path) -> None:
    """Write the plan and its record, both or neither. Raises as `require_free`, DataError where the disk refuses."""
    require_free(path)
    write_bytes(path, engine.plan)
    try:
        write_json(record_path(path), dict(engine.record))
    except BaseException:
        path.unlink(missing_ok=True)
        record_path(path).unlink(missing_ok=True)
        raise


def load(path: Path) -> Engine:
    """Read both. Raises BackendError where one is missing or is not what was written."""
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
        written = record["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"'{beside}' is no record of prunec's: build the engine again with prunec build") from error
    if written != hashlib.sha256(plan).hexdigest():
        raise BackendError(f"'{path}' is not the engine that its record describes: build it again with prunec build")
    return Engine(plan, record)


class Cache:
    """A folder of engines by key, and of timing caches by package and GPU."""

    def __init__(self, folder: Path) -> None:
        """Make the folder. Raises BackendError where nothing can be written in it."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(f"the cache {folder} cannot be made, {error.strerror}: choose another") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BackendError(f"the cache {folder} cannot be written: choose another, or leave --cache out")

    def find(self, name: str) -> Engine | None:
        """The engine of that key, if it is there and whole."""
        path = self._engine(name)
        if not path.is_file():
            return None
        try:
            return load(path)
        except BackendError:  # torn or tampered with: it is built anew, and written over
            return None

    def keep(self, name: str, engine: Engine) -> None:
        """Keep an engine. Raises BackendError where it cannot be written."""
        path = self._engine(name)
        try:
            write_bytes(path, engine.plan)
            write_json(record_path(path), dict(engine.record))
        except (OSError, DataError) as error:
            path.unlink(missing_ok=True)
            raise BackendError(f"the cache {self._folder} cannot be written, {error}: choose another") from error

    def timings(self, name: str) -> bytes:
        """The timing cache of that name; empty where there is none yet."""
        path = self._timings(name)
        return path.read_bytes() if path.is_file() else b""

    def keep_timings(self, name: str, data: bytes) -> None:
        """Keep a timing cache."""
        if data:
            write_bytes(self._timings(name), data)

    def _engine(self, name: str) -> Path:
        return self._folder / f"{name}.engine"

    def _timings(self, name: str) -> Path:
        return self._folder / f"{name}.timings"

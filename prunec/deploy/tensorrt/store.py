"""An engine on disk: the plan, its record beside it, and a folder that keeps both for the next build.

net.engine        what TensorRT wrote
net.engine.json   package, version, GPUs, profile, sha256 of the ONNX file, flags by name, data types of the layers

Each carries the digest of its content. In the folder one process at a time reads or writes an engine, and what another
has kept is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...errors import BackendError, DataError, PrunecWarning, SpecError
from ...files.artefacts import write_bytes, write_json
from .model import Source
from .settings import Profile, Settings

FORMAT = 1
RECORD = "record_sha256"  # of all else in the record
TIMINGS = b"prunec timings 1 "  # then the sha256 of the rest, in hexadecimal, and the rest
PATIENCE = 60.0  # seconds to wait for another process, which needs far less than one to write


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
    """Return the path of an engine's record."""
    return path.with_name(f"{path.name}.json")


def key(source: Source, settings: Settings, module: str, version: str, present: str | None) -> str:
    """Return a digest, 32 hexadecimal digits, of all that an engine depends on; not of the ONNX file's path or name."""
    facts = [FORMAT, module, version, present, source.sha256, settings.to_json()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def require_free(path: Path) -> None:
    """Raise SpecError, before any work, where `save` would write over what is no engine of prunec's."""
    if path.exists() and not record_path(path).is_file():
        raise SpecError(f"{path} is there, and prunec did not build it: choose another name with -o")
    if not path.resolve().parent.is_dir():
        raise DataError(f"{path} cannot be written, for there is no folder {path.parent}: make it first")


def save(engine: Engine, path: Path) -> None:
    """Write the plan and its record; where the disk refuses, the pair that was there stays.

    The record goes first, with the sha256 of the plan: a pair that is torn by a kill is refused when it is read.
    Raises as `require_free`, DataError where the disk refuses.
    """
    require_free(path)
    _write(engine, path)


def _write(engine: Engine, path: Path) -> None:
    """Write both, or put back what was there. Raises DataError."""
    beside = record_path(path)
    before = beside.read_bytes() if beside.is_file() else None
    record = dict(engine.record)
    write_json(beside, {**record, RECORD: _digest(record)})
    try:
        write_bytes(path, engine.plan)
    except BaseException:
        if before is None:
            beside.unlink(missing_ok=True)
        else:
            write_bytes(beside, before)
        raise


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


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
        written, sealed = record["sha256"], record.pop(RECORD, None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"'{beside}' is no record of prunec's: build the engine again with prunec build") from error
    if sealed is not None and sealed != _digest(record):  # those of before had none
        raise BackendError(f"'{beside}' is not as prunec wrote it: build the engine again with prunec build")
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
        try:
            with self._locked(path):
                return load(path) if path.is_file() else None
        except BackendError:  # torn or tampered with: it is built anew, and written over
            return None

    def keep(self, name: str, engine: Engine) -> None:
        """Keep an engine, unless another process has kept it meanwhile; a disk that refuses is a warning."""
        path = self._engine(name)
        try:
            with self._locked(path):
                if not _is_whole(path):
                    _write(engine, path)
        except (BackendError, DataError) as error:
            warnings.warn(f"the engine is not kept for the next build: {error}", PrunecWarning, stacklevel=2)

    def timings(self, name: str) -> bytes:
        """The timing cache of that name; empty where there is none yet, or not as it was written."""
        path = self._timings(name)
        try:
            found = path.read_bytes()
        except OSError:  # none yet
            return b""
        head, data = found[: len(TIMINGS) + 64], found[len(TIMINGS) + 64 :]
        return data if head == _sealed(data)[: len(head)] else b""

    def keep_timings(self, name: str, data: bytes) -> None:
        """Keep a timing cache; of two processes' the last whole one, for each holds what it began with and its own.

        What the other measured is measured again at most: TensorRT alone could join them. A disk that refuses costs
        the next build time and nothing else, so it is a warning.
        """
        if not data:
            return
        try:
            write_bytes(self._timings(name), _sealed(data))
        except DataError as error:
            warnings.warn(f"TensorRT's timings are not kept for the next build: {error}", PrunecWarning, stacklevel=2)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold the lock of an engine. Raises BackendError where another process holds it too long, or there is none."""
        lock = FileLock(f"{path}.lock", timeout=PATIENCE)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError) as error:
            raise BackendError(f"{path.name}.lock in {self._folder} cannot be held ({error})") from error
        try:
            yield
        finally:
            lock.release()

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

"""Write artefacts atomically: under a hidden name in the same folder, flushed, then renamed.

A folder of artefacts carries ``manifest.json`` (`prunec.files.manifest`); hidden names are in `prunec.files.scratch`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, NumericsError, PrunecError
from . import scratch
from .manifest import NAME as MANIFEST
from .manifest import amended, canonical, compose, verify_manifest

__all__ = [
    "MANIFEST",
    "add_file",
    "folder",
    "require_file",
    "require_free",
    "verify_manifest",
    "write_bytes",
    "write_json",
]

_TAKEN = errno.ENOTEMPTY, errno.EEXIST
_PAUSE = 0.01  # seconds to wait before the next attempt at a name that another writer holds
_FULL = "No space left on device"
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space, or write elsewhere",
    errno.EFBIG: "the system allows no file of that size: raise its limit (ulimit -f), or write elsewhere",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "permission denied: choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: write elsewhere",
    errno.EIO: "the disk fails: write elsewhere",
    errno.ENAMETOOLONG: "the name is too long for the file system: choose a shorter one",
    errno.ENOENT: "there is no such folder, or it was removed meanwhile: make it first",
    errno.ENOTDIR: "a part of its path is a file: choose another folder",
    errno.ENOTEMPTY: "something else was written there meanwhile: choose another folder, or replace it with --force",
    errno.EEXIST: "something else was written there meanwhile: choose another folder, or replace it with --force",
}


@contextmanager
def folder(path: Path, force: bool = False, facts: Mapping[str, object] | None = None) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` on success and is removed on any exception.

    ``facts`` are written to the manifest at the end, so the caller may fill the mapping meanwhile. With ``force`` a
    folder that prunec wrote before (it holds a manifest) is replaced once the new one is complete; of two concurrent
    writers the last one wins, or is refused without ``force``. Raises DataError if ``path`` is taken or the disk is
    full or refuses; NumericsError if a fact is not finite.
    """
    path = path.resolve()
    require_free(path, force)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.reserved(path, is_folder=True) as partial, _explained(path):
            yield partial
            _write_manifest(partial, facts or {})
            for each in [*sorted(partial.rglob("*")), partial]:
                _sync(each)
            _place(partial, path, force)
            _sync(path.parent)


def require_free(path: Path, force: bool = False) -> None:
    """Raise DataError, before any work, if ``folder(path, force)`` would be refused."""
    with _explained(path):
        path = path.resolve()
        scratch.recover(path)
        _require_parent(path)
        there = _names_in(path)
    if not there:
        return
    if not force:
        raise DataError(f"{path} exists and is not empty: choose another folder, or replace it with --force")
    if MANIFEST not in there:
        raise DataError(
            f"{path} holds no {MANIFEST}, so prunec did not write it and --force will not remove it: choose another"
        )


def require_file(path: Path, force: bool = True) -> None:
    """Raise DataError, before any work, if ``path`` is not writable, or taken without ``force``."""
    with _explained(path):
        taken = _is_there(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder, and a file is to be written there: give a name such as {path}/NAME")
    if taken and not force:
        raise DataError(f"{path} exists: choose another name, or replace it with --force")
    if not path.resolve().parent.is_dir():
        raise DataError(f"{path} cannot be written, for there is no folder {path.parent}: make it first")
    if not taken or path.is_file():
        _require_parent(path.resolve())


def write_bytes(path: Path, data: bytes) -> None:
    """Write one file atomically; a pipe or a device directly. Raises DataError if the disk is full or refuses."""
    with _explained(path):
        path = path.resolve()
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        with scratch.reserved(path, is_folder=False) as partial, _explained(path):
            partial.write_bytes(data)
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)


def write_json(path: Path, obj: object) -> None:
    """Write ``obj`` as JSON with sorted keys, atomically and reproducibly.

    Raises NumericsError if a number is not finite (JSON cannot hold it), DataError as ``write_bytes`` does.
    """
    with _finite(path):
        data = canonical(obj)
    write_bytes(path, data)


def add_file(folder: Path, name: str, data: bytes) -> Path:
    """Write one file into a finished folder, and list it in the manifest.

    Other entries of the manifest stay as they are; a manifest that cannot be relied on is left alone. Raises DataError
    as ``write_bytes`` does.
    """
    write_bytes(folder / name, data)
    with contextlib.suppress(OSError, ValueError):
        write_bytes(folder / MANIFEST, canonical(amended(folder, name)))
    return folder / name


def _write_manifest(partial: Path, facts: Mapping[str, object]) -> None:
    with _finite(partial / MANIFEST):
        found = compose(partial, facts)
    write_json(partial / MANIFEST, found)


def _place(partial: Path, path: Path, force: bool) -> None:
    """Rename ``partial`` to ``path``; replace another writer's result only with ``force``.

    Other writers may take or release the name between any two steps, so a failed step is tried again.
    """
    for attempt in range(scratch.TRIES):
        try:
            partial.rename(path)
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        require_free(path, force)
        try:
            scratch.replace_folder(partial, path)
            return
        except OSError as error:
            if error.errno not in (*_TAKEN, errno.ENOENT) or attempt == scratch.TRIES - 1:
                raise
        time.sleep(_PAUSE)


def _require_parent(path: Path) -> None:
    nearest = next(each for each in path.parents if os.path.lexists(each))
    if not nearest.is_dir():
        raise DataError(f"{path} cannot be made, for {nearest} is a file: choose another folder")
    if not os.access(nearest, os.W_OK):
        raise DataError(f"cannot write {path}: {_ADVICE[errno.EACCES]}")


def _names_in(path: Path) -> list[str]:
    """Return the names in a folder at one moment; empty if there is none.

    Other processes may exchange the folder meanwhile. Raises DataError if ``path`` is a file.
    """
    for _ in range(scratch.TRIES):
        with contextlib.suppress(FileNotFoundError):
            before = path.lstat()
            if not stat.S_ISDIR(before.st_mode):
                raise DataError(f"{path} is a file, and a folder is to be written there: choose another name")
            names = os.listdir(path)
            if os.path.samestat(before, path.lstat()):
                return names
        if not _is_there(path):
            return []
    raise DataError(f"{path} is exchanged by other processes all the time: choose another folder")


def _is_there(path: Path) -> bool:
    """Return whether anything has that name. Raises OSError for an invalid name."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def _finite(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise NumericsError(
            f"{path.name} would hold a number that is not finite ({error}), so it was not written"
        ) from error


def refusal(error: BaseException) -> str:
    """Return advice for a disk that is full or refuses; empty for any other error."""
    if _FULL in str(error):
        return _ADVICE[errno.ENOSPC]
    return _ADVICE.get(error.errno or 0, "") if isinstance(error, OSError) else ""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a refusal into a DataError with advice, by final names."""
    path = scratch.final(path)
    try:
        yield
    except PrunecError:
        raise
    except Exception as error:  # torch and others report a full disk with exceptions of their own
        code = _code_of(error, path)
        if not code:
            raise
        reason = _ADVICE.get(code) or f"{os.strerror(code)}: write elsewhere"
        raise DataError(f"cannot write {path}: {reason}") from error


def _code_of(error: Exception, path: Path) -> int:
    """Return the errno of a refusal to write under ``path``; 0 for other errors."""
    if _FULL in str(error):
        return errno.ENOSPC
    if not isinstance(error, OSError) or not error.errno:
        return 0
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    return error.errno if not names or any(_concerns(scratch.final(name), path) for name in names) else 0


def _concerns(name: Path, path: Path) -> bool:
    return path in (name, *name.parents) or name in path.parents or name.name.startswith(scratch.PREFIX)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and needs no flush to rename one
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Artefacts are whole or absent: written under a hidden name in the same folder, flushed to the disk, then renamed.

A folder of artefacts carries ``manifest.json``: ``{"facts": {...}, "files": {name: {"bytes": ..., "sha256": ...}}}``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError, NumericsError, PrunecError

MANIFEST = "manifest.json"

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space, or write elsewhere",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "permission denied: choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: write elsewhere",
}


@contextmanager
def folder(path: Path, force: bool = False, facts: Mapping[str, object] | None = None) -> Iterator[Path]:
    """Yield a temporary folder to fill, which becomes ``path`` on success and vanishes on any exception.

    ``facts`` go into the manifest; they are read at the end, so the caller may still fill the mapping while it works.
    With ``force`` a folder that prunec wrote before (it holds a manifest) is replaced, once the new one is whole.
    Raises DataError where ``path`` is taken, or the disk is full or refuses; NumericsError where a fact is not finite.
    """
    path = path.resolve()
    require_free(path, force)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _hidden(path)
        partial.mkdir()
    try:
        with _explained(path):
            yield partial
            write_json(partial / MANIFEST, {"facts": dict(facts or {}), "files": _inventory(partial)})
            for each in [*_files(partial), *(sub for sub in partial.rglob("*") if sub.is_dir()), partial]:
                _sync(each)
            _swap(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def require_free(path: Path, force: bool = False) -> None:
    """Raise DataError, before any work, where ``folder(path, force)`` would refuse or could not write."""
    nearest = next(each for each in path.resolve().parents if os.path.lexists(each))
    if not nearest.is_dir():
        raise DataError(f"{path} cannot be made, for {nearest} is a file: choose another folder")
    if not os.access(nearest, os.W_OK):
        raise DataError(f"cannot write {path}: {_ADVICE[errno.EACCES]}")
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise DataError(f"{path} is a file, and a folder is to be written there: choose another name")
    if not any(path.iterdir()):
        return
    if not force:
        raise DataError(f"{path} exists and is not empty: choose another folder, or replace it with --force")
    if not (path / MANIFEST).is_file():
        raise DataError(
            f"{path} holds no {MANIFEST}, so prunec did not write it and --force will not remove it: choose another"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all. Raises DataError where the disk is full or refuses."""
    partial = _hidden(path)
    try:
        with _explained(path):
            partial.write_bytes(data)
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, obj: object) -> None:
    """Write ``obj`` as JSON with sorted keys, the same bytes each time, whole or not at all.

    Raises NumericsError where a number is not finite (JSON cannot hold it), DataError as ``write_bytes`` does.
    """
    try:
        text = json.dumps(obj, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise NumericsError(
            f"{path.name} would hold a number that is not finite ({error}), so it was not written"
        ) from error
    write_bytes(path, f"{text}\n".encode())


def verify_manifest(path: Path) -> list[str]:
    """Sentences on what in the folder ``path`` differs from its manifest; empty where all is as written."""
    try:
        listed = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {str(name): (entry["bytes"], entry["sha256"]) for name, entry in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST} cannot be read: {type(error).__name__}: {error}"]
    found = {name: (entry["bytes"], entry["sha256"]) for name, entry in _inventory(path).items()}
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    added = [f"{name} is not in the manifest" for name in sorted(found.keys() - expected.keys())]
    common = sorted(expected.keys() & found.keys())
    return missing + added + [f"{name} has changed" for name in common if found[name] != expected[name]]


def _swap(partial: Path, path: Path) -> None:
    """Rename ``partial`` to ``path``; what was there is moved aside first, and moved back where the rename fails."""
    if not path.exists():
        partial.rename(path)
        _sync(path.parent)
        return
    aside = _hidden(path)
    try:
        path.rename(aside)
        partial.rename(path)
    except BaseException:
        if not path.exists():
            aside.rename(path)
        raise
    _sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a refusal into a DataError with advice; let every other exception pass."""
    try:
        yield
    except PrunecError:
        raise
    except Exception as error:  # safetensors and torch report a full disk with exceptions of their own
        code = getattr(error, "errno", None) or (errno.ENOSPC if "No space left" in str(error) else 0)
        if code not in _ADVICE:
            raise
        raise DataError(f"cannot write {path}: {_ADVICE[code]} ({error})") from error


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file())


def _inventory(path: Path) -> dict[str, dict[str, object]]:
    listed = [each for each in _files(path) if each != path / MANIFEST]
    return {
        each.relative_to(path).as_posix(): {"bytes": each.stat().st_size, "sha256": _sha256(each)} for each in listed
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and needs no flush to rename one
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Write and check ``manifest.json``, the sizes and sha256 of a folder of artefacts.

    {"facts": {...}, "files": {name: {"bytes": ..., "sha256": ...}}, "sha256": ...}

The last sha256 is that of the manifest without this entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .digest import of_files

NAME = "manifest.json"
UNCHECKED = "--no-verify"
_KEYS = {"facts", "files", "sha256"}


Files = dict[str, tuple[int, str]]  # by name: bytes, sha256


def read(folder: Path) -> Files:
    """Read the manifest of ``folder``. Raises OSError if there is none, ValueError if it has changed."""
    text = (folder / NAME).read_bytes()
    found = json.loads(text)
    if not isinstance(found, dict) or not {"facts", "files"} <= found.keys() <= _KEYS:
        raise ValueError("it does not hold what prunec writes")
    if text != canonical(found) or found.pop("sha256", None) not in (None, _digest(found)):
        raise ValueError("it has changed since it was written")
    return {name: (entry["bytes"], entry["sha256"]) for name, entry in found["files"].items()}


def compose(folder: Path, facts: Mapping[str, object]) -> dict[str, Any]:
    """Return the content of a manifest for ``folder``. Raises ValueError if a fact is not finite."""
    listed = {name: {"bytes": size, "sha256": digest} for name, (size, digest) in _inventory(folder).items()}
    found = json.loads(canonical({"facts": dict(facts), "files": listed}))
    return {**found, "sha256": _digest(found)}


def amended(folder: Path, name: str) -> dict[str, Any]:
    """Return the manifest with one file as it is now. Raises OSError or ValueError as ``read`` does."""
    read(folder)
    found: dict[str, Any] = json.loads((folder / NAME).read_bytes())
    found.pop("sha256", None)
    found["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": of_files(folder / name)}
    return {**found, "sha256": _digest(found)}


def canonical(obj: object) -> bytes:
    """Encode JSON with sorted keys, reproducibly. Raises ValueError if a number is not finite."""
    text = json.dumps(obj, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def verify_manifest(folder: Path) -> list[str]:
    """Return one sentence per difference between ``folder`` and its manifest."""
    return [*changed(folder), *(f"{name} is not in the {NAME}" for name in added(folder))]


def changed(folder: Path) -> list[str]:
    """Return one sentence per file of the manifest that is missing or changed."""
    try:
        expected = read(folder)
    except (OSError, ValueError) as error:
        return [f"{NAME} cannot be read: {error}"]
    found = _inventory(folder)
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    common = sorted(expected.keys() & found.keys())
    return missing + [f"{name} has changed" for name in common if found[name] != expected[name]]


def added(folder: Path) -> list[str]:
    """Return the files in ``folder`` that its manifest does not list."""
    try:
        return sorted(_inventory(folder).keys() - read(folder).keys())
    except (OSError, ValueError):
        return []


def require_as_written(path: Path) -> None:
    """Raise DataError if a file or its manifest has changed since prunec wrote them."""
    try:
        path = path.resolve()
        if path.name == NAME or not path.is_file() or not _is_ours(path.parent):
            return
    except (OSError, ValueError):  # not a file name, such as a pipeline
        return
    advice = f"write {path.parent} again, or give {UNCHECKED} to use it as it is"
    try:
        expected = read(path.parent).get(path.name)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.parent / NAME}, beside {path.name}, cannot be relied on: {error}; {advice}") from error
    if expected is not None and expected != (path.stat().st_size, of_files(path)):
        raise DataError(f"{path} is not what prunec wrote: its sha256 differs from that in {NAME}; {advice}")


def _is_ours(folder: Path) -> bool:
    """Return whether the folder has prunec's manifest, even damaged; other tools have their own."""
    try:
        text = (folder / NAME).read_bytes()
    except OSError:
        return False
    return sum(f'"{key}"'.encode() in text for key in _KEYS) > 1


def _digest(found: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(found)).hexdigest()


def _inventory(folder: Path) -> Files:
    listed = [each for each in sorted(folder.rglob("*")) if each.is_file() and each != folder / NAME]
    return {each.relative_to(folder).as_posix(): (each.stat().st_size, of_files(each)) for each in listed}

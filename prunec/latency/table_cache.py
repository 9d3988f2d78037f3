"""Cache this machine's latency tables on disk, shared by all processes.

    latency-KEY.json            KEY: digest of the format, the machine, the batch and the threads
    latency-KEY.json.lock       held while one process reads, merges and writes
    latency-KEY.json.damaged    a table with a wrong checksum or content, set aside

The folder is $PRUNEC_CACHE, or the user's cache folder. If it is not writable, a run warns and keeps its measurements
in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ..cost.hardware import DeployTarget
from ..errors import DataError, PrunecWarning
from ..files.artefacts import write_json
from .measure import exact_of
from .table import FORMAT, Grid, Table
from .table_file import SHA256, digest, parsed

PATIENCE = 60.0  # seconds to wait for another process, which reads and writes in far less than one


def path_of(table: Table) -> Path:
    """Return the file that caches a table of this machine."""
    given = os.environ.get("PRUNEC_CACHE")
    folder = Path(given).expanduser() if given else user_cache_path("prunec", appauthor=False)
    key = json.dumps([FORMAT, dict(table.machine), table.batch, table.threads], sort_keys=True)
    return folder / f"latency-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def kept(empty: Table) -> Table:
    """Read the cached table for an empty one; return that if there is none."""
    path, own = path_of(empty), replace(empty, own=True)
    try:
        return _read(path, own)
    except DataError:  # damaged; but perhaps another process has replaced it by now
        pass
    except OSError as error:
        warnings.warn(
            f"the kept latency table {path} cannot be read ({_said(error)}): what is needed is measured anew",
            PrunecWarning,
            stacklevel=2,
        )
        return own
    return _locked(path, lambda: _whole_or_aside(path, own)) or own


def keep(table: Table) -> Table:
    """Merge a table into the cached one and return both. If the disk refuses, warn. A user's table is unchanged."""
    if not table.own:
        return table
    path = path_of(table)

    def work() -> Table:
        both = merged(_whole_or_aside(path, replace(table, grids={}, wholes={})), table)
        content = both.to_json()
        write_json(path, {**content, SHA256: digest(content)})
        return both

    return _locked(path, work) or replace(table, own=False)


def merged(there: Table, ours: Table) -> Table:
    """Merge the measurements of two processes; on conflict keep the grid on disk.

    Our grid replaces it if it covers all of its widths and more. If each has widths that the other lacks, the shape is
    measured again at all of them.
    """
    likes, grids = ours.likes, dict(there.grids)
    for shape, grid in ours.grids.items():
        known = grids.get(shape)
        if known is None or (_covers(grid, known, likes) and not _covers(known, grid, likes)):
            grids[shape] = grid
    wholes = dict(there.wholes)
    for name, whole in ours.wholes.items():
        wholes[name] = whole.with_parts_of(wholes[name]) if name in wholes else whole
    return replace(ours, grids=grids, wholes=wholes)


def _covers(grid: Grid, other: Grid, likes: DeployTarget) -> bool:
    return exact_of(other, likes).within(grid)


def _read(path: Path, own: Table) -> Table:
    """Read a table; return `own` if there is none. Raises OSError, and DataError for a damaged or foreign table."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return own
    found = parsed(text, str(path), sealed=True)
    if (dict(found.machine), found.batch, found.threads) != (dict(own.machine), own.batch, own.threads):
        raise DataError(f"{path} is of another machine")
    return replace(found, own=True)


def _whole_or_aside(path: Path, own: Table) -> Table:
    """Read a table under the lock; set a damaged one aside with a warning."""
    try:
        return _read(path, own)
    except DataError as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        warnings.warn(
            f"{error}; it was set aside as {aside.name}, and what is needed is measured anew",
            PrunecWarning,
            stacklevel=3,
        )
        return own


def _locked(path: Path, work: Callable[[], Table]) -> Table | None:
    """Call `work` under a file's lock; warn and return None if the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=PATIENCE):
            return work()
    except Timeout:
        said = f"another process has held {path.name}.lock for {PATIENCE:.0f} s"
    except NotImplementedError as error:  # a file system that knows no locks
        said = str(error)
    except (OSError, DataError) as error:
        said = _said(error)
    warnings.warn(
        f"latency tables cannot be kept in {path.parent} ({said}): what is measured counts for this run alone; set"
        " PRUNEC_CACHE to a folder that can be written",
        PrunecWarning,
        stacklevel=3,
    )
    return None


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

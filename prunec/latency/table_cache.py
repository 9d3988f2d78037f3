"""Share this machine's latency tables between runs and processes, in the folder of `prunec.files.cache`.

A process holds the lock of a table while it reads, merges and writes it. If the folder is not writable, a run warns and
keeps its measurements in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..cost.hardware import DeployTarget
from ..errors import DataError, PrunecWarning
from ..files import cache
from ..files.artefacts import write_json
from ..files.digest import of_json
from .measure import exact_of
from .table import FORMAT, Grid, Table
from .table_file import SHA256, digest, parsed


def path_of(table: Table) -> Path:
    """Return the file that caches a table of this machine."""
    key = of_json([FORMAT, dict(table.machine), table.batch, table.threads])[:16]
    return cache.folder("latency") / f"{key}.json"


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
        with cache.locked(path):
            return work()
    except (OSError, DataError) as error:
        warnings.warn(
            f"latency tables cannot be kept in {path.parent} ({_said(error)}): what is measured counts for this run"
            f" alone; set {cache.VARIABLE} to a folder that can be written",
            PrunecWarning,
            stacklevel=3,
        )
    return None


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

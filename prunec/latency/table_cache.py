"""Keep the latency tables of this machine on disk, so that no process loses what another has measured.

    latency-KEY.json            KEY: digest of the format, the machine, the batch and the threads
    latency-KEY.json.lock       held while one process reads, merges and writes
    latency-KEY.json.damaged    a table whose checksum or content is wrong, set aside

The folder is $PRUNEC_CACHE, or the user's cache folder. Where nothing can be written there, a run goes on with what it
has measured, and says so.
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

PATIENCE = 60.0  # seconds to wait for another process, which needs far less than one to read and write


def path_of(table: Table) -> Path:
    """Name the file in which a table of this machine is kept."""
    given = os.environ.get("PRUNEC_CACHE")
    folder = Path(given).expanduser() if given else user_cache_path("prunec", appauthor=False)
    key = json.dumps([FORMAT, dict(table.machine), table.batch, table.threads], sort_keys=True)
    return folder / f"latency-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def kept(empty: Table) -> Table:
    """Read what was measured before of the machine, batch and threads of an empty table; itself if there is nothing."""
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
    """Add a table to the one on disk, and return both; another one of the user's stays apart, in memory.

    Where the disk refuses that is a warning, and the table is not kept again.
    """
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
    """Join what two processes have measured: of a shape the grid on disk, unless the other knows all that it does.

    Where each knows widths that the other does not the one on disk stays: the shape is measured again, at all of them.
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
    """Read a table; `own` where there is none. Raises OSError, and DataError for a damaged one or another machine's."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return own
    found = parsed(text, str(path), sealed=True)
    if (dict(found.machine), found.batch, found.threads) != (dict(own.machine), own.batch, own.threads):
        raise DataError(f"{path} is of another machine")
    return replace(found, own=True)


def _whole_or_aside(path: Path, own: Table) -> Table:
    """Read a table under the lock; one that is damaged is set aside, with a warning."""
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
    """Do some work with the lock of a file; None, with a warning, where the disk refuses."""
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

"""Manage hidden names beside a file or folder that is being written.

A writer holds ``flock`` on its hidden file or folder itself: the kernel releases it however the writer ends, and no
lock file is left behind. On a file system without such locks nothing is cleared: a running writer's work is never
removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX, PARTIAL, ASIDE = ".prunec-", ".partial", ".aside"
TRIES = 100  # hidden names; another writer may clear each just before it is locked
NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM}
_LIVE: dict[Path, Path] = {}  # hidden names of this process, and the final name of each


@contextmanager
def reserved(path: Path, is_folder: bool) -> Iterator[Path]:
    """Yield a new hidden folder or file beside ``path``, and remove it at the end.

    Leftovers of dead writers beside ``path`` are removed first. Raises OSError.
    """
    clear(path.parent)
    partial, descriptor = _reserve(path.parent, is_folder)
    _LIVE[partial] = path
    try:
        yield partial
    finally:
        _remove(partial)
        del _LIVE[partial]
        os.close(descriptor)


def final(path: Path) -> Path:
    """Return the name that ``path`` will have once writing ends."""
    for partial, target in list(_LIVE.items()):  # another thread may add its own
        if partial == path or partial in path.parents:
            return final(target / path.relative_to(partial))
    return path


def abandon() -> None:
    """Remove all hidden files of this process, before an immediate exit."""
    for partial in list(_LIVE):
        _remove(partial)


def clear(folder: Path) -> None:
    """Remove the hidden files and folders in ``folder`` that no running process holds."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        strays = [Path(each.path) for each in entries if each.name.startswith(PREFIX) and each.name.endswith(PARTIAL)]
        for stray in strays:
            with held(stray) as ours:
                if ours:
                    _remove(stray)


def recover(path: Path) -> None:
    """Restore a folder that a killed writer had moved aside."""
    aside = _aside(path)
    if not aside.is_dir():
        return
    with held(aside) as ours:
        if ours and not os.path.lexists(path):
            with contextlib.suppress(OSError):  # another writer took the name: the next run removes this folder
                aside.rename(path)
        elif ours:
            _remove(aside)


def replace_folder(partial: Path, path: Path) -> None:
    """Replace the folder ``path`` by ``partial``; the old one is removed or left as ``partial``.

    Both names are exchanged atomically if the system can; else the old folder is moved aside for a moment, and
    ``recover`` restores it after a crash. Raises OSError with the old folder in place.
    """
    if _exchange(partial, path):
        return
    aside = _aside(path)
    with held(path):
        path.rename(aside)
        try:
            partial.rename(path)
        except BaseException:
            if not path.exists():
                aside.rename(path)
            raise
        _remove(aside)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock of a file or folder; yield whether it was taken."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor) is True
    finally:
        os.close(descriptor)


def _reserve(folder: Path, is_folder: bool) -> tuple[Path, int]:
    """Create and lock a hidden name; return it and its descriptor. A name cleared before it is locked is made again."""
    for _ in range(TRIES):
        partial = folder / f"{PREFIX}{secrets.token_hex(6)}{PARTIAL}"
        if is_folder:
            partial.mkdir()
            try:
                descriptor = os.open(partial if os.name != "nt" else os.devnull, os.O_RDONLY)
            except FileNotFoundError:
                continue
        else:
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)  # by umask, as of any new file
        if _lock(descriptor) is not False and partial.exists():
            return partial, descriptor
        os.close(descriptor)
    raise OSError(errno.EBUSY, "another process clears each hidden file as it is made", str(folder))


def _lock(descriptor: int) -> bool | None:
    """Try to take the lock; return whether it was free, None on systems without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # NFS locks no folders
        return None
    return True


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names atomically; return False if not supported. Raises OSError."""
    names = os.fsencode(a), os.fsencode(b)
    if os.name != "posix":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        failed = libc.renameat2(here, names[0], here, names[1], exchange)
    elif sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, 2)  # RENAME_SWAP
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(b))
    return not failed


def _aside(path: Path) -> Path:
    return path.with_name(f"{PREFIX}{hashlib.sha256(path.name.encode()).hexdigest()[:12]}{ASIDE}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()

"""Import code of the user's: ``file.py:name`` or ``package.module:name``."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from .errors import PrunecError, near

_serial = itertools.count()


@contextmanager
def imported(reference: str, blame: type[PrunecError]) -> Iterator[object]:
    """Yield the object that ``file.py:name`` or ``package.module:name`` refers to.

    While the block runs, the folder of the file (for a module, the current one) is on ``sys.path``. Whatever is wrong
    with the reference, or with the code when it is imported, is raised as ``blame``.
    """
    place, _, name = reference.rpartition(":")
    path = Path(place)
    if not place or not name:
        raise blame(f"{reference!r} names nothing to call: expected file.py:name or package.module:name")
    if path.suffix == ".py" and not path.is_file():
        raise blame(f"there is no file {place}: check the path in {reference!r}")
    folder = str((path.parent if path.suffix == ".py" else Path()).resolve())
    sys.path.insert(0, folder)
    try:
        module = _imported_module(place, blame)
        try:
            found = attrgetter(name)(module)
        except AttributeError as error:
            advice = near(name, vars(module), f"define it, or correct the name in {reference!r}")
            raise blame(f"{place} defines no {name!r}: {advice}") from error
        yield found
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _imported_module(place: str, blame: type[PrunecError]) -> ModuleType:
    try:
        return _run_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{place}.".startswith(f"{error.name}."):
            raise blame(
                f"no module named {error.name!r}: install it, run from its folder, or say file.py:name"
            ) from error
        raise blame(f"{place} cannot be imported: {type(error).__name__}: {error}") from error


def _run_file(path: Path) -> ModuleType:
    name = f"_prunec_{path.stem}_{next(_serial)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

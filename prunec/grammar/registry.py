"""Names to classes, by file: `passes/selectors/obs.py` *is* the selector `obs`.

Naming a thing imports one file, so what another file needs hurts nobody. Third parties add to a folder by an entry
point in the group of the same name, for instance `prunec.passes.selectors`; there, too, the file is called as the
thing is, for a text form must read back as what it was printed from.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..errors import BackendError, PassError, SpecError, near
from . import spec as grammar
from .spec import Spec


@dataclass(frozen=True)
class Folder:
    """The classes of one kind, each in its own file of the sub-package `package`."""

    package: str
    kind: str  # what a person calls one of them

    def names(self) -> list[str]:
        """Every name, sorted; nothing is imported but the folder itself."""
        return sorted(self._own() | {point.name for point in self._points()})

    def load(self, name: str) -> type[Any]:
        """The class called `name`; a file of the folder wins over an entry point.

        Raises SpecError with the nearest names, BackendError where a package is missing that the file imports, and
        PassError where the file does not hold the one class that it should.
        """
        try:
            return self._load(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "prunec":
                raise
            advice = f"install it, or name another {self.kind}"
            raise BackendError(f"the {self.kind} '{name}' needs {error.name}, which is not here: {advice}") from error

    def _own(self) -> set[str]:
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return {item.name.replace("_", "-") for item in modules if not item.ispkg and not item.name.startswith("_")}

    def _points(self) -> Iterable[importlib.metadata.EntryPoint]:
        return importlib.metadata.entry_points(group=self.package)

    def _load(self, name: str) -> type[Any]:
        if name in self._own():
            return _only_class(importlib.import_module(f"{self.package}.{name.replace('-', '_')}"))
        point = next((each for each in self._points() if each.name == name), None)
        if point is None:
            hint = near(name, self.names(), f"there are: {', '.join(self.names())}.")
            raise SpecError(f"no {self.kind} is called '{name}'; {hint}")
        kind: type[Any] = point.load()
        if grammar.name_of(kind) != name:
            file = f"{name.replace('-', '_')}.py"
            raise PassError(f"the entry point '{name}' gives {point.value}, which is not in a file {file}: rename one")
        return kind

    def make(self, text: str | Spec) -> Any:
        """An object of this folder from its text form. Raises SpecError."""
        parsed = grammar.parse(text) if isinstance(text, str) else text
        kind = self.load(parsed.name)
        return grammar.bind(
            parsed, kind, getattr(kind, "strategies", {}), lambda folder, spec: STRATEGIES[folder].make(spec)
        )


PASSES = Folder("prunec.passes", "pass")
STRATEGIES = {
    "criteria": Folder("prunec.passes.criteria", "criterion"),
    "selectors": Folder("prunec.passes.selectors", "selector"),
    "allocators": Folder("prunec.passes.allocators", "allocator"),
    "compensators": Folder("prunec.passes.compensators", "compensator"),
    "decomposers": Folder("prunec.passes.decomposers", "decomposer"),
}


def _only_class(module: ModuleType) -> type[Any]:
    kinds = [
        thing
        for key, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and not key.startswith("_")
    ]
    if len(kinds) != 1:
        found = ", ".join(kind.__name__ for kind in kinds) or "none"
        raise PassError(f"{module.__name__} should hold one public class, and holds {found}; start other names with _")
    return kinds[0]

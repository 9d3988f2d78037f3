"""Names to classes by file: what is there, what is not, and what a file or an entry point must hold."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from prunec.allocation.interface import Allocator
from prunec.compensation.interface import Compensator
from prunec.errors import BackendError, PassError, SpecError
from prunec.grammar.registry import PASSES, STRATEGIES, Folder
from prunec.grammar.spec import name_of, text_of
from prunec.pipeline.pipeline import Pass
from prunec.selection.interface import Criterion, Decomposer, Selector

PACKAGE = "prunec_registry_sample"
BASES = {
    "criteria": Criterion, "selectors": Selector, "allocators": Allocator, "compensators": Compensator,
    "decomposers": Decomposer,
}  # fmt: skip
EVERY = [(PASSES, Pass, name) for name in PASSES.names()] + [
    (folder, BASES[key], name) for key, folder in STRATEGIES.items() for name in folder.names()
]

GOOD = """
from dataclasses import dataclass, field, InitVar

class _Hidden: ...

@dataclass(frozen=True)
class Good:
    size: int = 3
"""

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file of a package that `sample` reads."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def into(name: str, text: str) -> None:
        (folder / name).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield into
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


sample = Folder(PACKAGE, "sample")


@pytest.mark.parametrize(("folder", "base", "name"), EVERY, ids=[name for _, _, name in EVERY])
def test_everything_shipped_loads_and_round_trips(folder: Folder, base: type, name: str) -> None:
    kind = folder.load(name)
    assert issubclass(kind, base)
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert name_of(kind) == name
    made = folder.make(name)
    assert text_of(made) == name
    assert folder.make(text_of(made)) == made
    assert set(getattr(kind, "strategies", {})) <= {item.name for item in fields(kind)}
    assert set(getattr(kind, "strategies", {}).values()) <= set(STRATEGIES)


def test_names_hold_files_and_nothing_else(write: Write) -> None:
    write("two_words.py", GOOD)
    write("broken.py", "this is no Python")
    write("_helper.py", "")
    write("notes.txt", "")
    assert sample.names() == ["broken", "two-words"]


def test_naming_one_imports_no_other(write: Write) -> None:
    write("good.py", GOOD)
    write("broken.py", "raise RuntimeError")
    made = sample.make("good{size=5}")
    assert (type(made).__name__, made.size) == ("Good", 5)
    assert f"{PACKAGE}.broken" not in sys.modules


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(SpecError, match="no pass is called 'fold-bm'; did you mean fold-bn"):
        PASSES.load("fold-bm")
    with pytest.raises(SpecError, match="no selector is called 'zzzz'; there are: "):
        STRATEGIES["selectors"].load("zzzz")
    for name in ("", "os", "selectors", "__init__", "fold_bn", "../errors"):
        with pytest.raises(SpecError, match="no pass is called"):
            PASSES.load(name)


def test_nested_strategies_are_made_and_checked() -> None:
    text = "compensate{method=lstsq{ridge=0.5}}"
    made = PASSES.make(text)
    assert made.method == STRATEGIES["compensators"].make("lstsq{ridge=0.5}")
    assert str(made) == text
    assert str(PASSES.make("compensate{method=none}")) == "compensate{method=none}"
    with pytest.raises(SpecError, match="no compensator is called 'lstsk'; did you mean lstsq"):
        PASSES.make("compensate{method=lstsk}")
    with pytest.raises(SpecError, match="'lstsq' has no option 'rigde'; did you mean ridge"):
        PASSES.make("compensate{method=lstsq{rigde=1}}")


@pytest.mark.parametrize(
    ("text", "found"),
    [("import dataclasses", "none"), (GOOD + "class Second: ...", "Good, Second"), ("_x = 1", "none")],
)
def test_a_file_holds_one_public_class(write: Write, text: str, found: str) -> None:
    write("odd.py", text)
    with pytest.raises(PassError, match=f"one public class, and holds {found};"):
        sample.load("odd")


def test_a_missing_package_hurts_only_who_asks(write: Write) -> None:
    write("needy.py", "import no_such_package_at_all.inner")
    assert sample.names() == ["needy"]
    with pytest.raises(BackendError, match="the sample 'needy' needs no_such_package_at_all, which is not here"):
        sample.load("needy")


def test_a_fault_of_our_own_is_not_blamed_on_the_user(write: Write) -> None:
    write("stale.py", "import prunec.no_such_module")
    with pytest.raises(ModuleNotFoundError, match=r"prunec\.no_such_module"):
        sample.load("stale")


def entry_points(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = [EntryPoint(name.replace("_", "-"), value, PACKAGE) for name, value in values.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found if group == PACKAGE else [])


def test_entry_points_add_names(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_own.py").write_text(GOOD, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "their_own", raising=False)
    entry_points(monkeypatch, their_own="their_own:Good", other="their_own:Good")
    assert sample.names() == ["other", "their-own"]
    assert text_of(sample.make("their-own{size=4}")) == "their-own{size=4}"
    with pytest.raises(PassError, match=r"'other' gives their_own:Good, which is not in a file other\.py"):
        sample.load("other")
    monkeypatch.delitem(sys.modules, "their_own")


def test_a_file_wins_over_an_entry_point(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("good.py", GOOD)
    entry_points(monkeypatch, good="os:PathLike")
    assert sample.names() == ["good"]
    assert sample.load("good").__module__ == f"{PACKAGE}.good"

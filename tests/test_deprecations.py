"""Every deprecation warns, and names the replacement and the version that removes the old name."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from test_layout import PROJECT, ids, sources

from prunec.grammar.moved import MOVED, PACKAGES
from prunec.request.engine import On

SAYS_WHEN = re.compile(r"the old name goes with version (\d+)\.(\d+)$")
TODAY = tuple(int(part) for part in PROJECT["project"]["version"].split(".")[:2])


def removal(text: str) -> tuple[int, int]:
    """Return the version, as numbers, that a warning names. Raises AssertionError where it names none."""
    found = SAYS_WHEN.search(text)
    assert found, f"no version of removal at the end: {text}"
    return int(found[1]), int(found[2])


def warned(path: Path) -> list[ast.Call]:
    """Return the calls of a file that give a DeprecationWarning."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "warn"
        and any(isinstance(each, ast.Name) and each.id == "DeprecationWarning" for each in call.args)
    ]


def test_every_warning_of_a_deprecation_is_tried_here() -> None:
    places = [ids(path) for top in ("prunec", "passes") for path in _paths(top) for _ in warned(path)]
    assert sorted(places) == ["prunec/grammar/moved.py", "prunec/request/engine.py"]


def test_what_is_said_to_be_deprecated_warns() -> None:
    """Find no docstring that says so in a file that does not warn."""
    said = [ids(path) for top in ("prunec", "passes") for path in _paths(top) if _says_deprecated(path)]
    assert [name for name in said if not warned(Path(__file__).parents[1] / name)] == []
    assert "prunec/request/engine.py" in said


@pytest.mark.parametrize("old", [name for name in MOVED if name not in PACKAGES])  # a package holds modules only
def test_a_moved_name_says_when_it_goes(old: str) -> None:
    home = importlib.import_module(f"prunec.{MOVED[old][0]}")
    own = [name for name, thing in vars(home).items() if getattr(thing, "__module__", None) == home.__name__]
    name = next(each for each in own if not each.startswith("_"))
    with pytest.warns(DeprecationWarning, match=r"is prunec\.") as caught:
        getattr(importlib.import_module(f"prunec.{old}"), name)
    assert removal(str(caught[-1].message)) > TODAY


def test_the_table_of_an_engine_says_when_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEC_CACHE", str(tmp_path))
    with pytest.warns(DeprecationWarning, match="table_of") as caught:
        On().table()
    assert removal(str(caught[-1].message)) > TODAY


def test_a_warning_without_a_version_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="no version of removal"):
        removal("this is that now")


def _paths(top: str) -> list[Path]:
    return [each.values[0] for each in sources(top)]


def _says_deprecated(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return any("deprecated" in text.lower() for text in texts)

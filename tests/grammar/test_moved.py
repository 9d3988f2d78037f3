"""Old names of modules: they import, warn, and are the same objects."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from prunec.files import artefacts
from prunec.frontend.capture import capture
from prunec.grammar.moved import MOVED
from prunec.latency.table import Table
from prunec.pipeline.context import Context
from prunec.request.engine import On


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_imports_and_its_homes_exist(old: str) -> None:
    importlib.import_module(f"prunec.{old}")
    for home in MOVED[old]:
        importlib.import_module(f"prunec.{home}")


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [("capture", "capture", capture), ("program", "Context", Context), ("artefacts", "folder", artefacts.folder)],
)
def test_an_old_name_is_the_same_object_and_warns(old: str, name: str, new: object) -> None:
    module = importlib.import_module(f"prunec.{old}")
    with pytest.warns(DeprecationWarning, match=rf"prunec\.{old}\.{name} is prunec\.[\w.]+\.{name} now"):
        assert getattr(module, name) is new


def test_an_unknown_name_is_an_import_error() -> None:
    code = "import prunec.nothing_at_all"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1
    with pytest.raises(AttributeError, match=r"module 'prunec\.capture' has no attribute 'nothing'"):
        _ = importlib.import_module("prunec.capture").nothing


def test_the_table_of_an_engine_opens_as_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEC_CACHE", str(tmp_path))
    with pytest.warns(DeprecationWarning, match="table_of"):
        table = On(threads=3).table()
    assert isinstance(table, Table)
    assert table.threads == 3


def test_a_module_of_a_package_is_left_to_the_import() -> None:
    """Import nothing else for it, and give no warning."""
    code = "import sys; from prunec.cost import hardware; sys.exit('prunec.cost.macs' in sys.modules)"
    found = subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", code], check=False)
    assert found.returncode == 0

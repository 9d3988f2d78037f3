"""`prunec sensitivity`: a table, JSON and a drawing of the same curves, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from test_cli import NETS
from typer.testing import CliRunner

from prunec.cli import app


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    np.savez(tmp_path / "train.npz", images=np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prunec(*more: str) -> Any:
    return CliRunner().invoke(app, ["sensitivity", "nets.py:make", "--preprocess", "scale=255", *more])


def test_curves_start_at_nothing_and_rise(room: Path) -> None:
    done = prunec("--data", "train.npz", "--json", "--cache", "cache", "--plot", "curves.svg")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    spaces = {space["name"]: space for space in facts["spaces"]}
    assert {"conv1", "conv2", "conv2:rank"} <= set(spaces)
    for space in spaces.values():
        assert len(space["error"]) == len(space["saved"]) == space["size"] + 1
        assert space["error"][0] == 0 == space["saved"][0]
        assert space["error"] == sorted(space["error"])
        assert 0 < space["saved"][-1] <= 1
    assert len(list((room / "cache").iterdir())) == 1
    lines = ElementTree.fromstring((room / "curves.svg").read_text()).findall("{*}polyline")
    assert len(lines) == len(spaces)


def test_the_table_names_each_space_with_the_most_macs_first(room: Path) -> None:
    done = prunec("--data", "train.npz", "--decomposer", "none", "--selector", "top{by=l1}")
    assert done.exit_code == 0, done.output
    assert done.stdout.index("conv1") < done.stdout.index("conv2")
    assert ":rank" not in done.stdout


@pytest.mark.parametrize(
    ("code", "said", "more"),
    [
        (2, "no selector is called 'osb'", ["--data", "train.npz", "--selector", "osb"]),
        (8, "nowhere.npz", ["--data", "nowhere.npz"]),
        (2, "no layer of the network is called 'konv1'", ["--data", "train.npz", "--freeze", "konv1"]),
    ],
)
def test_bad_input_has_a_sentence_and_a_code(room: Path, code: int, said: str, more: list[str]) -> None:
    done = prunec(*more)
    assert done.exit_code == code
    assert said in done.output

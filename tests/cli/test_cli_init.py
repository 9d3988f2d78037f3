"""`prunec init`: the recipe that it prints loads, says what was given, and has every key with its default."""

from __future__ import annotations

import re
from dataclasses import MISSING
from pathlib import Path

import pytest
from command import prunec

from prunec.request.config import CompressRequest
from prunec.request.options import options_of
from prunec.request.recipe import merged, read_recipe, tables_of

NETS = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return f"{path}:make"


@pytest.mark.parametrize(("shape", "read"), [("3x16x16", (3, 16, 16)), (None, None)])
def test_the_recipe_loads(model: str, tmp_path: Path, shape: str | None, read: tuple[int, ...] | None) -> None:
    code, said = prunec("init", model, *(() if shape is None else ("--input-shape", shape)))
    assert code == 0, said
    (tmp_path / "net.toml").write_text(said)
    found = merged(CompressRequest, {"data": "x.npz"}, tmp_path / "net.toml")
    assert found == CompressRequest(model=model, data="x.npz", target="macs:0.5", input_shape=read)


def test_every_key_is_there_with_its_help_and_its_default(model: str, tmp_path: Path) -> None:
    code, said = prunec("init", model)
    assert code == 0, said
    keys = re.findall(r"^(?:# )?([a-z_]+) = ", said, re.MULTILINE)
    assert keys == [key for table in tables_of(CompressRequest).values()
                    for key in dict.fromkeys(one.keys[0] for one in table.values())]  # fmt: skip
    plain = " ".join(said.replace("\n# ", " ").split())
    options = [one for one in options_of(CompressRequest) if one.option.kind and one.option.table]
    assert [one.name for one in options if " ".join(one.option.help.split()) not in plain] == []
    bare = {one.name for one in options if one.default in (None, MISSING, ())}
    opened = [re.sub(r"^# ([a-z_]+ = (?:\d+|false|true|\"cpu\"))$", r"\1", line) for line in said.splitlines()]
    (tmp_path / "all.toml").write_text("\n".join(opened))
    found = read_recipe(tmp_path / "all.toml")
    assert {one.name for one in options} - bare <= found.keys()
    assert all(found[one.name] == one.default for one in options if one.name not in bare)


def test_a_network_that_is_not_there_and_a_wrong_shape_are_refused(model: str) -> None:
    assert prunec("init", model.replace("make", "nothing"))[0] != 0
    code, said = prunec("init", model, "--input-shape", "wide")
    assert code == 2
    assert "is not a shape" in said

"""One changed byte in any file of a folder is seen, wherever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunec.cli import app
from prunec.errors import DataError
from prunec.files import artefacts, manifest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with artefacts.folder(tmp_path / "out", facts={"seed": 0, "pair": (1, 2), "by": {3: "é"}}) as folder:
        for name in "abc":
            (folder / name).write_text(name)
    return tmp_path / "out"


def test_verify_names_what_differs(out: Path) -> None:
    assert artefacts.verify_manifest(out) == []
    (out / "a").write_text("A")
    (out / "b").unlink()
    (out / "d").write_text("d")
    assert artefacts.verify_manifest(out) == ["b is missing", "a has changed", "d is not in the manifest.json"]
    assert (manifest.changed(out), manifest.added(out)) == (["b is missing", "a has changed"], ["d"])
    (out / "manifest.json").write_text("{")
    assert "manifest.json cannot be read" in artefacts.verify_manifest(out)[0]
    assert "manifest.json cannot be read" in artefacts.verify_manifest(out.parent)[0]


def test_a_changed_file_is_refused_and_another_is_not(out: Path) -> None:
    (out / "mine.engine").write_text("built later")
    (out.parent / "link").symlink_to(out / "a")
    (out / "a").write_text("A")
    for path in (out / "a", out.parent / "link"):
        with pytest.raises(DataError, match=r"a is not what prunec wrote.*--no-verify"):
            manifest.require_as_written(path)
    for path in (Path("fold-bn," * 100), out / "b", out / "mine.engine", out / "none", out.parent / "x"):
        manifest.require_as_written(path)


def test_every_byte_of_the_manifest_counts(out: Path) -> None:
    text = (out / "manifest.json").read_bytes()
    for place in range(len(text)):
        (out / "manifest.json").write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(ValueError, match=r"."):
            manifest.read(out)
    with pytest.raises(DataError, match="cannot be relied on"):
        manifest.require_as_written(out / "a")


def test_a_manifest_of_another_tool_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    for content in (json.dumps({"name": "app", "files": ["a"]}), "not JSON"):
        (tmp_path / "manifest.json").write_text(content)
        manifest.require_as_written(tmp_path / "a")


READERS = [
    ["evaluate", "a", "--data", "x"],
    ["bench", "b", "a"],
    ["diff", "b", "a"],
    ["export", "a", "-o", "new.onnx"],
    ["export", "n.py:m", "--weights", "a", "-o", "new.onnx"],
    ["cast", "a", "--fp16", "--data", "x", "-o", "new.onnx"],
    ["quantize", "a", "--int8", "--data", "x", "-o", "new.onnx"],
    ["build", "a"],
    ["run", "a"],
    ["verify", "a"],
    ["verify", "."],
    ["inspect", "a"],
    ["lint", "a"],
    ["profile", "a"],
    ["sensitivity", "a", "--data", "x"],
    ["compress", "a", "--data", "x", "--target", "macs:0.5", "-o", "new"],
    ["compress", "--recipe", "../recipe.toml", "--data", "x", "--target", "macs:0.5", "-o", "new"],
]


@pytest.mark.parametrize("line", READERS, ids=" ".join)
def test_every_command_sees_a_changed_file(out: Path, monkeypatch: pytest.MonkeyPatch, line: list[str]) -> None:
    monkeypatch.chdir(out)
    (out.parent / "recipe.toml").write_text('[model]\nsource = "a"\n')
    (out / "a").write_text("A")
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, line)
    assert (done.exit_code, "not what prunec wrote" in done.output) == (8, True), done.output
    if line != ["verify", "."]:
        unchecked = CliRunner(env={"COLUMNS": "160"}).invoke(app, [*line, "--no-verify"])
        assert "not what prunec wrote" not in unchecked.output


def test_verify_takes_a_folder(out: Path) -> None:
    (out / "later.engine").touch()
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["verify", str(out)])
    assert done.exit_code == 0, done.output
    assert "later.engine came later" in done.output
    refused = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["verify", str(out), "--batches", "1"])
    assert (refused.exit_code, "--batches has no effect" in refused.output) == (2, True), refused.output

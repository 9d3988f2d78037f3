from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from prunec.errors import DataError, NumericsError
from prunec.files import artefacts, scratch

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full on this system")


def fill(path: Path, text: str = "hello", force: bool = False) -> None:
    with artefacts.folder(path, force) as out:
        (out / "sub").mkdir()
        (out / "sub" / "a.txt").write_text(text)


def fail(path: Path, error: BaseException) -> None:
    with artefacts.folder(path, force=True) as out:
        (out / "half.bin").write_bytes(b"half")
        raise error


def write_to_a_full_disk(path: Path) -> None:
    with artefacts.folder(path) as out:
        (out / "weights").symlink_to(FULL)
        (out / "weights").write_bytes(b"0" * 100_000)


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    facts: dict[str, object] = {"recipe": "demo"}
    with artefacts.folder(tmp_path / "new" / "out", facts=facts) as out:
        (out / "a.bin").write_bytes(b"abc")
        assert not (tmp_path / "new" / "out").exists()
        facts["accuracy"] = 0.5
    manifest = json.loads((tmp_path / "new" / "out" / "manifest.json").read_text())
    assert manifest["facts"] == {"recipe": "demo", "accuracy": 0.5}
    assert manifest["files"]["a.bin"]["bytes"] == 3
    assert manifest["files"]["a.bin"]["sha256"].startswith("ba7816bf")
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["out"]
    assert artefacts.verify_manifest(tmp_path / "new" / "out") == []


def test_an_empty_folder_is_used_and_a_full_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out)
    with pytest.raises(DataError, match="--force"):
        fill(out, "again")
    assert (out / "sub" / "a.txt").read_text() == "hello"


def test_force_replaces_what_prunec_wrote_and_only_that(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    fill(tmp_path / "out", "again", force=True)
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "again"
    assert os.listdir(tmp_path) == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="prunec did not write it"):
        fill(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="is a file"):
        fill(tmp_path / "out", force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ValueError("bug"), FileNotFoundError("gone")])
def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    fill(tmp_path / "out")
    with pytest.raises(type(error)):
        fail(tmp_path / "out", error)
    assert os.listdir(tmp_path) == ["out"]
    assert artefacts.verify_manifest(tmp_path / "out") == []


@pytest.mark.parametrize("exchange", [True, False])
def test_a_failed_rename_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    fill(tmp_path / "out")
    if not exchange:
        monkeypatch.setattr(scratch, "_exchange", lambda a, b: False)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if target.name == "out" and (self / "sub" / "a.txt").read_text() == "again":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "out", "again", force=True)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "hello"


@needs_full
def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the disk is full") as caught:
        write_to_a_full_disk(tmp_path / "out")
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_known_from_the_words_of_safetensors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the disk is full"):
        fail(tmp_path / "out", SafetensorError("I/O error: No space left on device (os error 28)"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_refusal_while_flushing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    for write in (fill, lambda path: artefacts.write_bytes(path, b"abc")):
        with pytest.raises(DataError, match="cannot write"):
            write(tmp_path / "out")
        assert os.listdir(tmp_path) == []


def test_single_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefacts.write_bytes(tmp_path / "a", b"old")
    artefacts.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artefacts.write_bytes(tmp_path / "a", b"newer")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_missing_parent_of_a_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        artefacts.write_bytes(tmp_path / "no" / "a", b"")
    with pytest.raises(DataError, match="there is no folder"):
        artefacts.require_file(tmp_path / "no" / "a")


def test_an_error_of_another_file_passes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), artefacts.folder(tmp_path / "out"):
        (tmp_path / "elsewhere").read_text()


def test_a_device_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    artefacts.write_bytes(tmp_path / "null", b"abc")
    assert (tmp_path / "null").is_symlink()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("length", [250, 300])
def test_a_long_name_will_do_or_is_refused_before_any_work(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("x" * length)
    if length <= 255:
        fill(path)
        artefacts.write_bytes(path / "y", b"")
        return
    for refuse in (artefacts.require_free, artefacts.require_file):
        with pytest.raises(DataError, match="the name is too long"):
            refuse(path)


def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        artefacts.write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_json_is_canonical_and_finite(tmp_path: Path) -> None:
    artefacts.write_json(tmp_path / "a.json", {"b": 0.1, "a": ["é"]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "a": [\n    "é"\n  ],\n  "b": 0.1\n}\n'
    with pytest.raises(NumericsError, match=r"b\.json"):
        artefacts.write_json(tmp_path / "b.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == ["a.json"]

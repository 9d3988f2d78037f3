"""Writers that are killed, that meet and that are left behind: out/ is whole at once, and the next run clears up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from prunec.errors import DataError
from prunec.files import artefacts, scratch

pytest.importorskip("fcntl", reason="this system has no flock, and nothing is cleared on it")

KILLED = """
import os, signal, sys
from pathlib import Path
from prunec.files import artefacts, scratch
left, real, fallback = int(sys.argv[1]), os.rename, sys.argv[2] == "fallback"
def die():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
def killed(source, target):
    die()
    real(source, target)
exchange = scratch._exchange
def exchanged(a, b):
    die()
    found = not fallback and exchange(a, b)
    die()
    return found
scratch._exchange = exchanged
Path.rename = Path.replace = killed
with artefacts.folder(Path("d/out"), force=True) as folder:
    artefacts.write_bytes(folder / "a", b"new")
"""


def fill(path: Path, text: str, force: bool = False) -> None:
    with artefacts.folder(path, force) as folder:
        (folder / "a").write_text(text)


@pytest.mark.parametrize("how", ["exchange", "fallback"])
def test_killed_at_any_rename(tmp_path: Path, how: str) -> None:
    """Killed at the n-th, for every n. Without an exchange one moment is left, and the next run mends it."""
    place, codes = tmp_path / "d", []
    for moment in range(3, 7 if how == "exchange" else 9):
        if not place.exists():
            fill(place / "out", "old")
        run = subprocess.run([sys.executable, "-c", KILLED, str(moment), how], cwd=tmp_path, check=False)
        codes.append(run.returncode)
        if how == "fallback":
            scratch.recover(place / "out")
        assert (place / "out" / "a").read_text() in ("old", "new")
        assert artefacts.verify_manifest(place / "out") == []
        fill(place / "out", "old", force=True)
        assert os.listdir(place) == ["out"]
    assert (codes[0], codes[-1]) == (-signal.SIGKILL, 0), codes


def test_what_a_living_writer_has_is_left_alone(tmp_path: Path) -> None:
    with artefacts.folder(tmp_path / "a") as first:
        fill(tmp_path / "b", "b")
        artefacts.write_bytes(tmp_path / "c", b"c")
        (first / "x").write_text("whole")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
    assert (tmp_path / "a" / "x").read_text() == "whole"


def test_what_dead_writers_left_goes_with_the_next_run(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "out"):
        (place / ".prunec-1.partial").mkdir()
        (place / ".prunec-1.partial" / "half").touch()
        (place / ".prunec-2.partial").touch()
        (place / ".mine.partial").touch()
        if place == tmp_path:
            fill(tmp_path / "out", "")
        else:
            artefacts.write_bytes(place / "file", b"")
        assert {".mine.partial"} <= set(os.listdir(place)) <= {".mine.partial", "out", "manifest.json", "a", "file"}


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    """The second is refused in a sentence; with force the last one wins."""

    def overtaken() -> None:
        with artefacts.folder(tmp_path / "out") as folder:
            fill(tmp_path / "out", "faster")
            (folder / "a").write_text("slower")

    with pytest.raises(DataError, match="is not empty"):
        overtaken()
    assert (tmp_path / "out" / "a").read_text() == "faster"
    with artefacts.folder(tmp_path / "out", force=True) as folder:
        fill(tmp_path / "out", "faster", force=True)
        (folder / "a").write_text("slower")
    assert (tmp_path / "out" / "a").read_text() == "slower"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_many_writers_at_once(exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr(scratch, "_exchange", lambda a, b: False)
    failures: list[Exception] = []

    def work(name: str) -> None:
        try:
            for _ in range(30):
                fill(tmp_path / "out", name, force=True)
                artefacts.write_bytes(tmp_path / "file", name.encode())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert failures == []
    artefacts.require_free(tmp_path / "out", force=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "out"]
    assert artefacts.verify_manifest(tmp_path / "out") == []


def test_errors_name_the_final_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    def write(name: str, text: str) -> None:
        with artefacts.folder(tmp_path / "out") as folder:
            artefacts.write_bytes(folder / name, text.encode())

    with pytest.raises(DataError, match=f"cannot write {tmp_path / 'out' / 'none' / 'b'}: there is no such folder"):
        write("none/b", "")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=f"cannot write {tmp_path / 'out' / 'plan.json'}: the disk is full"):
        write("plan.json", "{}")
    assert os.listdir(tmp_path) == []

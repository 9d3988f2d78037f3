"""The command line as a process: signals, pipes that close, full disks and terminals of other encodings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunec.cli import signals

PRUNEC = [sys.executable, "-m", "prunec"]
WRITING = """
import sys, time, types
from pathlib import Path
from prunec.cli import commands, console, main
from prunec.files import artefacts
def slow(debug: bool = False) -> None:
    with artefacts.folder(Path("out")) as folder:
        (folder / "half").touch()
        print("ready", flush=True)
        time.sleep(30)
commands.app.command("slow")(console.explained(slow))
main()
"""


def started(command: list[str], place: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a program that receives Ctrl-C, also under a background shell."""
    return subprocess.Popen(
        command, cwd=place, env={**os.environ, **environment}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip


@pytest.mark.parametrize("name", list(signals.SENTENCES))
def test_a_signal_while_writing_leaves_nothing(tmp_path: Path, name: str) -> None:
    process = started([sys.executable, "-c", WRITING, "slow"], tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    number = signal.Signals[name]
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, f"{signals.SENTENCES[name]}\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.15, 0.4])
def test_ctrl_c_while_importing_is_one_line(tmp_path: Path, seconds: float) -> None:
    """From when the handler stands; torch and the packages around it are imported meanwhile."""
    (tmp_path / "nets.py").write_text("import torchvision\ndef make():\n    pass\n")
    code = (
        "import sys\nfrom prunec import cli\nfrom prunec.cli import signals\ninstall = signals.install\n"
        "def told():\n    install()\n    print('ready', flush=True)\nsignals.install = told\ncli.main()"
    )
    process = started([sys.executable, "-c", code, "inspect", "nets.py:make"], tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted; nothing was written\n")


def test_ctrl_c_while_what_cleans_up_is_being_imported(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, types\nfrom prunec.cli import signals\nsignals.install()\n"
        "sys.modules['prunec.files.scratch'] = types.ModuleType('half imported')\nos.kill(os.getpid(), signal.SIGINT)"
    )
    process = started([sys.executable, "-c", code], tmp_path)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted; nothing was written\n")


def test_the_module_runs_and_output_fits_the_terminal(tmp_path: Path) -> None:
    run = subprocess.run(
        [*PRUNEC, "--help"], env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert "prunec inspect" in run.stdout.decode("latin-1")


SHOWN = """
from prunec.cli import commands, console, main
def show(debug: bool = False) -> None:
    console.out.print("speed × 2 … ✓ 日本")
    console.warn("kept ≤ 3 — fine")
    console.out.print("x" * 100_000, soft_wrap=True)
commands.app.command("show")(console.explained(show))
main()
"""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_what_a_terminal_lacks_is_replaced(encoding: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SHOWN, "show"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "speed" in run.stdout.decode(encoding)
    assert ("?" in run.stdout.decode(encoding)) == (encoding != "utf-8")
    assert "Traceback" not in run.stderr.decode(encoding)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full on this system")
def test_output_that_nobody_takes() -> None:
    for where, code, said in (("| true", 141, ""), ("> /dev/full", 8, "No space left on device")):
        line = f'"{sys.executable}" -c "$SHOWN" show {where}; exit ${{PIPESTATUS[0]}}'
        run = subprocess.run(
            ["bash", "-c", line], env={**os.environ, "SHOWN": SHOWN}, capture_output=True, text=True, check=False
        )
        assert run.returncode == code, run.stderr
        assert said in run.stderr
        assert "Traceback" not in run.stderr
        assert "Exception ignored" not in run.stderr

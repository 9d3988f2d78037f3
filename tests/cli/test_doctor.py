"""`prunec doctor`: what works here, what is absent, and faults."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunec.cli import app


def states(*options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and each check by name."""
    found = CliRunner().invoke(app, ["doctor", "--json", *options])
    return found.exit_code, {one["name"]: one for one in json.loads(found.stdout)}


def test_this_installation_works_and_what_is_absent_has_advice() -> None:
    code, found = states()
    assert code == 0
    assert {name: found[name]["state"] for name in ("Python", "PyTorch", "ONNX Runtime", "self-test")} == dict.fromkeys(
        ("Python", "PyTorch", "ONNX Runtime", "self-test"), "ok"
    )
    assert "compared with PyTorch" in found["self-test"]["found"]
    assert all(one["advice"] for one in found.values() if one["state"] == "absent")


def test_two_builds_of_onnx_runtime_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == "onnxruntime-gpu" else known(name))
    code, found = states("--no-self-test")
    assert code == 1
    assert found["ONNX Runtime"]["state"] == "fault"
    assert "pip uninstall onnxruntime onnxruntime-gpu" in found["ONNX Runtime"]["advice"]
    assert "self-test" not in found


def test_a_cache_folder_that_cannot_be_written_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEC_CACHE", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    code, found = states("--no-self-test")
    assert (code, found["cache folder"]["state"]) == (1, "fault")
    assert "PRUNEC_CACHE" in found["cache folder"]["advice"]


def test_each_check_has_a_line() -> None:
    found = CliRunner().invoke(app, ["doctor", "--no-self-test"])
    assert found.exit_code == 0, found.output
    assert "PyTorch" in found.stdout
    assert "ok" in found.stdout

"""Models without an engine are refused: one sentence, exit code 7, no files."""

from __future__ import annotations

import sys
from pathlib import Path

import engine_models as models
import pytest
from engine_models import needs_rtx
from typer.testing import CliRunner

from prunec.cli import app

runner = CliRunner()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: object, code: int = 7) -> str:
    """The one sentence of `prunec …`, which left nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    found = runner.invoke(app, [str(each) for each in arguments])
    assert found.exit_code == code, found.output
    assert sorted(Path.cwd().rglob("*")) == before
    said = found.stderr.strip()
    assert said.count("\n") == 0, said
    return said


def test_a_truncated_file(room: Path) -> None:
    whole = models.one_conv(room)
    Path("torn.onnx").write_bytes(whole.read_bytes()[:-40])
    assert "it is truncated, or no ONNX file" in refused("build", "torn.onnx", "--profile", "8")
    Path("empty.onnx").write_bytes(b"")
    assert "holds no graph: it is truncated" in refused("build", "empty.onnx", "--profile", "8")
    assert "there is no model file 'none.onnx'" in refused("build", "none.onnx", "--profile", "8")


@needs_rtx
def test_operators_that_are_not_onnx_s_own_or_not_the_engine_s(room: Path) -> None:
    header = '<ir_version: 10, opset_import: ["" : 20, "my.ops" : 1]>'
    shapes = "g (float[batch, 3, 3] input) => (float[batch] output)"
    custom = models.written(f"{header} {shapes} {{ output = my.ops.Frobnicate(input) }}", room / "custom.onnx")
    assert "operators that are not ONNX's own (my.ops.Frobnicate)" in refused("build", custom, "--profile", "8")
    det = models.written(f"{header} {shapes} {{ output = Det(input) }}", room / "det.onnx")
    assert "tensorrt_rtx cannot build Det as node" in refused("build", det, "--profile", "8")


@needs_rtx
def test_a_profile_that_does_not_cover_the_batch(room: Path) -> None:
    fixed, any_batch = models.one_conv(room, "4"), models.one_conv(room)
    said = refused("build", fixed, "--profile", "1/8/32")
    assert "profile 1/8/32 does not fit" in said
    assert "whose batch is fixed at 4" in said
    assert "say for instance --profile 1/8/32" in refused("build", any_batch)
    assert runner.invoke(app, ["build", str(fixed), "--sm", "86"]).exit_code == 0


@needs_rtx
def test_a_gpu_that_is_no_target(room: Path) -> None:
    said = refused("build", models.one_conv(room), "--profile", "8", "--sm", "86,87")
    assert "SM87 is no target of tensorrt_rtx" in said
    assert "which builds for SM75, SM80, SM86" in said
    said = refused("build", models.bfloat16_conv(room), "--profile", "8", "--sm", "75", "--check-only")
    assert said == "no engine can be built for SM75; nothing was written"


@needs_rtx
def test_flags_that_the_package_has_not(room: Path) -> None:
    path = models.one_conv(room)
    assert "has no BuilderFlag.FP16, only" in refused("build", path, "--profile", "8", "--flag", "FP16")
    assert "needs a GPU at build time" in refused("build", path, "--profile", "8", "--flag", "strip-plan")
    assert "no lean runtime" in refused("build", path, "--profile", "8", "--version-compatible")
    assert "takes the GPUs by --sm" in refused("build", path, "--profile", "8", "--hardware-compatible", "same")
    found = runner.invoke(app, ["build", str(path), "--profile", "8", "--weak-typing", "--fp16"])
    assert found.exit_code == 7
    assert "warning: --weak-typing" in found.stderr
    assert "for tensorrt 10.0 to 10.11 alone" in found.stderr


def test_a_missing_package(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it fails as if it were not there
    said = refused("build", models.one_conv(room), "--profile", "8", "--backend", "tensorrt")
    assert said == 'the package tensorrt is not installed: pip install "prunec[tensorrt]"'


@needs_rtx
def test_a_cache_that_cannot_be_written(room: Path) -> None:
    path = models.one_conv(room)
    Path("file").write_text("in the way")
    assert "the cache file cannot be made" in refused("build", path, "--profile", "8", "--cache", "file")
    assert "the cache file/below cannot be made" in refused("build", path, "--profile", "8", "--cache", "file/below")


def test_an_output_that_is_something_else(room: Path) -> None:
    path = models.one_conv(room)
    assert "prunec did not build it" in refused("build", path, "--profile", "8", "-o", path, code=2)
    assert "there is no folder nowhere" in refused("build", path, "--profile", "8", "-o", "nowhere/x.engine", code=8)
    assert "--fp16 and --int8 exclude each other" in refused("build", path, "--fp16", "--int8", code=2)

"""Provenance and ONNX files: what is stamped is read back; what is broken is a sentence, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import helper

from prunec.deploy.onnx import onnx_file, provenance
from prunec.deploy.ort.runtime import session
from prunec.errors import BackendError, DataError
from prunec.files import artefacts

MODEL = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 18]> g (float[batch, 3, 4, 5] x) => (float[batch, 3, 4, 5] y) { y = Relu(x) }
""")


def test_stamped_written_and_read_back(tmp_path: Path) -> None:
    stamped = provenance.stamp(MODEL, {"version": "1", "prunec.target": "macs:0.5"})
    path = tmp_path / "model.onnx"
    assert onnx_file.save(stamped, path) == path.stat().st_size
    assert provenance.read(onnx_file.load(path)) == {"target": "macs:0.5", "version": "1"}
    found = session(path).get_modelmeta().custom_metadata_map
    assert found == {"prunec.target": "macs:0.5", "prunec.version": "1"}
    assert provenance.read(MODEL) == {}
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_digests_are_of_the_content() -> None:
    assert provenance.digest({"a": 1, "b": [2]}) == provenance.digest({"b": [2], "a": 1})
    assert provenance.digest(MODEL) != provenance.digest(provenance.stamp(MODEL, {"version": "1"}))


def test_the_interface_is_read() -> None:
    assert onnx_file.input_shape(MODEL) == (3, 4, 5)
    assert onnx_file.only_batch(MODEL) is None


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(MODEL.SerializeToString()[:keep])
    with pytest.raises(BackendError, match="is not a whole ONNX model; write or fetch it again") as caught:
        onnx_file.load(path)
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)


def test_no_file_and_custom_operators(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="there is no model file"):
        onnx_file.load(tmp_path / "none.onnx")
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    model.graph.node[0].domain, model.graph.node[0].name = "mine", "odd"
    model.opset_import.append(helper.make_opsetid("mine", 1))
    path = tmp_path / "custom.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"has the operator mine\.Relu \(node 'odd'\)"):
        onnx_file.load(path)


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx_file.require_free(path)
    path.touch()
    with pytest.raises(DataError, match="exists: choose another name, or replace it with --force"):
        onnx_file.require_free(path)
    onnx_file.require_free(path, force=True)
    with pytest.raises(DataError, match="is a folder"):
        onnx_file.require_free(tmp_path)
    with pytest.raises(DataError, match="make it first"):
        onnx_file.require_free(tmp_path / "none" / "model.onnx")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full"):
        onnx_file.save(MODEL, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_story_beside_a_program_is_kept_when_files_come_later_and_not_when_one_changes(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with artefacts.folder(place) as folder:
        (folder / "model.pt2").write_bytes(b"a program")
        onnx_file.save(provenance.stamp(MODEL, {"target": "macs:0.5"}), folder / "model.onnx")
    assert provenance.beside(place / "model.pt2") == {"target": "macs:0.5"}
    (place / "model.engine").write_bytes(b"built later")
    assert provenance.beside(place / "model.pt2") == {"target": "macs:0.5"}
    assert provenance.beside(place / "model.onnx") == {}
    (place / "model.pt2").write_bytes(b"A program")
    assert provenance.beside(place / "model.pt2") == {}
    assert provenance.beside(tmp_path / "alone.pt2") == {}

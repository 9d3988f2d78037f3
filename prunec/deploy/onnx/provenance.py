"""Stamp the origin of a model into its ONNX file as `prunec.*` metadata.

    version, source (sha256 of the weights), pipeline, plan (sha256 of what was kept), calibration (sha256 of the
    images), target, seed; later precision, quantisation, the images of either, parent (sha256 of the source file)

ONNX Runtime returns it as `session.get_modelmeta().custom_metadata_map`. Graph tools drop metadata, so stamp last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import onnx

from ...files import manifest

PREFIX = "prunec."


def stamp(model: onnx.ModelProto, provenance: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy of `model` with `provenance` as its only metadata, sorted, under `prunec.`."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    del stamped.metadata_props[:]
    for key, value in sorted(provenance.items()):
        stamped.metadata_props.add(key=f"{PREFIX}{key.removeprefix(PREFIX)}", value=value)
    return stamped


def read(model: onnx.ModelProto) -> dict[str, str]:
    """Return the provenance of `model`, keys without prefix; empty if not by prunec."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    return {key.removeprefix(PREFIX): value for key, value in entries.items() if key.startswith(PREFIX)}


def derived(made: onnx.ModelProto, source: onnx.ModelProto, facts: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy of `made` with the provenance of its `source`, and further facts."""
    return stamp(made, {**read(source), **facts, "parent": digest(source)})


def digest(content: object) -> str:
    """Compute the sha256, in hexadecimal, of a model's bytes or of JSON content."""
    if isinstance(content, onnx.ModelProto):
        return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def beside(path: Path) -> dict[str, str]:
    """Read the stamp of the `model.onnx` beside a `.pt2` in an unchanged output folder."""
    if path.suffix != ".pt2" or manifest.changed(path.parent) or not path.with_name("model.onnx").is_file():
        return {}
    return read(onnx.load(path.with_name("model.onnx")))

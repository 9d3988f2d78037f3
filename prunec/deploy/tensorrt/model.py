"""Read and check an ONNX file before an engine is built from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from ...errors import BackendError
from ...files.digest import of_files
from ..onnx.model_inputs import fed, sizes_of
from .settings import Profile

DOMAINS = {"", "ai.onnx", "com.microsoft"}  # the parser takes some of com.microsoft, and names the others


@dataclass(frozen=True)
class Source:
    """Readable ONNX file with its inputs."""

    path: Path
    sha256: str  # of the file and of its external data, in their order
    inputs: dict[str, tuple[int | None, ...]]  # None: a dimension that is not fixed
    external: bool

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read the file. Raises BackendError if it is missing, truncated or not ONNX, or has custom operators."""
        if not path.is_file():
            raise BackendError(f"there is no model file '{path}'")
        model = _parsed(path)
        _refuse_custom(model, path)
        external = _external_files(model, path)
        inputs = {name: sizes_of(kind) for name, kind in fed(model).items()}
        return cls(path, of_files(path, *external), inputs, bool(external))

    def check(self, profile: Profile | None) -> None:
        """Raise BackendError if the profile and the inputs do not match."""
        dynamic = [name for name, sizes in self.inputs.items() if None in sizes]
        inner = [name for name in dynamic if None in self.inputs[name][1:]]
        if inner:
            raise BackendError(
                f"'{self.path}' leaves more than the batch of '{inner[0]}' open {self.inputs[inner[0]]}: export it with"
                " its other sizes fixed"
            )
        if dynamic and profile is None:
            raise BackendError(
                f"'{self.path}' takes any batch, so an engine needs to know which: say for instance --profile 1/8/32"
            )
        fixed = {sizes[0] for name, sizes in self.inputs.items() if sizes and name not in dynamic}
        wrong = [batch for batch in fixed if profile is not None and {profile.least, profile.most} != {batch}]
        if not dynamic and wrong:
            raise BackendError(
                f"profile {profile} does not fit '{self.path}', whose batch is fixed at {wrong[0]}: leave --profile"
                " out, or export with a dynamic batch"
            )


def _parsed(path: Path) -> onnx.ModelProto:
    """Load the graph without its external data."""
    advice = "it is truncated, or no ONNX file: export or copy it again"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has moved between versions
        raise BackendError(f"'{path}' cannot be read as ONNX: {advice}") from error
    if not model.graph.output or not model.opset_import:
        raise BackendError(f"'{path}' holds no graph: {advice}")
    return model


def _refuse_custom(model: onnx.ModelProto, path: Path) -> None:
    """Raise if an operator is neither ONNX's nor a function of the file."""
    own = {(function.domain, function.name) for function in model.functions}
    custom = [
        f"{node.domain}.{node.op_type}"
        for node in model.graph.node
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own
    ]
    if custom:
        named = ", ".join(sorted(set(custom)))
        raise BackendError(
            f"'{path}' uses operators that are not ONNX's own ({named}): no engine can be built from it; express them"
            " with standard operators before the export"
        )


def _external_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Return the files of external weights. Raises BackendError if one is missing."""
    names = {ExternalDataInfo(one).location for one in model.graph.initializer if uses_external_data(one)}
    files = [path.parent / name for name in sorted(names)]
    missing = [each.name for each in files if not each.is_file()]
    if missing:
        raise BackendError(f"'{path}' keeps its weights in {missing[0]}, which is not beside it: copy that file too")
    return files

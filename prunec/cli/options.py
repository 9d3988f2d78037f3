"""Record the groups of options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..request.config import IMAGES, CompressRequest, Sources
from ..request.constraints import Constraints
from ..request.options import option, optional, reuse
from ..request.values import FLAG, NUMBER, PATH, TEXT
from .console import warn
from .inputs import example_inputs, preprocess_of, read_images

if TYPE_CHECKING:
    from ..data.images import Images
    from ..frontend.load import LoadedModel
    from ..ir.program import Program
    from ..ir.signature import Signature
    from ..progress import Track

Shape = tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """Record a network of PyTorch, and its weights."""

    model: str = reuse(Sources, "model")
    weights: Path | None = reuse(Sources, "weights")

    def load(self) -> LoadedModel:
        """Load the network. Raises DataError and SpecError."""
        from ..frontend.load import load_model

        return load_model(self.model, self.weights)


@dataclass(frozen=True, kw_only=True)
class ShapedNetwork(Network):
    """Record a network of PyTorch, and the shape of its input."""

    input_shape: str | None = reuse(Sources, "input_shape", kind=TEXT)


@dataclass(frozen=True, kw_only=True)
class CapturedNetwork(ShapedNetwork):
    """Record a network of PyTorch that is captured without images."""

    opaque: Sequence[str] = reuse(CompressRequest, "opaque")

    def capture(self) -> tuple[LoadedModel, Program]:
        """Load and capture the network; warn of what capture notes."""
        from ..deploy.ort.imported import require_same
        from ..frontend.capture import capture

        loaded = self.load()
        example = example_inputs(loaded, self.input_shape)
        require_same(loaded.model, example)
        captured = capture(loaded.model, example, tuple(self.opaque))
        for note in captured.notes:
            warn(note)
        return loaded, captured


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """Record an ONNX file to read."""

    model: Path = field(metadata=option("The ONNX file.", PATH, metavar="MODEL.onnx", flags=("",)))


@dataclass(frozen=True, kw_only=True)
class OnnxOutput:
    """Record an ONNX file to write."""

    output: Path = field(metadata=option("The file to write.", PATH, metavar="FILE.onnx", flags=("-o", "--output")))
    force: bool = optional(False, "Replace the file.", FLAG)


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """Record an engine to run."""

    engine: Path = field(metadata=option("What prunec build made.", PATH, metavar="FILE.engine", flags=("",)))


@dataclass(frozen=True, kw_only=True)
class GivenImages:
    """Record the images to run on, and how their pixels become inputs."""

    data: str | None = reuse(Sources, "data", default=None, help=f"To run on, or else on noise: {IMAGES}.")
    preprocess: str | None = reuse(Sources, "preprocess")

    def read(
        self, shape: Shape, takes: Signature | None, track: Track, limit: int | None = None, seed: int = 0
    ) -> Images:
        """Read at most `limit` of the given images, for inputs of a shape."""
        from ..data.images import ImageSource

        assert self.data is not None
        how = preprocess_of(self.preprocess, self.data, shape)
        return read_images(ImageSource(self.data, how, limit, seed), takes, track)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Record the layers that may lose channels."""

    freeze: Sequence[str] = reuse(CompressRequest, "freeze")
    only: Sequence[str] = reuse(CompressRequest, "only")

    @property
    def constraints(self) -> Constraints:
        """Return the limits on channels."""
        return Constraints(tuple(self.freeze), tuple(self.only))


@dataclass(frozen=True, kw_only=True)
class Torch:
    """Record where PyTorch computes, and in which steps."""

    batch: int | None = reuse(CompressRequest, "batch")
    device: str | None = reuse(CompressRequest, "device")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Record what ONNX Runtime runs on."""

    provider: str = reuse(
        CompressRequest,
        "provider",
        help="What ONNX Runtime runs on: cpu, cuda, tensorrt, rtx, openvino, coreml or directml; that, or nothing.",
        panel=None,
    )


@dataclass(frozen=True, kw_only=True)
class Printing:
    """Record the form of printed results."""

    as_json: bool = optional(False, "Print JSON instead of text.", FLAG, flags=("--json",))


@dataclass(frozen=True, kw_only=True)
class Listing(Printing):
    """Record how much is printed, and its form."""

    show_all: bool = optional(False, "Show everything.", FLAG, flags=("--all",))


@dataclass(frozen=True, kw_only=True)
class Results:
    """Record the file of all results."""

    to_json: Path | None = optional(None, "Write the findings too.", PATH, metavar="FILE", flags=("--json",))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Record the file of a drawing."""

    plot: Path | None = optional(None, "Draw the curves as SVG.", PATH, metavar="FILE.svg")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Record how long is timed."""

    seconds: float = optional(2, "To time for.", NUMBER, metavar="S")


@dataclass(frozen=True, kw_only=True)
class Profiling:
    """Record whether layers are timed."""

    profile: bool = optional(False, "Show the time of every layer too, of ONNX files.", FLAG)

"""Check an engine against its ONNX file, as far as possible without a GPU.

With a GPU the engine and ONNX Runtime run on equal inputs: maximum, mean, cosine, same class. Without one the record,
the file, the reference and a second build are checked, not the GPU's results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...data.noise import noise_of
from ...errors import BackendError, DataError, NumericsError, SpecError
from ...progress import Track, silent
from ..ort.parity import Agreement, agreement
from ..ort.runtime import run, session
from . import gpu, process
from .model import Source
from .package import PACKAGES
from .runner import installed, open_engine
from .settings import Settings
from .store import Engine, load

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCES = {"float32": 5e-3, "float16": 2e-2, "bfloat16": 1e-1, "int8": 3e-1, "float8": 3e-1}  # float32: TF32 is on
TOP1 = 0.98  # least share of samples with the same class


@dataclass(frozen=True)
class Limits:
    """Largest difference, and least share of samples with the same class.

    The difference is by default that of the precision.
    """

    tolerance: float | None = None
    top1: float = TOP1


@dataclass(frozen=True)
class Verification:
    """Result of a check: proved and unproved claims, and agreement with ONNX Runtime."""

    proved: tuple[str, ...]
    unproved: tuple[str, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    tolerance: float = 0.0
    top1: float = TOP1

    def require(self) -> Verification:
        """Return self. Raises NumericsError if the engine differs, BackendError if it could not run."""
        for one in self.agreements:
            if not one.within(self.tolerance, self.top1):
                raise NumericsError(
                    f"the engine differs from ONNX Runtime at {one}; allowed is {self.tolerance:g}, and the same class"
                    f" for {self.top1:.0%}: do not ship it, and try it with --no-flag TF32 or in float32"
                )
        if self.unproved:
            raise BackendError("the engine was not run, for there is no GPU here: run prunec verify where there is one")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return all fields, in finite numbers."""
        return {**asdict(self), "agreements": [asdict(one) for one in self.agreements]}


def verify(
    path: Path,
    onnx: Path | None = None,
    inputs: tuple[Tensor, ...] | None = None,
    *,
    batches: Sequence[int] | None = None,
    limits: Limits = Limits(),
    track: Track = silent,
) -> Verification:
    """Check the engine `path` against its ONNX file, by default the recorded one beside it.

    `inputs` [N, …] are in the model's order, by default seeded noise; `batches` are by default the profile's three.
    Raises BackendError for a record, file, version or GPU that does not match, DataError for batches that the profile
    does not cover or the inputs do not fill.
    """
    engine = load(path)
    source = Source.read(onnx or path.parent / engine.record["onnx"]["file"])
    if source.sha256 != engine.record["onnx"]["sha256"]:
        raise BackendError(f"'{path}' was built from another file than '{source.path}': give the one it was built from")
    reference = session(source.path)
    sizes = _sizes(engine, source, batches)
    given = noise(source, max(sizes)) if inputs is None else inputs
    if min(len(each) for each in given) < max(sizes):
        raise DataError(f"batch {max(sizes)} needs that many samples, and {min(map(len, given))} were given: give more")
    proved = (
        "the engine is the one that its record describes, and was built from this ONNX file",
        f"ONNX Runtime runs the ONNX file at batch {', '.join(map(str, sizes))}, and no output is NaN",
    )
    names = [entry.name for entry in reference.get_inputs()]
    expected = {size: _finite(reference, tuple(each[:size] for each in given), size) for size in sizes}
    if gpu.compute_capability() is None:
        return _without_gpu(engine, source, proved, track)
    runner = open_engine(engine)
    steps: Iterable[int] = track(sizes, "running the engine")
    order = [entry.name for entry in reference.get_outputs()]
    found, limit = [], _tolerance(engine) if limits.tolerance is None else limits.tolerance
    for size in steps:
        outputs = runner({name: each[:size] for name, each in zip(names, given, strict=True)})
        found.append(agreement(size, expected[size], [outputs[name].float().numpy() for name in order], limit))
    return Verification(proved, (), tuple(found), limit, limits.top1)


def noise(source: Source, batch: int) -> tuple[Tensor, ...]:
    """Return seeded normal noise for every input, at `batch` or the fixed batch."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        noise_of([size or 1 for size in sizes[1:]], torch.float32, sizes[0] or batch, generator=generator)
        for sizes in source.inputs.values()
    )


def covered(engine: Engine, batches: Iterable[int]) -> None:
    """Raise BackendError for a batch that the engine does not take."""
    profile = engine.profile
    wrong = [batch for batch in batches if profile is not None and not profile.covers(batch)]
    if wrong:
        raise BackendError(
            f"the engine takes batches {profile} (least/best/most), and not {wrong[0]}: choose one of those, or build"
            " with another --profile"
        )


def _sizes(engine: Engine, source: Source, batches: Sequence[int] | None) -> list[int]:
    """Return the batches to run, each once."""
    fixed = next((sizes[0] for sizes in source.inputs.values() if sizes and sizes[0]), None)
    if engine.profile is None:
        return [fixed or 1]
    sizes = sorted(set(batches or (engine.profile.least, engine.profile.best, engine.profile.most)))
    if sizes[0] < 1:
        raise SpecError(f"a batch of {sizes[0]} holds nothing; give 1 or more")
    covered(engine, sizes)
    return sizes


def _finite(reference: InferenceSession, inputs: tuple[Tensor, ...], size: int) -> list[Any]:
    """Return ONNX Runtime's outputs, possibly infinite. Raises NumericsError for NaN."""
    outputs = run(reference, inputs)
    if any(np.isnan(values).any() for values in outputs):
        raise NumericsError(f"ONNX Runtime gives NaN at batch {size}: the ONNX file is at fault")
    return outputs


def _without_gpu(engine: Engine, source: Source, proved: tuple[str, ...], track: Track) -> Verification:
    """Check the installed version and, with RTX, the bytes of a second build."""
    targets = ", ".join(f"SM{name}" for name in engine.record["targets"]) or "any GPU"
    unproved = (
        f"that it loads and its kernels compile on {targets}",
        "that its outputs are those of ONNX Runtime",
        "its latency",
    )
    trt = installed(engine)
    again = f"{trt.__name__} {trt.__version__}, which built it, is installed"
    if not PACKAGES[engine.record["settings"]["backend"]].ahead_of_time:
        return Verification((*proved, again), unproved)
    settings = Settings.from_json(engine.record["settings"])
    _, plan, _ = process.ask(source, settings, track=track, what="building it again")
    if plan == engine.plan:
        return Verification((*proved, again, f"a second build gives the same {len(plan):,} bytes"), unproved)
    why = (
        "it did not" if engine.record["reproducible"] else "it did not, and the system forbids what makes them the same"
    )
    same = f"that a second build gives the same bytes: {why}"
    return Verification((*proved, again), (same, *unproved))


def _tolerance(engine: Engine) -> float:
    """Return the tolerance of the least precise layers."""
    kinds = engine.record["computes_in"]
    return max((TOLERANCES.get(name, 3e-1) for name in kinds), default=5e-3)

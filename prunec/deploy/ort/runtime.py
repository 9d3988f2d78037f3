"""ONNX Runtime, set up to be compared: threads explicit, no denormals, pools spin in runs only, no silent fallback.

Denormal weights made a trained MobileNet 8x slower (onnxruntime issue 12959). The thread pools of two sessions in one
process steal each other's cores while they spin, and one that never spins wakes up for every kernel: measured with two
threads, ResNet-56 at batch 1 took 15.8 ms beside others that spin, 4.4 ms without, 3.1 ms where a pool spins until its
run is over (2.7 ms alone). `prunec.machine.environment` says what the timings are true for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor

from ...errors import BackendError, DataError, SpecError
from ...frontend.process_state import flushes_denormals
from ..onnx.model_inputs import numpy_type
from . import providers

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = np.ndarray[Any, np.dtype[Any]]
Model = bytes | Path | onnx.ModelProto

FLOAT8_HINT = "; it fuses FP8 layers into kernels that it does not have: prunec evaluate --as-written does not"
NUMBERS = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
ERRORS_ONLY = 3  # of ONNX Runtime's log severities


def require() -> Any:
    """The module `onnxruntime`. Raises BackendError where neither of the packages that bring it is installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            'ONNX Runtime is not installed: pip install "prunec[cpu]", or "prunec[gpu]" for an NVIDIA GPU'
        ) from error


def session(
    model: Model,
    *,
    threads: int = 1,
    provider: str = "cpu",
    integers: bool = True,
    profile: Path | None = None,
) -> InferenceSession:
    """`model`, as bytes, a file or a ModelProto, ready to run with `threads` intra-op threads and all optimisations.

    It runs on `provider`, a name of `providers.PROVIDERS`, or not at all. Without `integers` what lies between
    DequantizeLinear and QuantizeLinear is computed in floating point, as written, and only what is exact is optimised:
    before FP8 the runtime (1.31.1) removes a Relu, and is wrong to do so. With `profile` the time of every kernel goes
    into a file of that prefix, whose path `end_profiling` gives.

    Raises BackendError where ONNX Runtime is missing, lacks the provider, falls back from it, or cannot read the model;
    SpecError for a thread count below 1 or a provider that is not known.
    """
    runtime = require()
    options = _options(runtime, threads)
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    asked = providers.ask(runtime, provider, options)
    source, name = _source(model)
    try:
        with denormals_as_zero():
            opened = runtime.InferenceSession(source, options, providers=asked, enable_fallback=False)
    except Exception as error:
        hint = FLOAT8_HINT if "float8" in str(error) else ""
        raise BackendError(f"ONNX Runtime cannot load {name}: {_reason(error)}{hint}") from error
    providers.require_taken(opened, provider)
    return opened


def run(session: InferenceSession, inputs: tuple[Tensor | Array, ...]) -> list[Array]:
    """The outputs of `session` for `inputs`, which are given in the model's order.

    Raises DataError for inputs that do not fit the model, BackendError where it fails on those that do.
    """
    feed = feed_of(session, inputs)
    try:
        with denormals_as_zero():
            return list(session.run(None, feed))
    except Exception as error:
        failure = DataError if "INVALID_ARGUMENT" in str(error) else BackendError
        raise failure(f"{signature(session)}, given {_shapes(feed.values())}: {_reason(error)}") from error


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Flush denormals in this thread, and do as before when done: a session turns them off and leaves them so."""
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def feed_of(session: InferenceSession, inputs: Sequence[Tensor | Array]) -> dict[str, Array]:
    """Input name → array, of the width that the model takes. Raises DataError for another number of inputs."""
    arrays, entries = [_array(given) for given in inputs], session.get_inputs()
    if len(arrays) != len(entries):
        said = f"{len(arrays)} inputs instead of {len(entries)}"
        raise DataError(f"{signature(session)}, given {_shapes(arrays)}: {said}")
    return {entry.name: _as(numpy_type(entry.type), array) for entry, array in zip(entries, arrays, strict=True)}


def signature(session: InferenceSession) -> str:
    """Return the inputs of the model as text: `the model takes input float[batch, 3, 32, 32]`."""
    entries = (
        f"{entry.name} {entry.type.removeprefix('tensor(').removesuffix(')')}[{', '.join(map(str, entry.shape))}]"
        for entry in session.get_inputs()
    )
    return f"the model takes {', '.join(entries)}"


def _options(runtime: Any, threads: int) -> Any:
    """Session options for `threads`; the pool spins during calls and sleeps between them."""
    if threads < 1:
        raise SpecError(f"{threads} threads cannot run anything; ask for 1 or more")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if threads > 1:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _source(model: Model) -> tuple[bytes | str, str]:
    """Return the model as ONNX Runtime reads it, and its name for errors.

    A path remains a path, for its weights may lie beside it. Raises BackendError where there is no such file, or the
    model exceeds 2 GB.
    """
    if isinstance(model, bytes):
        return model, "the model"
    if isinstance(model, Path):
        if not model.is_file():
            raise BackendError(f"there is no model file '{model}'")
        return str(model), f"'{model}'"
    try:
        return model.SerializeToString(), "the model"
    except Exception as error:  # ValueError or a protobuf class, by version
        raise BackendError("the model exceeds 2 GB; save it with external data and give its path") from error


def _array(given: Tensor | Array) -> Array:
    """A contiguous array of the same values."""
    array = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    return np.ascontiguousarray(array)


def _as(kind: str, array: Array) -> Array:
    """Floats in the model's width, and integers too where they fit into it; anything else as it is."""
    if array.dtype.name == kind or kind not in NUMBERS or array.dtype.kind not in "iuf":
        return array
    wanted = np.dtype(kind)
    if (array.dtype.kind == "f") != (wanted.kind == "f"):
        return array
    cast = array.astype(wanted)
    return cast if wanted.kind == "f" or np.array_equal(cast, array) else array


def _shapes(arrays: Any) -> str:
    """`float32[2, 3, 32, 32], …`"""
    return ", ".join(f"{array.dtype}[{', '.join(map(str, array.shape))}]" for array in arrays) or "nothing"


def _reason(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its code."""
    return str(error).strip().splitlines()[0].rpartition(" : ")[2].rstrip(". ") if str(error).strip() else "no reason"

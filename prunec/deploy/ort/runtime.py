"""Run ONNX Runtime for fair comparisons: explicit threads, no denormals, no silent fallback.

Denormal weights slow some networks down (onnxruntime issue 12959). Spinning thread pools of two sessions take each
other's cores, and one that never spins wakes up for every kernel, so a pool spins only during its run.
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
    """Return the module `onnxruntime`. Raises BackendError if not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            'ONNX Runtime is not installed: pip install "prunec[cpu]", or "prunec[gpu]" for an NVIDIA GPU'
        ) from error


def session(
    model: Model, *, threads: int = 1, provider: str = "cpu", integers: bool = True, profile: Path | None = None
) -> InferenceSession:
    """Open `model` with `threads` intra-op threads and all optimisations.

    It runs on `provider`, a name of `providers.PROVIDERS`, or not at all. Without `integers`, code between
    DequantizeLinear and QuantizeLinear runs in floating point, as written, with exact optimisations only: before FP8
    the runtime (1.31.1) wrongly removes a Relu. With `profile` kernel times are written to a file of that prefix;
    `end_profiling` returns its path.

    Raises BackendError if ONNX Runtime or the provider is missing, the provider falls back, or the model cannot be
    read; SpecError for fewer than 1 thread or an unknown provider.
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
    """Return the outputs of `session` for `inputs`. Raises DataError if they do not fit, BackendError if it fails."""
    feed = feed_of(session, inputs)
    try:
        with denormals_as_zero():
            return list(session.run(None, feed))
    except Exception as error:
        failure = DataError if "INVALID_ARGUMENT" in str(error) else BackendError
        raise failure(f"{signature(session)}, given {_shapes(feed.values())}: {_reason(error)}") from error


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Flush denormals in this thread inside the block, then restore: sessions do not."""
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def feed_of(session: InferenceSession, inputs: Sequence[Tensor | Array]) -> dict[str, Array]:
    """Return arrays by input name, in the model's types. Raises DataError for another number of inputs."""
    arrays, entries = [_array(given) for given in inputs], session.get_inputs()
    if len(arrays) != len(entries):
        said = f"{len(arrays)} inputs instead of {len(entries)}"
        raise DataError(f"{signature(session)}, given {_shapes(arrays)}: {said}")
    return {entry.name: _as(numpy_type(entry.type), array) for entry, array in zip(entries, arrays, strict=True)}


def signature(session: InferenceSession) -> str:
    """Return the inputs as text: `the model takes input float[batch, 3, 32, 32]`."""
    entries = (
        f"{entry.name} {entry.type.removeprefix('tensor(').removesuffix(')')}[{', '.join(map(str, entry.shape))}]"
        for entry in session.get_inputs()
    )
    return f"the model takes {', '.join(entries)}"


def _options(runtime: Any, threads: int) -> Any:
    """Return session options for `threads`; the pool spins during calls only."""
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
    """Return the model for ONNX Runtime, and its name for errors.

    A path is kept, since its weights may be beside it. Raises BackendError if there is no such file, or the model
    exceeds 2 GB.
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
    """Return a contiguous array of equal values."""
    array = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    return np.ascontiguousarray(array)


def _as(kind: str, array: Array) -> Array:
    """Cast floats to the model's width, and integers if they fit; others are unchanged."""
    if array.dtype.name == kind or kind not in NUMBERS or array.dtype.kind not in "iuf":
        return array
    wanted = np.dtype(kind)
    if (array.dtype.kind == "f") != (wanted.kind == "f"):
        return array
    cast = array.astype(wanted)
    return cast if wanted.kind == "f" or np.array_equal(cast, array) else array


def _shapes(arrays: Any) -> str:
    """Return `float32[2, 3, 32, 32], …`."""
    return ", ".join(f"{array.dtype}[{', '.join(map(str, array.shape))}]" for array in arrays) or "nothing"


def _reason(error: Exception) -> str:
    """Return the first line of ONNX Runtime's message, without its code."""
    return str(error).strip().splitlines()[0].rpartition(" : ")[2].rstrip(". ") if str(error).strip() else "no reason"

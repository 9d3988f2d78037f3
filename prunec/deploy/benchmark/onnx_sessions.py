"""Time ONNX files in ONNX Runtime.

On a GPU the runtime shows no stages, so the host's clock times the run. With transfers it begins and ends in host
memory, without them inputs and outputs are kept on the device (I/O binding).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from ..onnx.model_inputs import rows_of_tables
from ..ort import runtime
from ..ort.providers import nodes_by_provider
from ..ort.runtime import Array
from .contestant import Entry, Opened, Setup, require_no_gpu_options
from .inputs import Arrays, Takes
from .sampling import Run, Stages

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CUDA_MEMORY = ("cuda", "tensorrt", "rtx")


def open_model(entry: Entry, setup: Setup) -> Opened:
    """Open an ONNX file. Raises BackendError if it does not load or run on the provider."""
    require_no_gpu_options(setup, "ONNX Runtime")
    path = Path(entry.source)
    session = runtime.session(entry.model or path, threads=setup.threads, provider=entry.provider)
    rows = rows_of_tables(entry.model or onnx.load(path, load_external_data=False))
    on_gpu = entry.provider in CUDA_MEMORY
    facts = {
        "threads": setup.threads,
        "spinning": setup.threads > 1,  # of its thread pool, during a run
        "denormals_as_zero": True,
        "provider": entry.provider,
        "nodes_by_provider": nodes_by_provider(session),
        "transfers": on_gpu and setup.transfers,
        "cuda_graph": False,
    }
    return Opened(Takes.of(session, rows), facts, partial(_bind, session, on_gpu and not setup.transfers))


def _bind(session: InferenceSession, on_device: bool, inputs: Arrays) -> Run:
    runtime.run(session, inputs)
    feed = runtime.feed_of(session, inputs)
    return partial(_resident, session, _binding(session, feed)) if on_device else partial(whole, session, feed)


def whole(session: InferenceSession, feed: Mapping[str, Array]) -> Stages:
    """Run the session once, from host memory to host memory."""
    session.run(None, feed)
    return {}


def _binding(session: InferenceSession, feed: Mapping[str, Array]) -> Any:
    """Copy the inputs to the GPU once, and bind outputs there."""
    values = runtime.require().OrtValue
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_ortvalue_input(name, values.ortvalue_from_numpy(array, "cuda", 0))
    for entry in session.get_outputs():
        binding.bind_output(entry.name, "cuda", 0)
    return binding


def _resident(session: InferenceSession, binding: Any) -> Stages:
    session.run_with_iobinding(binding)
    return {}

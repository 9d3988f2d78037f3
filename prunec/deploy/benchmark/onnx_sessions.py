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


class OnnxSession(Opened):
    """Session of ONNX Runtime."""

    def __init__(self, session: InferenceSession, entry: Entry, setup: Setup, rows: Mapping[str, int]) -> None:
        self._session = session
        self._on_device = entry.provider in CUDA_MEMORY and not setup.transfers
        self.takes = Takes.of(session, rows)
        self.facts = {
            "threads": setup.threads,
            "spinning": setup.threads > 1,  # of its thread pool, during a run
            "denormals_as_zero": True,
            "provider": entry.provider,
            "nodes_by_provider": nodes_by_provider(session),
            "transfers": entry.provider in CUDA_MEMORY and setup.transfers,
            "cuda_graph": False,
        }

    def bind(self, inputs: Arrays) -> Run:
        """Return a run on `inputs`. Raises DataError if they do not fit."""
        runtime.run(self._session, inputs)
        feed = runtime.feed_of(self._session, inputs)
        if self._on_device:
            return partial(_resident, self._session, _binding(self._session, feed))
        return partial(whole, self._session, feed)


def open_model(entry: Entry, setup: Setup) -> Opened:
    """Open an ONNX file. Raises BackendError if it does not load or run on the provider."""
    require_no_gpu_options(setup, "ONNX Runtime")
    path = Path(entry.source)
    session = runtime.session(entry.model or path, threads=setup.threads, provider=entry.provider)
    model = entry.model or onnx.load(path, load_external_data=False)
    return OnnxSession(session, entry, setup, rows_of_tables(model))


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

"""Rewrites of an exported ONNX graph, run in order by `clean`. Each keeps the outputs and the interface's names.

The exporter leaves names such as `node_Conv_374`, stack traces with local paths, and now and then an Identity. Clean-up
is for readers, parsers and reproducible bytes, and makes no engine faster (measured: the same kernels after as before)
but for `join_subsampling` and `name_pooling`.
`prunec.deploy.onnx.rewrites` has one idea a file.

>>> clean(model)            # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from .rewrites.constants import fold_constants
from .rewrites.dead import drop_dead, sort_nodes
from .rewrites.gathers import fold_gathers
from .rewrites.identities import remove_identities
from .rewrites.names import name_interface, name_nodes
from .rewrites.pooling import name_pooling
from .rewrites.subsampling import join_subsampling

MAX_IR = 10  # read by ONNX Runtime since 1.18 and by TensorRT since 10.0
Rewrite = Callable[[gs.Graph], None]
TIDY: tuple[Rewrite, ...] = (remove_identities, drop_dead, sort_nodes)  # leaves the names
REWRITES: tuple[Rewrite, ...] = (
    fold_constants, remove_identities, fold_gathers, join_subsampling, name_pooling, drop_dead, sort_nodes, name_nodes,
)  # fmt: skip
SAME: Mapping[str, str] = MappingProxyType({})


def clean(
    model: onnx.ModelProto, rewrites: Sequence[Rewrite] = REWRITES, names: Mapping[str, str] = SAME
) -> onnx.ModelProto:
    """`model` after every rewrite, its inputs and outputs called by `names` (old to new); the argument is left alone.

    onnx-graphsurgeon drops all `metadata_props`, of the model and of its nodes: the stack traces go, and provenance is
    stamped after. Raises SpecError for a name that is not there, or is taken.
    """
    with G_LOGGER.suppress(G_LOGGER.ERROR):
        graph = gs.import_onnx(model)
        for rewrite in rewrites:
            rewrite(graph)
        name_interface(graph, names)
        cleaned: onnx.ModelProto = gs.export_onnx(graph)
    cleaned.ir_version = min(model.ir_version, MAX_IR)
    cleaned.graph.name, cleaned.graph.doc_string = "prunec", ""
    return cleaned

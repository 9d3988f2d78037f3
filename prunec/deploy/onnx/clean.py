"""Clean an exported ONNX graph by rewrites that keep its outputs and interface names.

The exporter leaves names such as `node_Conv_374`, stack traces with local paths, and some Identity nodes. Clean-up is
for readers, parsers and reproducible bytes; only `join_subsampling` and `name_pooling` make engines faster. Rewrites
are in `prunec.deploy.onnx.rewrites`.

>>> clean(model)            # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from .rewrites.gathers import fold_gathers
from .rewrites.identities import remove_identities
from .rewrites.names import name_interface, name_nodes
from .rewrites.pooling import name_pooling
from .rewrites.subsampling import join_subsampling

MAX_IR = 10  # read by ONNX Runtime since 1.18 and by TensorRT since 10.0
Rewrite = Callable[[gs.Graph], object]
TIDY: tuple[Rewrite, ...] = (remove_identities, gs.Graph.cleanup, gs.Graph.toposort)  # leaves the names
REWRITES: tuple[Rewrite, ...] = (
    gs.Graph.fold_constants, remove_identities, fold_gathers, join_subsampling, name_pooling,
    gs.Graph.cleanup, gs.Graph.toposort, name_nodes,
)  # fmt: skip
SAME: Mapping[str, str] = MappingProxyType({})


def clean(
    model: onnx.ModelProto, rewrites: Sequence[Rewrite] = REWRITES, names: Mapping[str, str] = SAME
) -> onnx.ModelProto:
    """Return a rewritten copy of `model`, its interface renamed by `names` (old to new).

    onnx-graphsurgeon drops all `metadata_props` of the model and its nodes: stack traces are removed, and provenance is
    stamped after. Raises SpecError if a name is missing or taken.
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

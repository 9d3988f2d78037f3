"""What depends on constants alone is computed now."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def fold_constants(graph: gs.Graph) -> None:
    """Compute what depends on constants alone; needs ONNX Runtime, and without it leaves the graph as it is."""
    graph.fold_constants()

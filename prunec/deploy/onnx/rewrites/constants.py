"""Compute values that depend on constants alone, once and before the model runs."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def fold_constants(graph: gs.Graph) -> None:
    """Compute what depends on constants alone; needs ONNX Runtime, and without it leaves the graph as it is."""
    graph.fold_constants()

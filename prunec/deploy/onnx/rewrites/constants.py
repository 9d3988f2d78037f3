"""Compute values that depend on constants alone before the model runs."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def fold_constants(graph: gs.Graph) -> None:
    """Fold constants; without ONNX Runtime the graph is unchanged."""
    graph.fold_constants()

"""Remove everything that no output needs, and sort the nodes."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def drop_dead(graph: gs.Graph) -> None:
    """Remove nodes, constants and values that no output needs."""
    graph.cleanup()


def sort_nodes(graph: gs.Graph) -> None:
    """Sort nodes topologically."""
    graph.toposort()

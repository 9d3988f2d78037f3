"""What the command line measures on a result and adds to its report: accuracy, and latency before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..compression import Result
    from ..data import Images
    from ..progress import Track


def add_accuracy(result: Result, images: Images, batch: int, track: Track) -> None:
    """Top-1 of the dense network, of the same channels removed without compensation, and of the result, in percent."""
    from ..evaluate import accuracy

    networks = {"dense": result.dense.module, "pruned": result.pruned_only(), "compressed": result.module}
    found = {name: accuracy(network, images, batch=batch, track=track) for name, network in networks.items()}
    result.report["accuracy"] = {**found, "images": len(images)}


def add_latency(result: Result, images: Images, opset: int, threads: int, track: Track) -> None:
    """The dense network against the compressed one, both exported the same way, on a real image, at batch 1."""
    from ..deploy import benchmark

    dense, compressed = result.dense_onnx(opset), result.onnx(opset)
    comparison = benchmark.compare(
        dense, compressed, threads=threads, inputs=next(images.batches(1)), seed=result.report["seed"], track=track
    )
    result.report["latency"] = comparison.to_json()
    result.report["dense_onnx"] = {"bytes": dense.ByteSize(), "opset": opset}

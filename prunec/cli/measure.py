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

    programs = {"dense": result.dense, "pruned": result.pruned_program(), "compressed": result.program}
    only = result.dense.only_batch
    found = {
        name: accuracy(program.module, images, batch=only or batch, fixed=only is not None, track=track)
        for name, program in programs.items()
    }
    result.report["accuracy"] = {**found, "images": len(images)}


def add_latency(result: Result, images: Images, opset: int, threads: int, track: Track, provider: str = "cpu") -> None:
    """The dense network against the compressed one, exported alike, on real images, at batch 1 or the only one."""
    from ..deploy import benchmark

    dense, compressed = result.dense_onnx(opset), result.onnx(opset)
    batch = result.dense.only_batch or 1
    comparison = benchmark.compare(
        dense,
        compressed,
        batch=batch,
        threads=threads,
        inputs=next(images.batches(batch)),
        seed=result.report["seed"],
        provider=provider,
        track=track,
    )
    result.report["latency"] = comparison.to_json()
    result.report["dense_onnx"] = {"bytes": dense.ByteSize(), "opset": opset}

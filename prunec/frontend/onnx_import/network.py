"""Run the nodes of an ONNX model as a `torch.nn.Module`; initialisers are parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ...errors import CaptureError, one_line
from ...ir.signature import Signature
from .names import path_of, register
from .node import NUMBERS, OPERATORS, WIDEST_NUMBERS, Node, tensor_of
from .operators.shape import torch_type
from .prepare import Array, Prepared, prepare
from .tail import head_of, tail_of

Seen = Callable[[Node, tuple[Any, ...]], None]


@dataclass(frozen=True)
class _Argument:
    """One input of a node: an earlier value, a stored tensor, or numbers."""

    value: str | None = None
    tensor: str | None = None
    numbers: Any = None


class OnnxNetwork(nn.Module):
    """An imported ONNX model, called with its inputs in order, or by name.

    It computes in float32 where the file says half precision. `file` is the model as given, without what was cut
    off it; `prepared` has the nodes that run. A file with a fixed batch takes other batches only if `free_batch`.
    """

    def __init__(self, file: onnx.ModelProto, where: str = "the ONNX model") -> None:
        super().__init__()
        self.file, self.where, self.free_batch = file, where, True
        self.whole: onnx.ModelProto | None = None  # with the tail that was cut off `file`
        self.prepared: Prepared = prepare(file)
        constants = {one.name for one in file.graph.initializer}
        self.inputs = tuple(one for one in file.graph.input if one.name not in constants)
        self.outputs = tuple(one.name for one in file.graph.output)
        self._paths: dict[str, str] = {}
        self._steps = [(node, self._arguments(node)) for node in self.prepared.nodes]
        self._results = tuple(self._argument(Node("output", "", (), (name,), {}, 0), 0, name) for name in self.outputs)
        read = {name: place for place, (node, _) in enumerate(self._steps) for name in node.inputs}
        self._last: dict[int, list[str]] = {}
        for name, place in read.items():
            if name not in self.outputs:
                self._last.setdefault(place, []).append(name)
        self.eval()

    @property
    def takes(self) -> Signature:
        """Return the inputs of the file: names and types."""
        names = tuple(one.name for one in self.inputs)
        return Signature(self.where, names, (), tuple(self._types()), positional=names)

    @property
    def capture_notes(self) -> tuple[str, ...]:
        """Return a note on the tail that is not imported, if there is one."""
        if self.whole is None:
            return ()
        tail = tail_of(self.whole)
        first = f"{tail[0].op_type} of node '{tail[0].name or tail[0].output[0]}'"
        return (f"{len(tail)} nodes, from {first} on, are not imported: they stay in the ONNX file as they are",)

    @property
    def sizes(self) -> tuple[tuple[int | None, ...], ...]:
        """Return the sizes of each input; None where the file fixes none."""
        return tuple(
            tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in one.type.tensor_type.shape.dim)
            for one in self.inputs
        )

    @property
    def batch(self) -> int | None:
        """Return the batch that the file fixes, None if any."""
        return next((sizes[0] for sizes in self.sizes if sizes), None)

    def example(self, samples: int) -> tuple[Tensor, ...] | None:
        """Return seeded noise of `samples` samples; None where the file leaves sizes open.

        Integers are 0 and 1.
        """
        if any(size is None for sizes in self.sizes for size in sizes[1:]):
            return None
        generator = torch.Generator().manual_seed(0)
        found = []
        for sizes, kind in zip(self.sizes, self._types(), strict=True):
            shape = [samples, *(int(size or 0) for size in sizes[1:])] if sizes else []
            if kind.is_floating_point:
                found.append(torch.randn(shape, generator=generator, dtype=kind))
            else:
                found.append(torch.randint(0, 2, shape, generator=generator).to(kind))
        return tuple(found)

    @property
    def example_inputs(self) -> tuple[Tensor, ...] | None:
        """Return an example that the network runs on; None where the file leaves sizes open."""
        return self.example(2 if self.free_batch or self.batch is None else self.batch)

    def try_to_free_batch(self) -> None:
        """Take any batch in the place of 1, if two samples then stay apart."""
        given = self._steps
        self._steps = [_any_batch(node, arguments) for node, arguments in given]
        self.free_batch = True
        if not _is_free(self):
            self._steps, self.free_batch = given, False

    def forward(self, *tensors: Tensor, **named: Tensor) -> Any:
        """Return the output, or a tuple of the outputs in the order of the file."""
        return self.run(tensors or tuple(named[one.name] for one in self.inputs))

    def run(self, tensors: tuple[Tensor, ...], seen: Seen | None = None) -> Any:
        """Run every node; `seen` is called with each node and its outputs."""
        self._require_batch(tensors)
        values: dict[str, Any] = dict(zip((one.name for one in self.inputs), tensors, strict=True))
        for place, (node, arguments) in enumerate(self._steps):
            found = self._step(node, [self._resolved(one, values) for one in arguments])
            if seen is not None:
                seen(node, found)
            values.update(zip(node.outputs, found, strict=False))
            for name in self._last.get(place, ()):
                values.pop(name, None)
        results = tuple(tensor_of(self._resolved(one, values)) for one in self._results)
        return results[0] if len(results) == 1 else results

    def _step(self, node: Node, inputs: list[Any]) -> tuple[Any, ...]:
        try:
            found = OPERATORS[node.kind](node, *inputs)
        except CaptureError:
            raise
        except Exception as error:
            if torch.compiler.is_exporting():
                raise  # torch.export acts on its own errors
            raise CaptureError(f"the ONNX operator {node}, fails in PyTorch: {one_line(error)}") from error
        return found if isinstance(found, tuple) else (found,)

    def _require_batch(self, tensors: tuple[Tensor, ...]) -> None:
        if len(tensors) != len(self.inputs):
            raise CaptureError(f"{self.where} takes {len(self.inputs)} inputs, and {len(tensors)} were given")
        if not self.free_batch and tensors[0].shape[0] != self.batch:
            raise CaptureError(f"{self.where} is written for batch {self.batch} alone; give images in that batch")

    def _types(self) -> list[torch.dtype]:
        about = Node("input", self.where, (), ("",), {}, 0)
        return [torch_type(about, one.type.tensor_type.elem_type) for one in self.inputs]

    def _resolved(self, argument: _Argument, values: dict[str, Any]) -> Any:
        if argument.value is not None:
            return values[argument.value]
        if argument.tensor is None:
            return argument.numbers
        folder, _, leaf = argument.tensor.rpartition(".")
        return getattr(self.get_submodule(folder), leaf)

    def _arguments(self, node: Node) -> list[_Argument]:
        return [self._argument(node, place, name) for place, name in enumerate(node.inputs)]

    def _argument(self, node: Node, place: int, name: str) -> _Argument:
        if not name:
            return _Argument()
        array = self.prepared.constants.get(name)
        if array is None:
            return _Argument(value=name)
        picks_one = node.kind == "Gather" and place == 1 and array.size == 1
        if place in NUMBERS.get(node.kind, ()) or _is_short(array) or picks_one:
            return _Argument(numbers=array.tolist())
        if name not in self._paths:
            buffer = array.dtype.kind != "f" or (node.kind == "BatchNormalization" and place > 2)
            value = _tensor(node, array)
            self._paths[name] = register(self, path_of(name, node, place), value, buffer)
        return _Argument(tensor=self._paths[name])


def _any_batch(node: Node, arguments: list[_Argument]) -> tuple[Node, list[_Argument]]:
    """Return a reshape to one sample as one that keeps the first size; others unchanged."""
    shape = arguments[1].numbers if node.kind == "Reshape" else None
    if not isinstance(shape, list) or shape[:1] != [1] or (node.get("allowzero", 0) and 0 in shape):
        return node, arguments
    attributes = {**node.attributes, "allowzero": 0}
    return replace(node, attributes=attributes), [arguments[0], _Argument(numbers=[0, *shape[1:]])]


def _is_short(array: Array) -> bool:
    if array.ndim == 0:
        return array.dtype.kind in "fib"
    return array.ndim == 1 and array.size <= WIDEST_NUMBERS and array.dtype in (np.int64, np.bool_)


def _tensor(node: Node, array: Array) -> Tensor:
    try:
        return torch.from_numpy(np.array(array))
    except TypeError as error:
        raise node.refuse(f"a constant of it has the type {array.dtype}, which PyTorch lacks") from error


def read_onnx(path: Path) -> OnnxNetwork:
    """Read an ONNX file, with external weights beside it, as a network.

    What cannot be imported, and all behind it, is cut off and kept (`whole`). A fixed batch is freed where two samples
    give what each gives alone. Raises CaptureError for a file that is not whole, and for an operator that is not
    imported and has no layer before it.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        raise CaptureError(f"{path} is not a whole ONNX model: {one_line(error)}; write or fetch it again") from error
    head, whole = head_of(model)
    network = OnnxNetwork(head, str(path))
    network.whole = whole
    if network.batch is not None:
        network.try_to_free_batch()
    return network


@torch.no_grad()
def _is_free(network: OnnxNetwork) -> bool:
    """Return whether a network of one sample computes two samples each alone."""
    two = network.example(2)
    if two is None or network.batch != 1 or not all(network.sizes):
        return False
    try:
        both, alone = network.run(two), [network.run(tuple(one[i : i + 1] for one in two)) for i in range(2)]
    except CaptureError:
        return False
    pairs = zip(*(one if isinstance(one, tuple) else (one,) for one in (both, *alone)), strict=True)
    return all(
        whole.dim() > 0
        and whole.shape[1:] == first.shape[1:]
        and len(whole) == 2
        and torch.allclose(whole.double(), torch.cat([first, second]).double(), rtol=1e-3, atol=1e-4)
        for whole, first, second in pairs
    )

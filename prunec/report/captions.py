"""Write the captions of blocks, values and spaces, shown on hover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from ..channels.rules.contraction import argument
from ..channels.spaces import Channels, Contraction, Space
from ..ir.graph import attribute
from ..ir.program import Program
from .console import amount, counted
from .sketch import CHEAP, END, Block, Flow, Sketch, name_of

NAMED = 6  # spaces with a line of their own; the rest share one


@dataclass(frozen=True)
class Captions:
    """Captions of one network picture."""

    program: Program
    sketch: Sketch
    spaces: tuple[Space, ...]
    total: float  # MACs

    @staticmethod
    def of(program: Program, sketch: Sketch, total: float) -> Captions:
        """Build the captions of an analysed program."""
        return Captions(program, sketch, program.fact(Channels).spaces, total)

    def title(self, block: Block) -> str:
        """Return the text in a block: a layer's name, or the name of its first operator."""
        return block.layer.weight.removesuffix(".weight") if block.layer else name_of(block.head)

    def detail(self, block: Block) -> str:
        """Return a layer's shape, such as `64→128 · 3×3 /2`, or a product's operand shapes."""
        if block.layer is None:
            shapes = [_shape(self.sketch.examples[one])[1:] for one in _data(block.head, self.sketch)]
            return " · ".join("×".join(map(str, shape[-2:])) for shape in shapes[:2])
        one, weight = block.layer, self._weight(block.layer)
        kernel = _kernel(weight)
        words = [f"{len(one.inputs)}→{len(one.outputs)}", *([f"· {kernel}"] if kernel else [])]
        stride = _stride(block.head)
        words += [f"/{stride}"] if stride not in ("", "1") else []
        return " ".join([*words, *([f"g{one.groups}"] if one.groups > 1 else [])])

    def share(self, block: Block) -> str:
        """Return a block's share of the MACs, such as `6.4%`."""
        return f"{block.macs / max(self.total, 1):.1%}"

    def of_block(self, block: Block) -> str:
        """Return the facts of a block, one per line."""
        head, examples = block.head, self.sketch.examples
        if block.kind == END:
            what = "the network's input" if head.op == "placeholder" else "the network's output"
            shapes = [examples[one] for one in ([head] if head in examples else head.all_input_nodes)]
            return f"{what} {', '.join(map(shape_text, shapes))}"
        lines = [self.title(block)] if block.layer else []
        inputs = " and ".join(shape_text(examples[one]) for one in _data(head, self.sketch))
        lines.append(
            f"{' → '.join(map(name_of, block.nodes))}: {inputs} → {shape_text(examples[block.last])} (a batch of 2)"
        )
        if block.layer:
            lines.append(self._layer(block))
        if block.kind != CHEAP:
            lines.append(f"{amount(round(block.macs))} MACs an image, {self.share(block)} of the network")
        lines += self._passage(block.reads, self.sketch.flows[block.last] if block.kind == CHEAP else block.writes)
        lines += [f"parameter {name}" for name in _parameters(block)]
        return "\n".join(lines)

    def of_value(self, node: fx.Node) -> str:
        """Return the spaces of a value, one per line."""
        what = f"{name_of(node)} gives {shape_text(self.sketch.examples[node])} (a batch of 2)"
        return "\n".join([what, *self._flow(self.sketch.flows[node])])

    def _layer(self, block: Block) -> str:
        assert block.layer is not None
        kernel, stride = _kernel(self._weight(block.layer)), _stride(block.head)
        words = [f"{len(block.layer.inputs)} → {len(block.layer.outputs)} channels"]
        words += [f"kernel {kernel}"] if kernel else []
        words += [f"stride {stride}"] if stride else []
        words += [f"{block.layer.groups} groups"] if block.layer.groups > 1 else []
        return ", ".join(words)

    def _passage(self, reads: Flow, writes: Flow) -> list[str]:
        """List the channels that a block reads and writes; once if equal."""
        before, after = self._flow(reads), self._flow(writes)
        if before == after:
            return [f"carries {line}" for line in before]
        return [*(f"reads {line}" for line in before), *(f"writes {line}" for line in after)]

    def _weight(self, layer: Contraction) -> Tensor:
        return attribute(self.program.module, layer.weight)

    def _flow(self, flow: Flow) -> list[str]:
        """Return a line per space, the largest first."""
        order = sorted(flow.channels, key=lambda index: (-flow.channels[index], index))
        lines = [f"space {self.spaces[one].name}: {self._channels(one, flow.channels[one])}" for one in order]
        frozen = [f"frozen {self.spaces[one].name}: {self.spaces[one].frozen}" for one in sorted(flow.frozen)]
        if flow.fixed and not frozen:
            frozen = [f"{counted(flow.fixed, 'channel')} fixed: they belong to no space"]
        if not lines and not frozen:
            return ["no channels that can go"]
        return [*_at_most(lines), *_at_most(frozen)]

    def _channels(self, index: int, count: int) -> str:
        """Return the channel count of a space, with its coupling and missing channels."""
        size = self.spaces[index].size
        if count == size:
            return counted(count, "channel")
        if count % size == 0:
            return f"{count} channels, {count // size} to each of its {size}"
        return f"{count} of its {size} channels" if count < size else counted(count, "channel")


def shape_text(value: Any) -> str:
    """Return a shape as `2×64×56×56`; for a list, its length and first shape."""
    if isinstance(value, (list, tuple)):
        tensors = [one for one in value if isinstance(one, Tensor)]
        return f"{len(tensors)} tensors, the first {shape_text(tensors[0])}" if tensors else "nothing"
    return "×".join(map(str, _shape(value))) or "a number"


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value.shape)) if isinstance(value, Tensor) else ()


def _data(node: fx.Node, sketch: Sketch) -> list[fx.Node]:
    """Return the drawn inputs of a node."""
    return [one for one in node.all_input_nodes if one in sketch.flows]


def _parameters(block: Block) -> list[str]:
    """Return the parameters of operators that are not layers."""
    found = [one for node in block.nodes for one in node.all_input_nodes if one.op == "get_attr"]
    own = [one.target for one in block.head.all_input_nodes] if block.layer else []
    return [str(one.target) for one in dict.fromkeys(found) if one.target not in own]


def _kernel(weight: Tensor) -> str:
    return "×".join(map(str, weight.shape[2:]))


def _stride(node: fx.Node) -> str:
    """Return the stride as `2` or `2×1`, empty for a linear layer."""
    given = argument(node, "stride", ())
    steps: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    return str(steps[0]) if len(set(steps)) == 1 else "×".join(map(str, steps))


def _at_most(lines: list[str]) -> list[str]:
    """Return the first NAMED lines, and one with the names of the rest."""
    rest = ", ".join(line.split(" ", 1)[1].partition(":")[0] for line in lines[NAMED:])
    return lines if len(lines) <= NAMED + 1 else [*lines[:NAMED], f"and {len(lines) - NAMED} more: {rest}"]

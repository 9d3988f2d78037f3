"""Optimise annealed channel indicators with the weights frozen.

    I = sigmoid(alpha / T),   T = 1 / (1 + 49 · step / steps),  a <- I a + (1 - I) mean a  where a layer reads channels
    min over alpha  D(dense, masked)   subject to   MACs(sum I) = share · MACs

(DAIS: Guan et al., 2011.02166, TNNLS.) A common shift of alpha, computed by bisection, restores the constraint at every
step; its multiplier is the one for which no common shift helps, m = - sum_j dD/dalpha_j / sum_j dMACs/dalpha_j.

No label is read: D is KL(dense || masked) for outputs [N, classes], and the relative squared error otherwise. The mean
stands for a refitted bias, which compensation gives for free. A norm over the channels still runs on all of them.

A network with a fixed batch runs a step's images in parts, side by side, with means and D over all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ..channels.spaces import Axis, Channels, Space
from ..cost.macs import Macs
from ..data.images import Images
from ..errors import PassError
from ..ir.graph import floats, outputs
from ..ir.interpreter import Interpreter, Live
from ..ir.program import Program
from ..pipeline.context import Context
from ..progress import Track, silent
from ..statistics.relative import by_sample

IMPOSSIBLE = -1e4  # a logit whose class has no probability
CONSTANT = 1e-12  # of the squares: a variance below is rounding
COLDEST = 50.0  # 1 / T at the end
Part = tuple[Tensor, ...]


@dataclass(frozen=True)
class Annealing:
    """Options of the search: `steps` of Adam at `rate`, each on `batch` of `images` calibration images."""

    steps: int = 200
    rate: float = 0.05
    images: int = 256
    batch: int = 32


DEFAULT = Annealing()


def indicators(
    program: Program,
    context: Context,
    target_share: float,
    annealing: Annealing = DEFAULT,
) -> dict[str, Tensor]:
    """Return alpha of each coordinate by space with sites, float64 [size].

    Coordinates above 0 are kept; the highest matter most. `target_share` of the MACs remain, up to rounding. Raises
    PassError if torch cannot differentiate an operator.
    """
    channels = program.fact(Channels)
    if not any(space.sites for space in channels.prunable):
        return {}
    batches = _batches(context.images().take(annealing.images, context.seed), annealing.batch, program.only_batch)
    with torch.no_grad():
        dense = [_joined([floats(program.module(*part)) for part in parts], parts) for parts in batches]

    def distance(step: int, gates: Tensor) -> Tensor:
        place = step % len(batches)
        found = _masked(program.module, channels, batches[place], gates)
        return _distance(_joined(found, batches[place]), dense[place])

    return annealed(channels, distance, target_share, annealing.steps, annealing.rate, context.track)


def annealed(
    channels: Channels,
    distance: Callable[[int, Tensor], Tensor],
    target_share: float,
    steps: int,
    rate: float = 0.05,
    track: Track = silent,
) -> dict[str, Tensor]:
    """Anneal the indicators of all spaces with sites. `distance` maps a step and its gates [coordinates + 1] to D."""
    spaces = [space for space in channels.prunable if space.sites]
    cost = _Cost(channels, spaces)
    alpha = torch.zeros(sum(space.size for space in spaces), requires_grad=True)
    adam = torch.optim.Adam([alpha], rate)
    for step in track(range(steps), "indicators"):
        temperature = 1.0 / (1.0 + (COLDEST - 1.0) * step / max(steps - 1, 1))
        with torch.enable_grad():
            cost.centre(alpha, temperature, target_share)
            gates = torch.sigmoid(alpha / temperature)
            paid = _gradient(distance(step, cost.all_gates(gates)), alpha)
            saved = _gradient(cost.share(torch.sigmoid(alpha / temperature)), alpha)
        alpha.grad = paid - float(paid.sum()) / max(float(saved.sum()), 1e-12) * saved
        adam.step()
    cost.centre(alpha, 1.0 / COLDEST, target_share)
    parts = alpha.detach().double().split([space.size for space in spaces])
    return {space.name: part for space, part in zip(spaces, parts, strict=True)}


class _Cost:
    """Share of the dense MACs as a function of the gates of some spaces. Ranks and other spaces are kept in full."""

    def __init__(self, channels: Channels, spaces: Sequence[Space]) -> None:
        model = Macs.of(channels)
        self.gates = torch.ones(channels.count + 1)
        self.own = torch.cat([space.coordinates for space in spaces])
        self.coordinates = [space.coordinates for space in channels.prunable]
        self.scale, rows = (torch.from_numpy(one).float() for one in (model.scale / model.total(), model.rows))
        (self.a_rows, self.b_rows), (self.fixed_a, self.fixed_b) = rows[:, :, :-1], rows[:, :, -1]

    def all_gates(self, gates: Tensor) -> Tensor:
        """Return the gate of every coordinate, [coordinates + 1]; 1 without one."""
        return self.gates.index_put((self.own,), gates)

    def share(self, gates: Tensor) -> Tensor:
        every = self.all_gates(gates)
        counts = torch.stack([every[coordinates].sum() for coordinates in self.coordinates])
        products = (self.fixed_a + self.a_rows @ counts) * (self.fixed_b + self.b_rows @ counts)
        found: Tensor = (self.scale * products).sum()
        return found

    @torch.no_grad()
    def centre(self, alpha: Tensor, temperature: float, wanted: float) -> None:
        """Shift alpha, in place, so that the gates meet the share `wanted`, or nearly."""
        low, high = float(alpha.min()) - 20 * temperature, float(alpha.max()) + 20 * temperature
        for _ in range(40):
            middle = (low + high) / 2
            over = float(self.share(torch.sigmoid((alpha - middle) / temperature))) > wanted
            low, high = (middle, high) if over else (low, middle)
        alpha -= high


def _gradient(value: Tensor, alpha: Tensor) -> Tensor:
    try:
        (found,) = torch.autograd.grad(value, alpha)
    except RuntimeError as error:
        raise PassError(
            f"the network cannot be differentiated ({error}): choose a method without indicators"
        ) from error
    return found


def _batches(images: Images, batch: int, only: int | None) -> list[list[Part]]:
    """Return the images of each step, in parts of the network's batch."""
    parts = list(images.batches(only or batch))
    count = 1 if only is None else max(1, batch // only)
    return [parts[first : first + count] for first in range(0, len(parts), count)]


def _joined(outputs: Sequence[Sequence[Tensor]], parts: Sequence[Part]) -> list[Tensor]:
    """Join the outputs of all parts: logits as they are, others as [samples, entries]."""
    return [
        torch.cat(
            [one if _are_logits(one) else by_sample(one, len(part[0])) for one, part in zip(ones, parts, strict=True)]
        )
        for ones in zip(*outputs, strict=True)
    ]


def _masked(module: fx.GraphModule, channels: Channels, parts: Sequence[Part], gates: Tensor) -> list[list[Tensor]]:
    """Return the outputs, by part, with channels gated before every mixing operator."""
    walk = Interpreter(module)
    states = [walk.start(part) for part in parts]
    for node in walk.nodes:
        read = _gated_inputs(states, node, channels, gates) if node.name in channels.reads else states
        for state, inside in zip(states, read, strict=True):
            walk.step(node, state, inside)
    return [outputs(module, state) for state in states]


def _gated_inputs(states: Sequence[Live], node: fx.Node, channels: Channels, gates: Tensor) -> list[Live]:
    """Return the values that one node reads, by part."""
    read = [Live(state.module, {}) for state in states]
    for each in node.all_input_nodes:
        for inside, value in zip(read, _gated([state[each] for state in states], each, channels, gates), strict=True):
            inside[each] = value
    return read


def _gated(parts: Sequence[Any], node: fx.Node, channels: Channels, gates: Tensor) -> list[Any]:
    """Mix a value's channels, given in parts, with their overall means; parameters are unchanged."""
    axis = channels.values.get(node.name)
    if node.op == "get_attr" or not isinstance(axis, Axis) or not parts[0].is_floating_point():
        return list(parts)
    gate = gates[axis.coordinates].reshape([-1 if dim == axis.dim else 1 for dim in range(axis.rank)])
    others, total = [dim for dim in range(axis.rank) if dim != axis.dim], sum(part.numel() for part in parts)
    means = [part.mean(others, keepdim=True) * (part.numel() / total) for part in parts]
    mean = torch.stack(means).sum(0)
    return [mean + gate.to(part) * (part - mean) for part in parts]


def _are_logits(output: Tensor) -> bool:
    return output.dim() == 2 and output.shape[1] > 1


def _distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    return torch.stack([_divergence(one, other) for one, other in zip(found, wanted, strict=True)]).sum()


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the distance of outputs from those wanted, without entries wanted infinite."""
    logits = _are_logits(wanted)
    if not bool((finite := wanted.isfinite()).all()):
        found, wanted = (one.masked_fill(~finite, IMPOSSIBLE if logits else 0.0) for one in (found, wanted))
    if logits:
        return F.kl_div(found.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
    spread, size = (wanted - wanted.mean(0)).square().sum(), wanted.square().sum()
    scale = spread if spread > CONSTANT * size else size
    return (found - wanted).square().sum() / scale.clamp_min(1e-30)

"""Estimate, without labels, the error of a compressed network on held-out images.

Some calibration images are held out before the first pass. At the end the dense and the compressed network run on them,
and on as many calibration images: a much larger error on the former means that layers are fitted to their images more
than to the task.

The last refit of each layer reads all images. The estimate is of the twin of the compressed network, whose layers were
fitted without the held-out images, a tenth fewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..data.images import Images
from ..ir.program import Program
from ..pipeline.context import Context
from ..pipeline.pipeline import Instrument, Pass, Pipeline
from ..progress import silent
from ..statistics.agreement import Agreement, Interval, agreements_of
from ..statistics.sweep import channels_last
from ..surgery.plan import Plan
from .learning_curve import Learning

SHARE, LEAST, FEWEST = 10, 32, 16  # one image in 10 is held out, at least 32; fewer than 16 are not enough
MOST = 4  # at most one image in 4 is held out
MUCH_WORSE = 2.0  # times the error on calibration images: warn
SMALL = 1e-3  # a relative squared error that hardly changes an answer


class Planned(Instrument):
    """Keep the network with its finished plan, to make a twin without held-out images.

    It sees the passes from `start`.
    """

    def __init__(self, start: int = 0) -> None:
        self._program: Program | None = None
        self._steps = start

    def before(self, step: Pass, program: Program) -> None:
        """Store the program before the first pass that carries out a plan."""
        if self._program is None and step.rewrites and program.has(Plan):
            self._program = program
        self._steps += self._program is None

    def program(self, result: Program) -> Program:
        """Return the network with its finished plan, or `result` if no pass used one."""
        return result if self._program is None else self._program

    def judged(self, pipeline: Pipeline, context: Context, result: Program) -> Iterator[tuple[int, Program]]:
        """Yield the networks refitted to 1/k of the images without those held out.

        By k, 1 first; `result` if no refit reads the held-out images.
        """
        program = self._program
        if program is None or not program.fact(Plan).judging:
            yield 1, result
            return
        rest, plan = Pipeline(pipeline.passes[self._steps :]), program.fact(Plan)
        for part in plan.judging:
            yield part, rest.run(program.knowing(plan.judged(part)), replace(context, track=silent, notes={}))


@dataclass(frozen=True)
class Estimate:
    """Agreement with the dense network on `images` held-out images; None if not measured."""

    images: int = 0
    answers: str = ""  # kind of answer, or why there is none
    agreement: float | None = None  # share of same answers
    interval: Interval | None = None  # 95%, of the agreement
    relative_error: float | None = None  # squared, of the outputs
    calibration_relative_error: float | None = None  # the same, on as many calibration images
    kl: float | None = None  # nats
    learning: Learning | None = None  # error by number of images, extrapolated to twice as many
    notes: tuple[str, ...] = ()  # why a number is missing, and a warning where images were too few

    def to_json(self) -> dict[str, Any]:
        """Return finite numbers only, for the report."""
        return {
            **asdict(self),
            "interval": None if self.interval is None else list(self.interval),
            "learning": None if self.learning is None else self.learning.to_json(),
            "notes": list(self.notes),
        }


def keep_back(images: Images, seed: int) -> tuple[Images, Images | None]:
    """Return the calibration and the held-out images, by `seed`; None if too few."""
    count = kept_back(len(images), images.step)
    if not count:
        return images, None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.at(order[count:].sort().values), images.at(order[:count].sort().values)


def kept_back(count: int, step: int = 1) -> int:
    """Return the number of held-out images of `count`, in whole steps.

    A tenth, at least 32, at most a quarter; 0 where that makes fewer than 16.
    """
    most = count // MOST // step * step
    found = min(most, -(-max(LEAST, count // SHARE) // step) * step)
    return found if found >= FEWEST else 0


def needed(step: int = 1) -> int:
    """Return the fewest images of which some are held out."""
    return MOST * -(-FEWEST // step) * step


def estimate(
    dense: Program, judged: Callable[[], Iterable[tuple[int, Program]]], kept: Images | None, context: Context
) -> Estimate:
    """Compare the networks on the held-out and on as many calibration images. Never raises."""
    images = context.images()
    if kept is None:
        few = f"for that takes {needed(images.step)} images or more, and {len(images)} were given"
        return Estimate(notes=(f"the error on other images was not measured, {few}",))
    try:
        networks = dict(judged())
        others = _compared(dense, networks, kept, context, "estimating the error on other images")
        as_many = images.take(len(kept), context.seed)
        own = _compared(dense, {1: networks[1]}, as_many, context, "estimating the error")[1]
    except Exception as error:  # a failed estimate does not fail the run
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return Estimate(len(kept), notes=(f"the error on {len(kept)} images kept back was not measured: {reason}",))
    other = others[1]
    notes = _notes(other, own, len(images) + len(kept))
    learning = Learning.of({len(images) // part: one for part, one in others.items()})
    kl = other.kl if other.kl is not None and math.isfinite(other.kl) else None
    errors = other.relative_error, own.relative_error
    return Estimate(len(kept), other.answers, other.agreement, other.interval, *errors, kl, learning, notes)


def _compared(
    dense: Program, networks: Mapping[int, Program], images: Images, context: Context, what: str
) -> dict[int, Agreement]:
    size = dense.only_batch or context.batch
    steps = range(-(-len(images) // size))
    batches = (
        channels_last(dense.module, batch)
        for _, batch in zip(context.track(steps, what), images.batches(size), strict=True)
    )
    found = agreements_of(dense.module, [one.module for one in networks.values()], batches)
    return dict(zip(networks, found, strict=True))


def _notes(other: Agreement, own: Agreement, given: int) -> tuple[str, ...]:
    found: list[str] = []
    if other.kl is not None and not math.isfinite(other.kl):
        found.append("KL is infinite: the compressed network gives a class probability 0, and the dense one does not")
    if other.relative_error > max(MUCH_WORSE * own.relative_error, SMALL):
        times = f"{other.relative_error / own.relative_error:.1f} times larger" if own.relative_error else "not 0"
        found.append(
            f"warning: layers are fitted to their images, for the output error is {times} on those kept back: more"
            f" images would help, such as {2 * given:,} instead of {given:,}, or a target that removes less"
        )
    return tuple(found)

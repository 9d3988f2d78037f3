"""The front door: `prunec.compress(model, calibration, target="macs:0.5")`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .channels.spaces import Channels
from .errors import SpecError
from .frontend.capture import capture
from .frontend.load import Network, network_of
from .frontend.process_state import kept_process_state
from .ir.calling import Inputs
from .outcome.calibrated import Calibrated, Session
from .outcome.result import Result
from .pipeline.method import PIPELINE, PREPARE, prepared
from .request.config import CompressConfig
from .request.constraints import ANY, Constraints
from .request.keywords import keywords_of
from .request.target import Target

__all__ = ["PIPELINE", "PREPARE", "Result", "compress", "inspect", "prepared", "sweep"]


@dataclass(frozen=True, kw_only=True)
class Keywords(Session, CompressConfig):
    """Record all keywords of `compress`."""


@keywords_of(Keywords, Session)
def compress(model: Network, calibration: Any, config: CompressConfig, session: Session) -> Result:
    """Make a trained network smaller without retraining.

    `model` is a module, an exported program, or the path of a `.onnx` or `.pt2` file; of an ONNX file, the result's
    `onnx()` has the names, types, dynamic axes and metadata, and the import is compared with ONNX Runtime first.
    `calibration` are unlabelled training images: a Tensor [N, …], `Images`, or an iterable of batches. A batch is
    matched to the parameters of `forward`: by the keys of a dict, else by place, and what follows the required inputs
    are labels, dropped unread. A few hundred suffice, a thousand are better. A tenth of them, at least 32 and at most a
    quarter, is kept from every fit and choice, and `Result.estimate` reports the error there. The model itself is not
    changed. Options are given by name, as in `target="macs:0.5"`, or all in one `CompressConfig`.

    Raises CaptureError, SpecError, BudgetError, DataError, NumericsError, BackendError.
    """
    return Calibrated.of(network_of(model), calibration, config, session).result(config.wanted)


def sweep(model: Network, calibration: Any, targets: Sequence[str | Target], **options: Any) -> Iterator[Result]:
    """Make a network smaller to several targets, one after the other, from one calibration.

    Statistics, orders, ranks and sensitivity are computed once; allocation, refit and estimate for each target. Each
    result is that of `compress` with its target. `options` are those of `compress` but `target`; raises as it does.
    """
    if not targets:
        raise SpecError("there are no targets: give at least one, for instance macs:0.5")
    wanted = [one if isinstance(one, Target) else Target.parse(one) for one in targets]
    given = Keywords(target=wanted[0], **options)
    calibrated = Calibrated.of(network_of(model), calibration, given, given)
    for target in wanted:
        yield calibrated.result(target)


@kept_process_state()
def inspect(
    model: Network,
    example_inputs: Inputs,
    constraints: Constraints = ANY,
    opaque: Sequence[str] = (),
) -> Channels:
    """The channel spaces of a network, as `compress` would see them (batch norms folded)."""
    return prepared(capture(network_of(model), example_inputs, opaque), constraints).fact(Channels)

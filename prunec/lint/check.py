"""Apply all rules of `prunec lint` to one model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx

from ..cost.hardware import DeployTarget
from ..data.images import Images
from ..deploy.onnx.layers import network_of
from ..deploy.precision import qdq
from ..progress import Track, silent
from . import alignment, dynamic_shapes, half_range
from .alignment import Cost
from .findings import LEVELS, Finding


@dataclass(frozen=True)
class Verdict:
    """Findings on one model, worst first, and the cost of its channels on the target."""

    target: DeployTarget
    findings: tuple[Finding, ...]
    cost: Cost
    skipped: tuple[str, ...] = ()
    """Checks not made, each with its reason."""

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each level."""
        return {level: sum(finding.level == level for finding in self.findings) for level in reversed(LEVELS)}

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "target": asdict(self.target),
            "counts": self.counts(),
            "macs": {"needed": self.cost.needed, "paid": round(self.cost.paid), "ratio": round(self.cost.ratio, 4)},
            "findings": [finding.to_json() for finding in self.findings],
            "skipped": list(self.skipped),
        }


def check(model: onnx.ModelProto, target: DeployTarget, images: Images | None = None, track: Track = silent) -> Verdict:
    """Check `model` for `target`; with `images`, check the range of its activations too.

    Findings and their order are deterministic. Raises BackendError if shapes contradict each other or the model does
    not run, DataError if the images do not fit it.
    """
    network = network_of(model)
    found = [*alignment.findings(network, target), *dynamic_shapes.findings(model)]
    found += [
        Finding("qdq", "error" if one.fatal else "warning", one.node, f"{one.text} ({one.rule})")
        for one in qdq.findings(model)
        if target.name.startswith(("trt-", "rtx-", "generic"))
    ]
    skipped = []
    if target.precision == "fp16":
        found += half_range.weights(model)
        found += [] if images is None else half_range.activations(model, images, track)
        skipped += ["the FP16 range of activations: give --data"] if images is None else []
    elif images is not None:
        skipped += [f"the FP16 range of activations: {target.name} computes in {target.precision}"]
    found.sort(key=lambda one: (-LEVELS.index(one.level), -one.facts.get("network_share", 0)))
    return Verdict(target, tuple(found), alignment.cost(network, target), tuple(skipped))

"""`prunec sweep`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request.config import CompressRequest
from ..request.options import optional
from ..request.values import TEXT
from .compress import Files, Writing, request_of
from .console import out, progress, say
from .flags import Checks, Given, flattened
from .report import write_page

if TYPE_CHECKING:
    from ..request.target import Target

TABLE = "sweep.json"


@dataclass(frozen=True)
class Family:
    """Record the targets of `prunec sweep`."""

    targets: str | None = optional(
        None,
        "What may remain, of each network: macs:0.8,0.6,0.5, or macs:0.8:0.4:0.1 from, to and by.",
        TEXT,
        metavar="KIND:LIST",
    )


@flattened(Files, Family, Given(CompressRequest, ("target",)), Writing, Checks)
def sweep(files: Files, family: Family, given: Mapping[str, object], writing: Writing, checks: Checks) -> None:
    """Compress a network to several targets from one calibration, and compare the results.

    Statistics, removal orders and sensitivity are computed once. Each target gets a folder of its own in OUT, as
    `prunec compress` makes it, and OUT/sweep.json a row. A target whose folder is there is not computed again.

    \b
        prunec sweep nets.py:make --weights net.pt --data photos/ --targets macs:0.8,0.6,0.5 -o out/
        prunec sweep nets.py:make --weights net.pt --data photos/ --targets macs:0.8:0.4:0.1 -o out/ --evaluate test.npz
        prunec sweep --recipe resnet56.toml --targets latency:0.8,0.6 -o out/
    """
    from ..errors import SpecError
    from ..report.samples import NOT_COMPARED
    from ..request.target import family_of
    from . import work

    if files.output is None:
        raise SpecError("nothing says where to write: give -o, for instance -o out/")
    if family.targets is None:
        raise SpecError("nothing says how much may remain: give --targets, for instance macs:0.8,0.6,0.5")
    targets = family_of(family.targets)
    request = request_of({**given, "target": [str(targets[0])]}, files.recipe, checks)
    work.check(request, bench=not writing.no_bench)
    places = {target: files.output / str(target).replace(":", "-") for target in targets}
    left = [one for one, place in places.items() if writing.force or not (place / "report.json").is_file()]
    files.output.mkdir(parents=True, exist_ok=True)
    with progress() as track:
        loaded, calibration, test = work.read(request, track)
        for target, result in zip(left, work.sweep(request, loaded, calibration, left, track), strict=True):
            work.measure(result, request, calibration, test, not writing.no_bench, track)
            work.save(result, request, calibration, places[target], writing.force, track)
            if not writing.no_report:
                write_page(places[target], NOT_COMPARED)
            say(f"wrote {places[target]}", "dim")
    _show(places, files.output)


def _show(places: Mapping[Target, Path], output: Path) -> None:
    """Write and print a row of each target."""
    from ..files.artefacts import write_json
    from ..report.sweep import front_table, row_of

    reports = {str(one): json.loads((place / "report.json").read_text()) for one, place in places.items()}
    rows: list[dict[str, Any]] = [row_of(target, report) for target, report in reports.items()]
    write_json(output / TABLE, {"version": 1, "rows": rows})
    out.print(front_table(rows))
    say(f"wrote {output / TABLE}", "dim")

"""`prunec sweep`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
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
    from ..outcome.result import Result
    from ..progress import Track
    from ..request.condition import Condition
    from ..request.target import Target

TABLE = "sweep.json"
LEAST, MOST, TRIES = 0.1, 0.95, 5  # of the MACs, and networks that --pick tries
Report = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Record the targets of `prunec sweep`."""

    targets: str | None = optional(
        None,
        "What may remain, of each network: macs:0.8,0.6,0.5, or macs:0.8:0.4:0.1 from, to and by.",
        TEXT,
        metavar="KIND:LIST",
    )
    pick: str | None = optional(
        None,
        "Search the fewest MACs that meet a condition instead: drop<=1 (points of top-1, on the images of --evaluate,"
        " which are no test set then), or agreement>=0.97 (share of same answers, without labels).",
        TEXT,
        metavar="CONDITION",
    )


@flattened(Files, Family, Given(CompressRequest, ("target",)), Writing, Checks)
def sweep(files: Files, family: Family, given: Mapping[str, object], writing: Writing, checks: Checks) -> None:
    """Compress a network to several targets from one calibration, and compare the results.

    Statistics, removal orders and sensitivity are computed once. Each target gets a folder of its own in OUT, as
    `prunec compress` makes it, and OUT/sweep.json a row. A target whose folder is there is not computed again.

    \b
        prunec sweep nets.py:make --weights net.pt --data photos/ --targets macs:0.8,0.6,0.5 -o out/
        prunec sweep nets.py:make --weights net.pt --data photos/ --targets macs:0.8:0.4:0.1 -o out/ --evaluate test.npz
        prunec sweep nets.py:make --weights net.pt --data photos/ --pick "agreement>=0.97" -o out/
        prunec sweep --recipe resnet56.toml --targets latency:0.8,0.6 -o out/
    """
    from ..errors import SpecError
    from ..request.condition import Condition
    from ..request.target import Target, family_of
    from . import work

    if files.output is None:
        raise SpecError("nothing says where to write: give -o, for instance -o out/")
    if (family.targets is None) == (family.pick is None):
        raise SpecError("give --targets, for instance macs:0.8,0.6,0.5, or --pick, for instance 'drop<=1'")
    condition = None if family.pick is None else Condition.parse(family.pick)
    targets = (Target("macs", MOST),) if family.targets is None else family_of(family.targets)
    request = request_of({**given, "target": [str(targets[0])]}, files.recipe, checks)
    work.check(request, bench=not writing.no_bench)
    files.output.mkdir(parents=True, exist_ok=True)
    with progress() as track:
        report_of = _reports(request, files.output, writing, track)
        if condition is None:
            found = {target: report_of(target) for target in targets}
        else:
            found = searched(report_of, condition)
    _show(found, files.output, condition)


def _reports(request: CompressRequest, output: Path, writing: Writing, track: Track) -> Callable[[Target], Report]:
    """Return a function from a target to its report, which writes the folder if needed."""
    from ..report.samples import NOT_COMPARED
    from . import work

    @cache
    def read() -> tuple[Any, Any, Callable[[Target], Result]]:
        loaded, calibration, test = work.read(request, track)
        return calibration, test, work.calibrated(request, loaded, calibration, track)

    def report_of(target: Target) -> Report:
        place = output / str(target).replace(":", "-")
        if writing.force or not (place / "report.json").is_file():
            calibration, test, result_of = read()
            result = result_of(target)
            work.measure(result, request, calibration, test, not writing.no_bench, track)
            work.save(result, request, calibration, place, writing.force, track)
            if not writing.no_report:
                write_page(place, NOT_COMPARED)
            say(f"wrote {place}", "dim")
        found: Report = json.loads((place / "report.json").read_text(encoding="utf-8"))
        return found

    return report_of


def searched(report_of: Callable[[Target], Report], condition: Condition) -> dict[Target, Report]:
    """Return the reports of the networks tried, by bisection of the MACs that remain."""
    from ..request.target import Target

    low, high, found = LEAST, MOST, {}
    for share in (LEAST, MOST, *[None] * TRIES):
        target = Target("macs", round((low + high) / 2 if share is None else share, 3))
        found[target] = report_of(target)
        met = condition.met(found[target])
        if share is None:
            low, high = (low, target.remaining) if met else (target.remaining, high)
        elif met == (share == LEAST):  # even the smallest meets it, or not even the largest does
            break
    return found


def _show(reports: Mapping[Target, Report], output: Path, condition: Condition | None) -> None:
    """Write and print a row of each target, and the pick."""
    from ..files.artefacts import write_json
    from ..report.sweep import front_table, row_of

    rows = [row_of(str(target), report) for target, report in reports.items()]
    picked = None if condition is None else _picked(reports, condition)
    write_json(output / TABLE, {"version": 1, "rows": rows, "condition": condition and str(condition), "pick": picked})
    out.print(front_table(rows))
    if condition is not None:
        text = "no network tried meets it" if picked is None else f"{picked} is the smallest that meets it"
        say(f"{condition}: {text}", "green" if picked else "red")
    say(f"wrote {output / TABLE}", "dim")


def _picked(reports: Mapping[Target, Report], condition: Condition) -> str | None:
    """Return the target of the fewest MACs that meets the condition."""
    meeting: Iterable[Target] = (target for target, report in reports.items() if condition.met(report))
    found = min(meeting, key=lambda target: float(reports[target]["macs"]["share"]), default=None)
    return None if found is None else str(found)

"""`prunec doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import typer

from ..request.options import optional
from ..request.values import FLAG
from .console import out
from .flags import Checks, flattened
from .options import Printing

STYLES = {"ok": "green", "absent": "dim", "fault": "red"}


@dataclass(frozen=True, kw_only=True)
class Doctor(Printing, Checks):
    """Record the options of `prunec doctor`."""

    no_self_test: bool = optional(False, "Compress nothing: only look at what is installed.", FLAG)


@flattened(Doctor)
def doctor(options: Doctor) -> None:
    """Check the installation: packages, engines and devices that work here, and what to install for more.

    Ends with a compression of a small network, which takes a few seconds. The exit code is 1 where something is wrong;
    an engine that is not installed is not.

    \b
        prunec doctor
        prunec doctor --json --no-self-test
    """
    from rich.markup import escape

    from ..outcome.doctor import checks

    found = list(checks(not options.no_self_test))
    if options.as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            out.print(f"{one.name:<26} [{STYLES[one.state]}]{one.state:<7}[/] {escape(one.found)}", soft_wrap=True)
            if one.advice:
                out.print(f"{'':<34} [dim]{escape(one.advice)}[/]", soft_wrap=True)
    if any(one.state == "fault" for one in found):
        raise typer.Exit(1)

"""Define all commands of the command line: arguments and printing only.

Each has examples in its help. Nothing here imports torch until a command runs, so help and version answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import (
    bench,
    build,
    cast,
    catalogue,
    compress,
    demo,
    diff,
    doctor,
    evaluate,
    export,
    init,
    inspect,
    lint,
    profile,
    quantize,
    report,
    run,
    sensitivity,
    sweep,
    verify,
)
from .console import explained

HELP = """
A compiler that makes trained PyTorch networks smaller and faster without retraining, and proves it.

Start with  [bold]prunec demo[/]  to see it work on a network that comes with it, then

    prunec inspect  nets.py:make --weights net.safetensors

    prunec compress nets.py:make --weights net.safetensors --data photos/ --target macs:0.5 -o out/
"""

app = typer.Typer(
    name="prunec",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
COMMANDS = (
    compress.compress, sweep.sweep, report.report, inspect.inspect, profile.profile, sensitivity.sensitivity,
    evaluate.evaluate, export.export,
    lint.lint, cast.cast, quantize.quantize, build.build, run.run, verify.verify, bench.bench, diff.diff,
    init.init, catalogue.catalogue, demo.demo, doctor.doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command("list" if command is catalogue.catalogue else command.__name__)(explained(command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prunec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Hold the options of prunec itself."""


_options.__doc__ = None

"""Run the command line inside the process of the tests."""

from __future__ import annotations

from typer.testing import CliRunner

from prunec.cli import app


def prunec(*args: object, columns: int = 160) -> tuple[int, str]:
    """Return the exit code and all that was printed; raise what is no exit."""
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output

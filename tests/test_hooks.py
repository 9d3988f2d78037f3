"""The hooks of pre-commit run what `make lint` runs, and nothing is fetched for them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


def linted() -> list[str]:
    """Return the commands of `make lint`."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]


def test_hooks_are_what_make_lint_runs() -> None:
    entries = [entry.replace(" --force-exclude", "").strip() for entry in re.findall(r"entry: (.*)", HOOKS)]
    assert entries == linted()


def test_hooks_are_local() -> None:
    assert re.findall(r"repo: (.*)", HOOKS) == ["local"]
    assert set(re.findall(r"language: (.*)", HOOKS)) == {"system"}

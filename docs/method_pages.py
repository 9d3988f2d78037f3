"""Write a page for each strategy, and one for the passes, from code, `methods.toml` and bench/results.

Summary, formula, source and options come from docstrings and dataclass fields; `methods.toml` says when to use a
method and what its paper has; tables are averaged from the recorded runs.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import statistics
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prunec.grammar.registry import PASSES, STRATEGIES, Folder
from prunec.grammar.spec import name_of, print_value
from prunec.request.config import CompressConfig
from prunec.request.options import options_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TEXT: dict[str, dict[str, dict[str, str]]] = tomllib.loads(
    (ROOT / "docs/methods.toml").read_text(encoding="utf-8")
)  # by folder and name: `when` to use it, and the `paper`
ABLATION = json.loads((ROOT / "bench/results/ablation_cifar_resnet20_full.json").read_text(encoding="utf-8"))
PEERS = [
    json.loads((ROOT / f"bench/results/peers_{name}.json").read_text(encoding="utf-8"))
    for name in ("cifar_resnet20", "cifar_resnet56")
]
PARTS = [  # that differ among the rows
    part
    for part in ("selector", "decomposer", "allocator", "compensator")
    if len({row[part] for row in ABLATION["rows"]}) > 1
]
KINDS = {"criteria": "criterion", **{name: folder.kind for name, folder in STRATEGIES.items()}}
FORMULA = re.compile(r" |\S+ = |minimise|.*\S {2,}\S")  # opening of a paragraph; prose has no double spaces
ARGUMENTS = re.compile(r"(\w+: .+(\n {4}.+)*(\n|$)){2,}")
OURS = {"prunec": ("decomposers", "collaborative"), "prunec, channels only": ("decomposers", "none")}  # in PEERS
USUAL = {(f"{one.name}s", one.option.usual) for one in options_of(CompressConfig)}  # ("selectors", "obs"), …


def pages() -> dict[str, str]:
    """Return the generated pages by path."""
    found = {
        f"docs/methods/{kind}/{name}.md": page(kind, name, folder.load(name))
        for kind, folder in STRATEGIES.items()
        for name in folder.names()
    }
    return {"docs/methods/index.md": index(), **found, "docs/reference/passes.md": passes()}


def page(kind: str, name: str, strategy: type[Any]) -> str:
    """Return the page of one strategy."""
    summary, rest = opening(strategy)
    summary = escaped(summary)
    told = TEXT[kind][name]
    usual = f" It is the default {KINDS[kind]}." if (kind, name) in USUAL else ""
    parts = [f"# `{name}` {KINDS[kind]}", summary, f"**When to use it.** {told['when']}{usual}"]
    if rest:
        parts += ["## Formula and source", written(rest)]
    if "paper" in told:
        parts += [f"**In the paper.** {escaped(told['paper'])}"]
    parts += ["## Options", *options(strategy), "## Measured", *measured(kind, name)]
    file = Path(inspect.getfile(strategy)).resolve().relative_to(ROOT).as_posix()
    return "\n\n".join([*parts, f"Code: [{file}](../../../{file}).", ""])


def opening(thing: type[Any]) -> tuple[str, str]:
    """Return the first sentence of a module's docstring, and the rest, as written."""
    first, _, rest = (inspect.getdoc(sys.modules[thing.__module__]) or "").partition("\n")
    return first, rest.strip("\n")


def written(docstring: str) -> str:
    """Return a docstring as Markdown: formulas as code, `name: text` for each argument as a list."""
    return "\n\n".join(map(_paragraph, docstring.split("\n\n")))


def _paragraph(text: str) -> str:
    if ARGUMENTS.fullmatch(text):
        return re.sub(r"^(\w+):", r"- `\1`:", re.sub(r"\n +", " ", text), flags=re.MULTILINE)
    return f"```text\n{textwrap.dedent(text)}\n```" if FORMULA.match(text) else escaped(text)


def escaped(text: str) -> str:
    """Return prose without what Markdown would take as markup, except code in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\_\[|])", r"\\\1", part).replace("<", "&lt;") for part in parts
    )


def options(thing: type[Any]) -> list[str]:
    """Return the class's docstring, and the table of its options with types and defaults."""
    rows = [(one.name, str(one.type), default(one)) for one in dataclasses.fields(thing)]
    told = written(inspect.getdoc(thing) or "")
    if not rows:
        return [told, "It has no options."]
    table = ["| option | type | default |", "|---|---|---|"]
    table += [f"| `{name}` | `{kind.replace('|', 'or')}` | `{value}` |" for name, kind, value in rows]
    text = ",".join(f"{name}={value}" for name, _, value in rows)
    return [told, "\n".join(table), f"Written with its defaults: `{name_of(thing)}{{{text}}}`."]


def default(item: dataclasses.Field[Any]) -> str:
    """Return the default of a field as users write it."""
    factory = item.default_factory
    return print_value(item.default if factory is dataclasses.MISSING else factory())


def measured(kind: str, name: str) -> list[str]:
    """Return the recorded results that name a strategy, with their commands; or how to measure it."""
    found = [*_ablated(kind, name), *_compared(kind, name)]
    if found:
        return found
    option = f"top{{by={name}}}" if kind == "criteria" else name
    where = "selector" if kind == "criteria" else KINDS[kind]
    return [
        f"No recorded run has it by itself. `python bench/ablation.py --help` says how to measure it; `prunec compress`"
        f" takes it as `--{where} {json.dumps(option) if '{' in option else option}`."
    ]


def _ablated(kind: str, name: str) -> list[str]:
    """Return the table of the ablation's rows with a strategy: points lost by share of MACs removed."""
    column = {"criteria": "selector"}.get(kind, KINDS[kind])
    value = f"top{{by={name}}}" if kind == "criteria" else name
    drops: dict[tuple[str, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in ABLATION["rows"]:
        if row[column] == value or (kind == "selectors" and row[column].startswith(f"{name}{{")):
            combination = tuple(row[part] for part in PARTS)
            drops[combination][row["left"]].append(row["drop"])
    if not drops or column not in PARTS:
        return []
    lefts = sorted({row["left"] for row in ABLATION["rows"]}, reverse=True)
    heads = [*PARTS, *(f"{1 - left:.0%} removed" for left in lefts)]
    rows = [
        [*combination, *(f"{statistics.mean(by_left[left]):.2f}" for left in lefts)]
        for combination, by_left in sorted(drops.items())
    ]
    told = f"Points of top-1 that `{ABLATION['network']}` loses, mean of the seeds: `{ABLATION['command']}`"
    return [f"{told} ([results](../../../bench/results/ablation_cifar_resnet20_full.md)).", table(heads, rows)]


def _compared(kind: str, name: str) -> list[str]:
    """Return the rows of the comparison with other tools that a strategy makes."""
    rows = [
        [peers["network"], row["method"], f"{row['macs']:.3f}", f"{peers['dense']:.2f}", f"{row['accuracy']:.2f}"]
        for peers in PEERS
        for row in peers["rows"]
        if OURS.get(row["method"], ("compensators", row["method"].partition(" ")[0])) == (kind, name)
    ]
    if not rows:
        return []
    heads = ["network", "method", "MACs left", "dense top-1", "compressed top-1"]
    return [
        "Half of the MACs, methods as published: " + " and ".join(f"`{one['command']}`" for one in PEERS) + ":",
        table(heads, rows),
    ]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def index() -> str:
    """Return the page that lists all strategies."""
    parts = [
        "# Methods",
        "One file of `passes/` is one method: a published idea without its training, with formula and source on top."
        " These pages are generated from the files. A name is used on the command line, in a recipe and in Python"
        ' alike, with options in braces: `--compensator "sequential{ridge=1e-4}"`. A criterion is used by the selector'
        ' `top`: `--selector "top{by=taylor}"`.',
    ]
    for kind, folder in STRATEGIES.items():
        rows = [[f"[`{name}`]({kind}/{name}.md)", opening(folder.load(name))[0]] for name in folder.names()]
        parts += [f"## {kind.capitalize()}", table([KINDS[kind], "summary"], rows)]
    return "\n\n".join([*parts, ""])


def passes() -> str:
    """Return the page of all passes, in alphabetical order."""
    return "\n\n".join(["# Passes", *(part for name in PASSES.names() for part in _pass(PASSES, name)), ""])


def _pass(folder: Folder, name: str) -> list[str]:
    kind = folder.load(name)
    summary, rest = opening(kind)
    facts = {word: ", ".join(fact.__name__ for fact in getattr(kind, word)) for word in ("requires", "provides")}
    told = [f"{word} {names}" for word, names in facts.items() if names]
    told += [word for word in ("rewrites", "exact") if getattr(kind, word)]
    more = [written(rest)] if rest else []
    return [f"## `{name}`", summary, *more, *([f"Declares: {'; '.join(told)}."] if told else []), *options(kind)]

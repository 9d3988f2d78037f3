"""Commands of the pages: each exists, has the options named, and parses."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

import pytest
import typer
from pages import DOCS, HOW_TO, PAGES, ROOT, blocks, rows, spans, text_of

import prunec.errors
from prunec.cli import app
from prunec.request.target import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CLI: Any = typer.main.get_command(app)
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of the click that typer brings
END = {">", "|", "||", "&&"}  # what follows is the shell's
GLOBAL = {"--help", "--version"}


def check(line: str, whole: bool) -> None:
    """Raise an error for a command line that does not run; `whole` includes its arguments."""
    words = shlex.split(line, comments=True)
    words = words[: next((place for place, word in enumerate(words) if word in END), len(words))]
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    kinds = {"prunec": prunec_line, "python": script_line, "make": make_line, "pip": pip_line}
    if words:
        assert words[0] in kinds, line
        kinds[words[0]](words[1:], whole)


def prunec_line(words: list[str], whole: bool) -> None:
    name, *rest = words
    if name in CLI.commands and whole:
        CLI.commands[name].make_context(name, rest)
    elif name not in GLOBAL and not name.isupper():
        known = options_of(name)
        assert [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known] == []


def options_of(command: str) -> set[str]:
    return {flag for one in CLI.commands[command].params for flag in (*one.opts, *one.secondary_opts)} | GLOBAL


def script_line(words: list[str], whole: bool) -> None:
    """Read the options of a script of `bench/` from its text: to import them all takes a minute."""
    if words[0] == "bench/NAME.py":
        return
    known = script_options(re.fullmatch(r"bench/(\w+)\.py", words[0])[1])  # type: ignore[index]
    assert [word for word in words[1:] if word.startswith("--") and word.partition("=")[0] not in known] == []


def script_options(name: str) -> set[str]:
    """The options that a script, or a module of `bench/` that it imports, adds."""
    text = (ROOT / "bench" / f"{name}.py").read_text(encoding="utf-8")
    shared = [
        one for one in re.findall(r"^from (\w+) import", text, re.MULTILINE) if (ROOT / f"bench/{one}.py").is_file()
    ]
    own = set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", text))
    return own.union({"--help"}, *(script_options(one) for one in shared))


def make_line(words: list[str], whole: bool) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(words) <= targets


def pip_line(words: list[str], whole: bool) -> None:
    assert words[0] == "install"
    asked = {extra for found in re.findall(r"\.\[([\w,-]+)\]", " ".join(words)) for extra in found.split(",")}
    assert asked <= set(extras())


def extras() -> list[str]:
    return list(tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"])


def lines(page: str) -> list[str]:
    """The command lines of a page: of its `sh` blocks, and behind a `$` in its texts."""
    found: list[str] = []
    for block in blocks(page):
        text = block.text.replace("\\\n", " ")
        found += text.splitlines() if block.language == "sh" else re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_parses(page: str) -> None:
    for line in lines(page):
        check(line, whole=True)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_sentence_has_the_options_that_it_names(page: str) -> None:
    for span in spans(page):
        if re.match(r"(prunec [a-z]|python bench/|make [a-z])", span):
            check(span.replace("…", " "), whole=False)


@pytest.mark.parametrize("page", ["README.md", *DOCS, *HOW_TO])
def test_every_option_in_a_sentence_is_one_of_a_command(page: str) -> None:
    known = set().union(
        *map(options_of, CLI.commands), *(script_options(path.stem) for path in (ROOT / "bench").glob("*.py"))
    )
    named = {span.split()[0].partition("=")[0] for span in spans(page) if span.startswith("--")}
    assert named - known == set()


WRONG = """
prunec compress a --nonsense 3
prunec bench
prunec nonsense
prunec verify a b c
python bench/none.py
python bench/peers.py --nonsense
python prunec/api.py
make none
pip install ".[none]"
rm -r out
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_a_wrong_line_would_be_noticed(line: str) -> None:
    with pytest.raises((AssertionError, KeyError, OSError, TypeError, UsageError)):
        check(line, whole=True)


def test_what_the_shell_does_is_left_to_it() -> None:
    check("prunec list --schema > recipe.json  # said", whole=True)


def test_the_pages_show_commands() -> None:
    assert sum(len(lines(page)) for page in ["README.md", *DOCS, *HOW_TO]) > 20
    assert {line.split()[1] for page in (*DOCS, *HOW_TO) for line in lines(page) if line.startswith("prunec ")} >= {
        "inspect", "compress", "profile", "sensitivity", "evaluate", "bench", "list", "lint", "cast", "quantize",
        "build", "verify", "diff",
    }  # fmt: skip


def test_the_page_of_the_command_line_has_every_exit_code() -> None:
    kinds = [kind for kind in vars(prunec.errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, prunec.errors.PrunecError)} - {1}
    assert [int(row[0]) for row in rows("docs/command-line.md", "| code | the fault is in |")] == sorted(codes | {9})


def test_the_page_of_the_command_line_has_targets_that_parse() -> None:
    found = [row[0].strip("`") for row in rows("docs/command-line.md", "| target | what remains |")]
    assert [str(Target.parse(text)) for text in found] == found
    assert {text.partition(":")[0] for text in found} == {"macs", "params", "size", "memory", "latency"}


def test_the_page_of_the_installation_has_every_extra() -> None:
    assert [row[0].strip("`") for row in rows("docs/install.md", "| extra | engine |")] == extras()

"""The pages of docs/: generated ones are complete, links lead somewhere, commands parse, and the site builds."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import prunec
from prunec.cli.commands import app
from prunec.data.arrays import read
from prunec.grammar.registry import STRATEGIES
from prunec.request.config import CompressRequest
from prunec.request.recipe import merged

ROOT = Path(__file__).resolve().parents[1]
ZENSICAL = shutil.which("zensical", path=str(Path(sys.executable).parent)) or shutil.which("zensical")
FENCE = re.compile(r"^```(?:text|sh|bash|console)?\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def generator() -> Iterator[dict[str, Any]]:
    """The names of docs/generate.py."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield runpy.run_path(str(ROOT / "docs/generate.py"))
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def pages(generator: dict[str, Any]) -> dict[str, str]:
    """Every page by its path."""
    found: dict[str, str] = generator["pages"]()
    return found


def test_every_strategy_has_a_page_and_each_text_a_strategy(generator: dict[str, Any], pages: dict[str, str]) -> None:
    for kind, folder in STRATEGIES.items():
        assert [name for name in folder.names() if f"docs/methods/{kind}/{name}.md" not in pages] == []
        assert sorted(generator["method_pages"].TEXT[kind]) == folder.names()


def test_the_python_and_the_recipe_of_the_tutorial_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    code, recipe = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "toml"))
    assert code
    assert recipe
    monkeypatch.chdir(tmp_path)
    exec(code[1], {})
    (tmp_path / "demo.toml").write_text(recipe[1], encoding="utf-8")
    options = merged(CompressRequest, {}, tmp_path / "demo.toml")
    assert len(read(Path(options.data), ("inputs",))["inputs"]) == 1024
    assert sorted(read(Path(str(options.labelled)), ("inputs", "labels"))) == ["inputs", "labels"]


def test_the_page_on_stability_names_every_public_name() -> None:
    text = (ROOT / "docs/stability.md").read_text(encoding="utf-8")
    assert [name for name in prunec.__all__ if f"`{name}`" not in text and not name.startswith("__")] == []


def test_generated_pages_are_not_committed(generator: dict[str, Any]) -> None:
    found = generator["generated"]()
    assert [path for path in found if (ROOT / path).exists()] == []
    assert [path for path, text in found.items() if " at 0x" in text] == []  # an address of this process


def test_every_page_of_the_folder_is_in_the_navigation(generator: dict[str, Any], pages: dict[str, str]) -> None:
    def paths(entry: Any) -> Iterator[str]:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            if isinstance(inner, str):
                yield inner
            else:
                yield from paths(inner)

    assert sorted(paths(generator["navigation"](pages))) == sorted(pages)


def test_a_link_to_nothing_is_refused(generator: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match=r"docs/a\.md links to nowhere\.py, which is not there"):
        generator["files_of"]({"docs/a.md": "# A\n\n[b](nowhere.py)\n"})


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `prunec` command in the code of a page."""
    inline = re.findall(r"(?<!`)`(prunec [a-z][^`\n]*)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    for line in [*inline, *(line.strip().removeprefix("$ ") for line in blocks)]:
        if line.startswith("prunec ") and "…" not in line and "[OPTIONS]" not in line:
            yield shlex.split(line, comments=True)[1:]


def test_every_command_parses(pages: dict[str, str]) -> None:
    group: Any = typer.main.get_command(app)
    wrong, count = [], 0
    for path, text in pages.items():
        for name, *arguments in commands(text):
            count += 1
            if name not in group.commands or not _parses(group.commands[name], arguments):
                wrong.append(f"{path}: prunec {name} {shlex.join(arguments)}")
    assert wrong == []
    assert count > 60


def _parses(command: Any, words: list[str]) -> bool:
    """True if the command knows all options, up to a pipe or a redirection."""
    end = next((place for place, word in enumerate(words) if word[0] in "|>"), len(words))
    with command.context_class(command) as context:
        try:
            command.make_parser(context).parse_args(words[:end])
        except Exception as error:
            return type(error).__name__ == "BadOptionUsage"  # a sentence names the option without its value
    return True


def test_a_wrong_option_would_be_noticed() -> None:
    group: Any = typer.main.get_command(app)
    text = "Say `prunec list --schema > file`, or\n\n```\n$ prunec inspect net.pt2 --nothing \\\n    --json\n```\n"
    found = list(commands(text))
    assert found == [["list", "--schema", ">", "file"], ["inspect", "net.pt2", "--nothing", "--json"]]
    assert [_parses(group.commands[name], words) for name, *words in found] == [True, False]


@pytest.mark.skipif(ZENSICAL is None, reason="zensical is not installed: pip install -r requirements/docs.txt")
def test_the_site_builds_strictly_and_no_link_in_it_is_broken(generator: dict[str, Any], tmp_path: Path) -> None:
    generator["main"](tmp_path)
    command = [str(ZENSICAL), "build", "--strict", "--clean", "--config-file", str(tmp_path / "zensical.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = runpy.run_path(str(ROOT / "docs/check_links.py"))["Site"](tmp_path / "docs")
    assert len(site.pages) >= len(generator["pages"]())
    assert list(site.broken()) == []
    texts = {path: re.sub(r"<(pre|code)\b.*?</\1>", "", path.read_text(), flags=re.S) for path in site.pages}
    assert [path.name for path, text in texts.items() if re.search(r"\\(&lt;|[|*_\[])", text)] == []


def test_a_broken_link_of_the_site_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#end">B</a><a href="https://example.com">C</a>')
    (tmp_path / "b.html").write_text('<a href="a.html#top">A</a><img src="picture.svg"><a href="#end">B</a>')
    names = runpy.run_path(str(ROOT / "docs/check_links.py"))
    broken = ["a.html links to b.html#end: no such anchor"]
    broken += ["b.html links to #end: no such anchor", "b.html links to picture.svg: no such file"]
    assert list(names["Site"](tmp_path).broken()) == broken
    with pytest.raises(SystemExit, match=r"b\.html#end: no such anchor"):
        names["main"](tmp_path)

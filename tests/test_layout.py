"""The shape of the project: packages, the link, the layer rule, the size of files, and what a wheel holds."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LONGEST = {"prunec": 300, "passes": 300, "bench": 300, "release": 300, "tests": 400}  # lines; lists of cases run on
GROUND = ("errors", "progress", "device", "machine", "user_code")
ROOMS = (
    *("files", "grammar", "ir", "data", "request", "pipeline", "frontend", "channels", "surgery", "cost", "solvers"),
    *("statistics", "selection", "compensation", "allocation", "validation", "deploy", "compare", "lint", "latency"),
    *("report", "outcome", "demo", "evaluate", "api", "cli", "__main__", "passes"),
)  # in the order in which the data walks: a room imports from those before it
MOST_AT_THE_DOOR = 9  # modules directly in prunec/
MOST_WORDS = 15  # of the first sentence of a docstring
MOST_LINES = 50  # of a function
MOST_PARAMETERS = 6  # of a public function; more go into a frozen record
EMPTY = re.compile(r"(What|Those|The same|Of|Whether|Where)\b")  # no opening of a docstring
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files(top: str) -> list[Path]:
    """The Python files below a folder of the checkout, not followed through the link."""
    found: list[Path] = []
    for place, folders, names in os.walk(ROOT / top):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not (Path(place) / name).is_symlink())
        found += [Path(place) / name for name in sorted(names) if name.endswith(".py")]
    return found


def module_of(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("prunec", *parts) if parts[0] == "passes" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module, and every name in a module, that a file imports anywhere in it."""
    inside = module_of(path).split(".")
    package = inside if path.name == "__init__.py" else inside[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def sources(top: str) -> list[Any]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in files(top)]


PASSES = [path for path in files("passes") if path.parent == ROOT / "passes" and path.name != "__init__.py"]
STRATEGIES = [path for path in files("passes") if path.parent != ROOT / "passes" and path.name != "__init__.py"]


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_packages_are_those_on_disk() -> None:
    folders = {path.parent for top in ("prunec", "passes") for path in files(top)}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(
        module_of(each / "__init__.py") for each in folders
    )
    assert [ids(each) for each in folders if not (each / "__init__.py").is_file()] == []


def test_passes_are_linked_into_the_package() -> None:
    link = ROOT / "prunec" / "passes"
    assert link.is_symlink()
    assert os.readlink(link) == "../passes"
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {"prunec.passes": "passes"}


def test_package_data_match_files() -> None:
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package} has no {pattern}"


def test_licence_files_and_readme_exist() -> None:
    for name in [*PROJECT["project"]["license-files"], PROJECT["project"]["readme"]]:
        assert (ROOT / name).is_file(), name
    notice = (ROOT / "prunec/demo/NOTICE").read_text(encoding="utf-8")
    shipped = [path.name for suffix in ("npz", "safetensors") for path in (ROOT / "prunec/demo").glob(f"*.{suffix}")]
    assert [name for name in shipped if name not in notice] == []


def test_importing_the_folder_itself_is_refused() -> None:
    command = [sys.executable, "-c", "import passes"]
    found = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "ImportError: this folder is the package prunec.passes, and was imported as 'passes'" in found.stderr


def reads() -> dict[str, set[str]]:
    """Return the modules that each imports, lazily or for types, except the front door."""
    paths = {module_of(path): path for top in ("prunec", "passes") for path in files(top)}
    del paths["prunec"]
    found = {name: {one for one in imports(path) if one in paths and one != name} for name, path in paths.items()}
    return {name: {one for one in some if not _is_path_to_one_of(one, some)} for name, some in found.items()}


def _is_path_to_one_of(package: str, modules: set[str]) -> bool:
    """Return whether a package is named only because a module in it is imported."""
    return any(one.startswith(f"{package}.") for one in modules)


def floor_of(module: str) -> int:
    """The place of a module's room, from the ground up. Raises ValueError for a room that has none."""
    room = module.split(".")[1]
    return 0 if room in GROUND else 1 + ROOMS.index(room)


def test_a_room_imports_only_from_rooms_below_it() -> None:
    pairs = [(module, other) for module, others in reads().items() for other in others]
    assert [pair for pair in pairs if floor_of(pair[1]) > floor_of(pair[0])] == []


def test_no_imports_go_in_a_circle() -> None:
    graphlib.TopologicalSorter(reads()).prepare()  # raises CycleError, which names the circle


def test_few_modules_stand_at_the_door() -> None:
    assert len(list((ROOT / "prunec").glob("*.py"))) <= MOST_AT_THE_DOOR


def test_the_order_of_rooms_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name, text in {
        "__init__": "",
        "ir/a": "def f():\n    from ..cost import b",
        "cost/b": "from ..ir import a",
    }.items():
        path = tmp_path / "prunec" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(AssertionError):
        test_a_room_imports_only_from_rooms_below_it()
    with pytest.raises(graphlib.CycleError):
        test_no_imports_go_in_a_circle()


@pytest.mark.parametrize("path", sources("prunec"))
def test_the_engine_knows_no_pass(path: Path) -> None:
    assert [name for name in imports(path) if re.match(r"prunec\.passes\b", name)] == []
    if path.name == "registry.py":
        return
    texts = [
        node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
    ]
    assert [text for text in texts if isinstance(text, str) and re.fullmatch(r"prunec\.passes[\w.]*", text)] == []


@pytest.mark.parametrize("path", PASSES + STRATEGIES, ids=ids)
def test_a_pass_imports_no_other_pass_and_a_strategy_no_pass(path: Path) -> None:
    assert [name for name in imports(path) if re.match(r"prunec\.passes\b", name)] == []


def test_the_layer_rule_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "passes" / "imagined.py"
    path.parent.mkdir()
    path.write_text(
        "from . import slice\nfrom .selectors.obs import Obs\ndef f():\n    import prunec.passes.analyse as a\n"
    )
    assert {name for name in imports(path) if name.count(".") > 1} == {
        "prunec.passes.slice",
        "prunec.passes.selectors.obs",
        "prunec.passes.selectors.obs.Obs",
        "prunec.passes.analyse",
    }


@pytest.mark.parametrize("path", PASSES + STRATEGIES, ids=ids)
def test_one_public_class_a_file_and_it_explains_itself(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    assert len(public) == 1, [node.name for node in public]
    assert ast.get_docstring(tree)
    assert ast.get_docstring(public[0])


@pytest.mark.parametrize("top", LONGEST)
def test_no_file_is_called_utils(top: str) -> None:
    assert [
        ids(path) for path in files(top) if path.stem.strip("_") in ("utils", "util", "helpers", "misc", "common")
    ] == []


@pytest.mark.parametrize("top", LONGEST)
def test_files_stay_short(top: str) -> None:
    lengths = {ids(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files(top)}
    assert {name: length for name, length in lengths.items() if length > LONGEST[top]} == {}


@pytest.mark.parametrize("path", [*sources("prunec"), *sources("passes")])
def test_every_file_opens_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("top", LONGEST)
def test_docstrings_open_with_a_short_sentence_that_says_what_is_done(top: str) -> None:
    """Check fields too: a word that asks a question, or refers back, says nothing."""
    openings = [(ids(path), sentence) for path in files(top) for sentence in first_sentences(path)]
    assert [each for each in openings if EMPTY.match(each[1])] == []
    assert [each for each in openings if len(each[1].split()) > MOST_WORDS] == []


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield each function of a file, methods and nested ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of the parameters, without self and cls."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize("top", ["prunec", "passes"])
def test_functions_are_short_and_take_few_parameters(top: str) -> None:
    found = [(f"{ids(path)}:{one.name}", one) for path in files(top) for one in functions(path)]
    assert [name for name, one in found if (one.end_lineno or 0) - one.lineno >= MOST_LINES] == []
    public = [(name, one) for name, one in found if not one.name.startswith("_")]
    assert [name for name, one in public if len(parameters(one)) > MOST_PARAMETERS] == []


def test_a_long_function_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "passes").mkdir()
    for text in ("def f():\n" + "    pass\n" * 50, "class A:\n    def f(self, a, b, c, /, d, e, *, f, g): ..."):
        (tmp_path / "passes" / "imagined.py").write_text(text)
        with pytest.raises(AssertionError, match=r"passes/imagined\.py:f"):
            test_functions_are_short_and_take_few_parameters("passes")


def first_sentences(path: Path) -> Iterator[str]:
    """Yield the first sentence of each docstring, of fields too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield re.split(r"(?<=[.!?:])\s|\n\n", value.value.strip(), maxsplit=1)[0]


def test_a_long_opening_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "imagined.py"
    path.write_text(
        'def f():\n    """Return one. Two."""\n\nclass A:\n    b: int\n    """Whether it is.\n\n    More."""\n'
    )
    assert list(first_sentences(path)) == ["Return one.", "Whether it is."]


def test_the_page_of_passes_names_what_is_shipped() -> None:
    page = (ROOT / "docs/passes.md").read_text(encoding="utf-8")
    shipped = [path.stem.replace("_", "-") for path in PASSES + STRATEGIES]
    assert [name for name in shipped if f"`{name}`" not in page] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built, without the network, from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("wheel") / "prunec"
    copy.mkdir()
    for top in ("prunec", "passes"):
        shutil.copytree(ROOT / top, copy / top, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(copy / "dist" / done.stdout.split()[-1])


def test_a_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    modules = {path.relative_to(ROOT).as_posix() for path in files("prunec")}
    passes = {f"prunec/{path.relative_to(ROOT).as_posix()}" for path in files("passes")}
    data = {
        f"prunec/demo/{name}" for name in ("calibration.npz", "test.npz", "weights.safetensors", "demo.json", "NOTICE")
    }
    pages = {f"prunec/report/{name}.html" for name in ("page", "compression")}
    assert set(names) == modules | passes | data | {"prunec/py.typed", *pages}
    assert len(names) == len(set(names))


def test_a_wheel_says_who_may_use_it_and_how_it_is_started(wheel: zipfile.ZipFile) -> None:
    info = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/prunec/demo/NOTICE"} <= set(info)
    assert b"prunec = prunec.cli:main" in wheel.read(info["entry_points.txt"])
    assert b"License-Expression: Apache-2.0" in wheel.read(info["METADATA"])
    assert b"Provides-Extra: cpu" in wheel.read(info["METADATA"])


def test_the_demo_is_small(wheel: zipfile.ZipFile) -> None:
    sizes = {
        Path(item.filename).name: item.file_size
        for item in wheel.infolist()
        if item.filename.startswith("prunec/demo/")
    }
    assert sizes["weights.safetensors"] < 1.5e6
    assert sum(sizes.values()) < 3e6

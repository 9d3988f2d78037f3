"""One record of options: each is documented, and has one name in Python, on the command line, in recipes and schema."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import prunec
from prunec.api import Keywords
from prunec.cli import app
from prunec.cli.bench_options import Bench
from prunec.cli.build import Build
from prunec.cli.cast import Cast
from prunec.cli.catalogue import Catalogue
from prunec.cli.compress import Files, Watching, Writing
from prunec.cli.compress import compress as command
from prunec.cli.demo import Demo
from prunec.cli.diff import Diff
from prunec.cli.evaluate import Evaluate
from prunec.cli.export import Export
from prunec.cli.flags import Checks, Given, flattened
from prunec.cli.init import Init
from prunec.cli.inspect import Inspect
from prunec.cli.lint import FailOn, Lint
from prunec.cli.profile import Profile
from prunec.cli.quantize import Quantize
from prunec.cli.run import Run
from prunec.cli.sensitivity import Sensitivity
from prunec.cli.verify import Verify
from prunec.errors import SpecError
from prunec.frontend.load import Network
from prunec.outcome.calibrated import Session
from prunec.pipeline.method import STRATEGY
from prunec.request.config import CompressConfig, CompressRequest, Sources
from prunec.request.keywords import keywords_of
from prunec.request.options import optional, options_of
from prunec.request.recipe import merged, tables_of
from prunec.request.schema import schema_of
from prunec.request.values import whole

NET = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
RECORDS = (
    *(CompressConfig, Sources, CompressRequest, Session, Keywords, Files, Writing, Watching, Checks),
    *(Bench, Build, Cast, Catalogue, Demo, Diff, Evaluate, Export, Inspect, Lint, Profile, Quantize, Run, Sensitivity),
    *(Verify, Init),
)
NAMES = {one.name for one in options_of(CompressConfig)}
CHEAP = "analyse,calibrate,select,sensitivity,allocate,slice"


@dataclass(frozen=True, kw_only=True)
class WiderConfig(CompressConfig):
    """Stands for `CompressConfig` with one field more."""

    step: int = optional(1, "Kernel step, in pixels.", whole(1), metavar="N")


@dataclass(frozen=True, kw_only=True)
class WiderKeywords(Session, WiderConfig):
    pass


@dataclass(frozen=True, kw_only=True)
class WiderRequest(WiderConfig, CompressRequest):
    pass


@keywords_of(WiderKeywords, Session)
def step_of(model: Network, calibration: Any, config: Any, session: Session) -> int:
    """Return the step."""
    return int(config.step)


def flags(function: Any) -> Iterator[str]:
    """List all options of a command."""
    program = typer.Typer()
    program.command()(function)
    for one in typer.main.get_command(program).params:
        yield from one.opts


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_each_option_is_documented(record: type) -> None:
    for one in options_of(record):
        assert one.option.help.strip(), one.name
        assert one.option.kind is None or one.option.kind.given in (bool, FailOn) or one.option.metavar, one.name


def test_an_option_has_one_name_at_every_door() -> None:
    schema = schema_of()["properties"]
    assert inspect.signature(prunec.compress).parameters.keys() >= NAMES
    assert command.__annotations__.keys() >= NAMES
    assert {f"--{name.replace('_', '-')}" for name in NAMES} <= set(flags(command))
    assert {key for keys in tables_of(CompressRequest).values() for key in keys} >= NAMES
    assert {key for table in schema.values() for key in table["properties"]} >= NAMES


def test_schema_and_recipe_have_the_same_keys() -> None:
    assert {table: set(one["properties"]) for table, one in schema_of()["properties"].items()} == {
        table: set(keys) for table, keys in tables_of(CompressRequest).items()
    }


def test_defaults_are_the_same_at_every_door() -> None:
    request = merged(CompressRequest, {"model": "nets.py:make", "data": "x.npz", "target": "macs:0.5"})
    for name, one in inspect.signature(prunec.compress).parameters.items():
        if name in NAMES - {"target"}:
            assert one.default == getattr(request, name), name
    assert STRATEGY.keys() == {"selector", "allocator", "compensator", "decomposer"}


def test_a_new_field_appears_at_every_door(tmp_path: Path) -> None:
    assert step_of(NET, IMAGES, target="macs:0.5", step=3) == 3
    assert step_of(NET, IMAGES, WiderConfig(target="macs:0.5", step=4)) == 4
    assert "step: Kernel step, in pixels. Default: 1." in str(step_of.__doc__)
    (tmp_path / "net.toml").write_text('[model]\nsource = "a"\n[data]\nsource = "b"\n[compress]\nstep = 5\n')
    assert merged(WiderRequest, {"target": "macs:0.5"}, tmp_path / "net.toml").step == 5
    assert merged(WiderRequest, {"target": "macs:0.5", "step": 6}, tmp_path / "net.toml").step == 6
    with pytest.raises(SpecError, match="--step: expected a whole number of at least 1, not 0"):
        merged(WiderRequest, {"step": 0})
    found = schema_of(WiderRequest)["properties"]["compress"]["properties"]["step"]
    assert found == {"type": "integer", "minimum": 1, "description": "Kernel step, in pixels.", "default": 1}


def test_a_new_field_appears_on_the_command_line() -> None:
    @flattened(Given(WiderRequest), Checks)
    def print_given(given: Mapping[str, object], checks: Checks) -> None:
        """Print what is given."""
        typer.echo(json.dumps([given, dataclasses.asdict(checks)]))

    program = typer.Typer()
    program.command()(print_given)
    done = CliRunner().invoke(
        program, ["nets.py:make", "--step", "7", "--seed", "0", "--freeze", "a", "--freeze", "b", "--debug"]
    )
    assert json.loads(done.output) == [
        {"model": "nets.py:make", "freeze": ["a", "b"], "seed": 0, "step": 7},
        {"no_verify": False, "debug": True},
    ]
    assert "Kernel step, in pixels." in CliRunner(env={"COLUMNS": "160"}).invoke(program, ["--help"]).output


def test_a_config_gives_what_its_keywords_give() -> None:
    options: dict[str, Any] = {"target": "macs:0.5", "pipeline": CHEAP, "seed": 3, "limits": {"0": 0.5}}
    with_keywords = prunec.compress(NET, IMAGES, **options)
    with_config = prunec.compress(NET, IMAGES, config=CompressConfig(**options), instruments=())
    assert with_config.plan.to_json() == with_keywords.plan.to_json()
    assert with_config.report["constraints"] == with_keywords.report["constraints"]


def test_a_config_beside_an_option_is_refused_with_both_names() -> None:
    with pytest.raises(SpecError, match="seed= has no effect beside config=, which holds all options"):
        prunec.compress(NET, IMAGES, CompressConfig(target="macs:0.5"), seed=0)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ((), {"target": "macs:0.5", "sede": 1}, "unexpected keyword argument 'sede'"),
        ((), {}, "missing a required (keyword-only )?argument: 'target'"),
        (("macs:0.5",), {}, "config is a CompressConfig, not 'macs:0.5'"),
    ],
)
def test_a_wrong_keyword_is_a_type_error(args: tuple[Any, ...], options: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        prunec.compress(NET, IMAGES, *args, **options)


def test_limit_and_limits_are_one_key(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text('[compress]\ntarget = "macs:0.5"\nlimit = {"a" = 0.5}\n')
    given = {"model": "nets.py:make", "data": "x.npz"}
    assert merged(CompressRequest, given, tmp_path / "net.toml").limits == {"a": 0.5}
    (tmp_path / "net.toml").write_text('[compress]\nlimit = {"a" = 0.5}\nlimits = {"a" = 0.5}\n')
    with pytest.raises(SpecError, match=r"has limit and limits, which are one: leave out one"):
        merged(CompressRequest, given, tmp_path / "net.toml")
    with pytest.raises(SpecError, match=r"--limit: \['a'\] is not PATTERN=SHARE"):
        merged(CompressRequest, {**given, "limits": ["a"]})


def test_the_command_line_prints_the_schema() -> None:
    done = CliRunner().invoke(app, ["list", "--schema"])
    assert json.loads(done.output) == schema_of()

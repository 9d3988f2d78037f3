from __future__ import annotations

from pathlib import Path

import pytest

from prunec.errors import SpecError
from prunec.request.config import CompressRequest
from prunec.request.recipe import merged, read_recipe

RECIPE = """
[model]
source = "nets.py:make"
weights = "net.safetensors"
input_shape = [3, 8, 8]

[data]
source = "train.npz"
images = 32
classes = [0, 217]
preprocess = { mean = [0.5, 0.5, 0.5], scale = 255 }

[compress]
target = "macs:0.7"
pipeline = ["fold-bn", "analyse"]
seed = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def test_a_recipe_fills_the_options_and_the_defaults_fill_the_rest(recipe: Path) -> None:
    options = merged(CompressRequest, {}, recipe)
    assert (options.model, options.weights, options.input_shape) == ("nets.py:make", Path("net.safetensors"), (3, 8, 8))
    assert (options.data, options.images, options.classes) == ("train.npz", 32, (0, 217))
    assert options.preprocess == {"mean": [0.5, 0.5, 0.5], "scale": 255}
    assert (options.target, options.pipeline, options.seed) == ("macs:0.7", "fold-bn,analyse", 3)
    assert (options.selector, options.batch, options.threads) == (None, None, None)


def test_the_command_line_wins(recipe: Path) -> None:
    given = {"target": "macs:0.5", "seed": None, "input_shape": "1x28x28", "classes": "3, 4", "weights": Path("other")}
    options = merged(CompressRequest, given, recipe)
    assert (options.target, options.seed, options.input_shape) == ("macs:0.5", 3, (1, 28, 28))
    assert (options.classes, options.weights) == ((3, 4), Path("other"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modle]\n", r"table 'modle' that prunec does not know; did you mean model"),
        ("[compress]\ntargte = 'macs:0.5'", r"\[compress\] in .* has a key 'targte'.*did you mean target"),
        ("[data]\nxyzzy = 1", "it may have: source, preprocess, images, labelled, classes"),
        ("model = 'nets.py:make'", r"write \[model\], and its keys below"),
        ("[compress]\nseed = 'one'", r"seed in \[compress\] of .*: expected a whole number of at least 0, not 'one'"),
        ("[compress]\nbatch = true", "batch .* whole number of at least 1, not True"),
        ("[data]\nimages = 0", "images .* at least 1, not 0"),
        ("[model]\ninput_shape = '3xbig'", "'3xbig' is not a shape such as 3x224x224"),
        ("[data]\nclasses = 'cat'", "'cat' is not a list of classes such as 0,217,482"),
        ("[model]\nsource = 5", "expected text, not 5"),
        ("[model\n", "is not TOML"),
    ],
)
def test_what_a_recipe_must_not_say(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SpecError, match=said):
        read_recipe(tmp_path / "bad.toml")


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_several_targets(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[compress]\ntarget = ["macs:0.5", "size:2MB"]\n')
    given = {"model": "nets.py:make", "data": "train.npz"}
    assert merged(CompressRequest, given, tmp_path / "recipe.toml").target == "macs:0.5,size:2MB"
    assert merged(CompressRequest, {**given, "target": ["macs:0.5", "params:0.4"]}).target == "macs:0.5,params:0.4"


@pytest.mark.parametrize("missing", ["model", "data", "target"])
def test_what_must_be_said_somewhere(missing: str) -> None:
    given = {"model": "nets.py:make", "data": "train.npz", "target": "macs:0.5", missing: None}
    with pytest.raises(SpecError, match="nothing says"):
        merged(CompressRequest, given)

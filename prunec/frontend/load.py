"""Load a network by name: ``nets.py:resnet20``, ``torchvision:resnet50``, ``net.pt2``, ``net.onnx``.

Nothing is downloaded, and no pickled code is read: weights come from a local file, as tensors only.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError, kind_of, near
from ..ir.digest import state_digest
from ..user_code import imported
from .lazy_layers import has_lazy
from .pt2_file import load_exported
from .weights_file import JIT, JIT_ADVICE, weights_alone, weights_for

_FORMS = "file.py:factory, package.module:factory, torchvision:resnet50, timm:resnet18, a .pt2 or an .onnx file"


Network = nn.Module | torch.export.ExportedProgram | str | Path  # a path of a .onnx or .pt2 file, or another source


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network in eval mode, with its source."""

    model: nn.Module | torch.export.ExportedProgram
    name: str
    source: str
    input_size_hint: tuple[int, ...] | None
    """Shape of one input without the batch, if known: (3, 224, 224)."""

    @cached_property
    def digest(self) -> str:
        """Hexadecimal ``state_digest`` of the model, whose lazy layers have weights."""
        return state_digest(self.model)


def load_model(source: str, weights: Path | None = None) -> LoadedModel:
    """Load the network of ``source``, one of the forms above, with ``weights``.

    A factory is called without arguments under seed 0, so that a network without weights has one digest too; a network
    in its place is taken as it is. Raises CaptureError for a fault of the source, the factory or the weights.
    """
    prefix, colon, name = source.partition(":")
    if not colon or source.endswith(".onnx"):
        return _onnx(source, weights) if source.endswith(".onnx") else _exported(source, weights)
    hint = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if prefix == "torchvision":
            model, hint = _torchvision(name)
        elif prefix == "timm":
            model = _timm(name)
        else:
            model, name = _factory(source), source.rpartition(":")[2]
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(f"{source} {JIT}: {JIT_ADVICE}")
    if weights is not None:
        load_weights(model, weights)
    return _digested(LoadedModel(model.eval(), name, source, hint or _declared_size(model)))


def network_of(model: Network) -> nn.Module | torch.export.ExportedProgram:
    """Return the network itself, loaded where `model` is its source. Raises CaptureError as `load_model`."""
    return load_model(str(model)).model if isinstance(model, (str, Path)) else model


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a ``.safetensors`` file, or a ``torch.save`` file of tensors, into ``model``.

    Raises CaptureError where the file cannot be read, or where a name or a shape does not fit
    (`prunec.frontend.weights_file`).
    """
    model.load_state_dict(weights_for(model, path), strict=False)


def _factory(source: str) -> nn.Module:
    with imported(source, CaptureError) as found:
        if isinstance(found, nn.Module):
            return found
        if not callable(found):
            raise CaptureError(f"{source} is {kind_of(found)}, neither a network nor a function that builds one")
        try:
            model = found()
        except (Exception, SystemExit) as error:
            advice = "a factory is called without arguments, and must return the network"
            raise CaptureError(f"{source} raised {type(error).__name__}: {error}; {advice}") from error
    if not isinstance(model, nn.Module):
        raise CaptureError(f"{source} returned {kind_of(model)}, not a torch.nn.Module: return the network itself")
    return model


def _torchvision(name: str) -> tuple[nn.Module, tuple[int, ...] | None]:
    models = _zoo("torchvision", "torchvision.models")
    if "@" in name:
        plain = name.partition("@")[0]
        raise CaptureError(
            f"torchvision:{name} asks for a download, and prunec never downloads: torchvision:{plain} --weights FILE"
        )
    _known(name, models.list_models(), "torchvision")
    inner = inspect.signature(models.get_model_builder(name)).parameters
    model: nn.Module = models.get_model(
        name, weights=None, **({"weights_backbone": None} if "weights_backbone" in inner else {})
    )
    recipe = getattr(getattr(models.get_model_weights(name), "DEFAULT", None), "transforms", None)
    side = getattr(recipe, "keywords", {}).get("crop_size")
    return model, (3, side, side) if isinstance(side, int) else None


def _timm(name: str) -> nn.Module:
    timm = _zoo("timm", "timm")
    if ":" in name:
        raise CaptureError(
            f"timm:{name} asks for a download, and prunec never downloads: name an architecture, and --weights FILE"
        )
    _known(name.partition(".")[0], timm.list_models(), "timm")
    try:
        model: nn.Module = timm.create_model(name, pretrained=False)
    except Exception as error:
        raise CaptureError(f"timm cannot build {name}: {type(error).__name__}: {error}") from error
    return model


def _zoo(package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CaptureError(f"{error.name} is not installed: pip install {package}") from error
    except Exception as error:
        advice = f"it was built for another torch than {torch.__version__}: install the matching {package}"
        raise CaptureError(
            f"{package} cannot be imported ({type(error).__name__}: {error}); perhaps {advice}"
        ) from error


def _known(name: str, names: list[str], package: str) -> None:
    if name in names:
        return
    raise CaptureError(f"{package} has no model {name!r}: {near(name, names, f'see {package} and its list_models()')}")


def _onnx(source: str, weights: Path | None) -> LoadedModel:
    from .onnx_import.network import read_onnx

    path = _own_weights(source, weights)
    network = read_onnx(path)
    sizes = network.sizes[0][1:] if network.sizes else ()
    hint = tuple(size for size in sizes if size is not None)
    return _digested(LoadedModel(network, path.stem, source, hint if hint and len(hint) == len(sizes) else None))


def _own_weights(source: str, weights: Path | None) -> Path:
    """Return the path of a file that carries its weights. Raises CaptureError where it is missing."""
    path = Path(source)
    if not path.is_file():
        raise CaptureError(f"there is no file {source}: check the path")
    if weights is not None:
        raise CaptureError(f"{source} carries its own weights: leave out --weights {weights}")
    return path


def _exported(source: str, weights: Path | None) -> LoadedModel:
    path = Path(source)
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
        raise weights_alone(path)
    if path.suffix != ".pt2":
        raise CaptureError(f"{source!r} is not a model that prunec can find: expected {_FORMS}")
    program = load_exported(_own_weights(source, weights))
    example = next(iter(program.example_inputs[0]), None) if program.example_inputs else None
    hint = tuple(example.shape[1:]) if isinstance(example, Tensor) else None
    return _digested(LoadedModel(program, path.stem, source, hint))


def _digested(loaded: LoadedModel) -> LoadedModel:
    """Return `loaded` with its digest computed, before code that may write into the model runs."""
    if isinstance(loaded.model, torch.export.ExportedProgram) or not has_lazy(loaded.model):
        loaded.digest  # noqa: B018
    return loaded


def _declared_size(model: nn.Module) -> tuple[int, ...] | None:
    declared = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    size = declared.get("input_size") if isinstance(declared, Mapping) else None
    return tuple(size) if size else None

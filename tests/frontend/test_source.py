from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import SHARED, needs_shared
from safetensors.torch import save_file
from torch import Tensor, nn

from prunec.errors import CaptureError
from prunec.frontend.load import load_model
from prunec.ir.digest import state_digest

NETS = """
import torch
from torch import nn
import helper_of_nets

WIDTH = 4

def make():
    return nn.Sequential(nn.Conv2d(3, helper_of_nets.WIDTH, 3), nn.BatchNorm2d(4), nn.Dropout())

class Needs(nn.Module):
    def __init__(self, width):
        super().__init__()

def broken():
    raise KeyError("no such layer")

def leaves():
    raise SystemExit(2)

def returns_none():
    pass

def returns_state():
    return make().state_dict()

instance = make()
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "helper_of_nets.py").write_text("WIDTH = 4\n")
    return str(tmp_path / "nets.py")


def state(nets: str) -> dict[str, Tensor]:
    model = load_model(f"{nets}:make").model
    assert isinstance(model, nn.Module)
    return {key: value + 1 for key, value in model.state_dict().items()}


def test_a_factory_in_a_file(nets: str) -> None:
    path, before = list(sys.path), torch.get_rng_state()
    loaded = load_model(f"{nets}:make")
    assert isinstance(loaded.model, nn.Sequential)
    assert not loaded.model[2].training
    assert (loaded.name, loaded.source, loaded.input_size_hint) == ("make", f"{nets}:make", None)
    assert sys.path == path
    assert "nets" not in sys.modules
    assert torch.equal(torch.get_rng_state(), before)
    assert load_model(f"{nets}:make").digest == loaded.digest == state_digest(loaded.model)


def test_a_network_in_place_of_a_factory(nets: str) -> None:
    assert isinstance(load_model(f"{nets}:instance").model, nn.Sequential)


def test_a_factory_in_a_module(nets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(nets).parent)
    (Path(nets).parent / "package_of_nets").mkdir()
    (Path(nets).parent / "package_of_nets" / "inner.py").write_text(NETS)
    assert load_model("package_of_nets.inner:make").name == "make"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "raised KeyError: 'no such layer'"),
        ("Needs", "raised TypeError: .*width.*without arguments"),
        ("leaves", "raised SystemExit: 2"),
        ("returns_none", "returned nothing, not a torch.nn.Module"),
        ("returns_state", "returned an OrderedDict"),
        ("WIDTH", "is an int, neither"),
        ("makke", "did you mean make"),
        ("zzz", "defines no 'zzz'"),
        ("", "expected file.py:name"),
    ],
)
def test_bad_factories_are_explained(nets: str, name: str, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        load_model(f"{nets}:{name}")


def test_the_original_exception_is_kept(nets: str) -> None:
    with pytest.raises(CaptureError) as caught:
        load_model(f"{nets}:broken")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet50", "expected file.py:factory"),
        ("nets.py", "expected file.py:factory"),
        ("net.onnx", "no file net.onnx"),
        ("absent.pt2", "no file absent.pt2"),
        ("weights.pth", "holds weights only"),
        ("absent.py:make", "no file absent.py"),
        (":make", "names nothing"),
        ("no_such_package_of_mine.nets:make", "no module named 'no_such_package_of_mine'"),
        ("json.no_such_module:make", "no module named 'json.no_such_module'"),
    ],
)
def test_bad_sources_are_explained(source: str, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        load_model(source)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_dependency", "cannot be imported: ModuleNotFoundError"),
        ("def (", "SyntaxError"),
        ("1 / 0", "Zero"),
    ],
)
def test_a_file_that_does_not_import_is_explained(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "nets.py").write_text(code)
    with pytest.raises(CaptureError, match=message):
        load_model(f"{tmp_path / 'nets.py'}:make")
    assert not [name for name in sys.modules if name.startswith("_prunec_nets") and sys.modules[name] is None]


@pytest.mark.parametrize("form", ["safetensors", "plain", "state_dict", "model", "module."])
def test_weights_in_every_form(nets: str, tmp_path: Path, form: str) -> None:
    wanted, path = state(nets), tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(wanted, path)
    elif form == "module.":
        torch.save({f"module.{key}": value for key, value in wanted.items()}, path)
    else:
        torch.save(wanted if form == "plain" else {form: wanted, "epoch": 3}, path)
    loaded = load_model(f"{nets}:make", path)
    assert isinstance(loaded.model, nn.Module)
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.model.state_dict().items())
    assert loaded.digest != load_model(f"{nets}:make").digest


def test_counters_of_batches_may_be_missing(nets: str, tmp_path: Path) -> None:
    wanted = {key: value for key, value in state(nets).items() if "num_batches" not in key}
    save_file(wanted, tmp_path / "w.safetensors")
    assert load_model(f"{nets}:make", tmp_path / "w.safetensors").digest


def test_weights_that_do_not_fit_are_named(nets: str, tmp_path: Path) -> None:
    given = {f"extra{index}": torch.zeros(1) for index in range(5)} | {"0.weight": torch.zeros(8, 3, 3, 3)}
    save_file(given, tmp_path / "w.safetensors")
    with pytest.raises(CaptureError) as caught:
        load_model(f"{nets}:make", tmp_path / "w.safetensors")
    text = str(caught.value)
    assert "5 missing: 0.bias, 1.weight, 1.bias and 2 more" in text
    assert "5 unexpected: extra0, extra1, extra2 and 2 more" in text
    assert "1 of another shape: 0.weight ([8, 3, 3, 3] in the file, [4, 3, 3, 3] in the network)" in text


class Pickled:
    pass


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_weights_are_explained(nets: str, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    with pytest.raises(CaptureError, match="no weights file"):
        load_model(f"{nets}:make", path)
    path.write_bytes(b"garbage")
    with pytest.raises(CaptureError, match="cannot be read"):
        load_model(f"{nets}:make", path)


def test_pickled_code_is_never_run(nets: str, tmp_path: Path) -> None:
    torch.save(Pickled(), tmp_path / "w.pt")
    with pytest.raises(CaptureError, match="prunec reads tensors only, since"):
        load_model(f"{nets}:make", tmp_path / "w.pt")
    torch.save([torch.zeros(1)], tmp_path / "w.pt")
    with pytest.raises(CaptureError, match="holds a list, not a state dict"):
        load_model(f"{nets}:make", tmp_path / "w.pt")


def test_an_exported_program(tmp_path: Path) -> None:
    net, path = nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 8, 8),)), path)
    loaded = load_model(str(path))
    assert isinstance(loaded.model, torch.export.ExportedProgram)
    assert (loaded.name, loaded.input_size_hint, loaded.digest) == ("net", (3, 8, 8), state_digest(net))
    with pytest.raises(CaptureError, match="its own weights"):
        load_model(str(path), path)
    path.write_bytes(b"garbage")
    with pytest.raises(CaptureError, match="cannot be loaded"):
        load_model(str(path))


def test_the_digest_sees_names_shapes_dtypes_and_bytes() -> None:
    def digest(name: str, value: Tensor) -> str:
        module = nn.Module()
        module.register_buffer(name, value)
        return state_digest(module)

    zero = torch.zeros(4)
    variants = [("a", zero), ("b", zero), ("a", zero.view(2, 2)), ("a", zero.int()), ("a", zero + 1), ("a", zero[0])]
    assert len({digest(name, value) for name, value in variants}) == len(variants)
    assert digest("a", torch.arange(6.0).view(2, 3).T) == digest("a", torch.arange(6.0).view(2, 3).T.contiguous())
    assert digest("a", zero.bfloat16()) != digest("a", zero.half())


def test_torchvision() -> None:
    pytest.importorskip("torchvision")
    loaded = load_model("torchvision:squeezenet1_1")
    assert (loaded.name, loaded.input_size_hint) == ("squeezenet1_1", (3, 224, 224))
    with pytest.raises(CaptureError, match="never downloads"):
        load_model("torchvision:resnet50@DEFAULT")
    with pytest.raises(CaptureError, match=r"did you mean .*resnet50"):
        load_model("torchvision:resnet5O")


def test_torchvision_downloads_no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision._internally_replaced_utils.load_state_dict_from_url", refuse)
    assert load_model("torchvision:lraspp_mobilenet_v3_large").name == "lraspp_mobilenet_v3_large"


def test_timm() -> None:
    pytest.importorskip("timm")
    loaded = load_model("timm:test_resnet")
    assert loaded.input_size_hint == (3, 160, 160)
    assert load_model("timm:test_resnet.r160_in1k").digest == loaded.digest
    with pytest.raises(CaptureError, match=r"did you mean .*resnet18"):
        load_model("timm:resnet_18")
    with pytest.raises(CaptureError, match="never downloads"):
        load_model("timm:hf-hub:someone/something")


@needs_shared
@pytest.mark.parametrize("net", ["SqueezeNet11:squeezenet11", "ResNet50C4:resnet50_c4", "MobileNetV1:mobilenet_v1_075"])
def test_shared_weights_fit_their_network(net: str) -> None:
    factory, _, name = net.partition(":")
    loaded = load_model(f"{SHARED / 'nets.py'}:{factory}", SHARED / "models" / f"{name}.safetensors")
    assert isinstance(loaded.model, nn.Module)
    assert not loaded.model.training
